// The error for a file or folder that the system will not read or write.

import { RvqError } from "../errors.js";

/** `path: cannot be read: ENOENT: …` as `RvqError` IO. */
export function ioError(path: string, what: string, cause: unknown): RvqError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new RvqError("IO", `${path}: cannot be ${what}: ${reason}`, { cause });
}
