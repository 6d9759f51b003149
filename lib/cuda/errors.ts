// Errors of the CUDA core as the package's own.

import { RvqError, type RvqErrorCode } from "../errors.js";
import type { DeviceMemory } from "../resident.js";
import type { CudaAddon } from "./addon.js";

const codes: readonly RvqErrorCode[] = ["OUT_OF_MEMORY", "DEVICE_LOST", "CUDA"];

/** What `run` returns or, where the device failed, an RvqError for it; other errors stay as they are. */
export async function asRvqError<Result>(run: () => Promise<Result>): Promise<Result> {
  try {
    return await run();
  } catch (error) {
    throw translated(error);
  }
}

/** The same for calls that do not wait. */
export function asRvqErrorSync<Result>(run: () => Result): Result {
  try {
    return run();
  } catch (error) {
    throw translated(error);
  }
}

/** The class, but for the errors of its copies: they are the package's own. */
export function withRvqErrors(Memory: CudaAddon["CudaMemory"]): CudaAddon["CudaMemory"] {
  return class extends Memory {
    override upload(copy: Parameters<DeviceMemory["upload"]>[0]): Promise<void> {
      return asRvqError(async () => super.upload(copy));
    }

    override download(copy: Parameters<DeviceMemory["download"]>[0]): Promise<void> {
      return asRvqError(async () => super.download(copy));
    }
  };
}

function translated(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof RvqError) return error;
  const { code } = error as { readonly code?: unknown };
  const known = codes.find((candidate) => candidate === code);
  return known === undefined ? error : new RvqError(known, error.message, { cause: error });
}
