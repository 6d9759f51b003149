// Reading a file whole, after a look at what it is: pipes, devices and files of another kind are not read to their end.

import { open, stat } from "node:fs/promises";
import { RvqError, type RvqErrorCode } from "../errors.js";
import { ioError } from "./io-error.js";

export interface RegularFileOptions {
  /** What the file should be, for the message: "a WAV file". */
  readonly expected: string;
  /** The code of the error for a path that is no regular file. */
  readonly code: RvqErrorCode;
  /** Throws for first bytes that no such file has; they are fewer than 12 in a shorter file. */
  readonly checkHead: (head: Uint8Array) => void;
  readonly signal?: AbortSignal;
}

const headBytes = 12;

/** The bytes of a regular file. Throws `RvqError` with `code`, IO where it cannot be read, or what `checkHead` throws. */
export async function readRegularFile(
  path: string,
  { expected, code, checkHead, signal }: RegularFileOptions,
): Promise<Uint8Array> {
  try {
    // Before it is opened: opening a pipe waits for a writer.
    if (!(await stat(path)).isFile()) {
      throw new RvqError(code, `${path}: expected ${expected}, got something that is not a regular file`);
    }
    const file = await open(path);
    try {
      const head = Buffer.alloc(headBytes);
      const { bytesRead } = await file.read(head, 0, headBytes, 0);
      checkHead(head.subarray(0, bytesRead));
      return await file.readFile({ signal });
    } finally {
      await file.close();
    }
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof RvqError) throw error;
    throw ioError(path, "read", error);
  }
}
