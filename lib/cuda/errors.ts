// Errors of the CUDA core as the package's own.

import { RvqError, type RvqErrorCode } from "../errors.js";

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

/** Whether the device cannot do it, now or ever, where the processor could. */
export function isLoss(error: unknown): boolean {
  return error instanceof RvqError && (error.code === "OUT_OF_MEMORY" || error.code === "DEVICE_LOST");
}

function translated(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof RvqError) return error;
  const { code } = error as { readonly code?: unknown };
  const known = codes.find((candidate) => candidate === code);
  return known === undefined ? error : new RvqError(known, error.message, { cause: error });
}
