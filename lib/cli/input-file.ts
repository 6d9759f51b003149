// Files of other programs that a command reads whole: arrays and tensors, with the path in front of what is wrong with them.

import { readRegularFile } from "../audio/regular-file.js";
import { RvqError, readNpy, Safetensors, type Tensor } from "../index.js";

export async function readNpyFile(path: string, signal: AbortSignal): Promise<Tensor> {
  return parse(path, readNpy, await readBytes(path, "a .npy file", signal));
}

export async function readSafetensorsFile(path: string, signal: AbortSignal): Promise<Safetensors> {
  return parse(path, Safetensors.fromBytes, await readBytes(path, "a .safetensors file", signal));
}

function readBytes(path: string, expected: string, signal: AbortSignal): Promise<Uint8Array> {
  return readRegularFile(path, { expected, code: "INVALID_MODEL", checkHead: () => {}, signal });
}

function parse<Result>(path: string, read: (bytes: Uint8Array) => Result, bytes: Uint8Array): Result {
  try {
    return read(bytes);
  } catch (cause) {
    if (cause instanceof RvqError) throw new RvqError(cause.code, `${path}: ${cause.message}`, { cause });
    throw cause;
  }
}
