// Where the bytes of a `.rvq` file come from: memory, a file, or anything that reads a range.

import { type FileHandle, open, stat } from "node:fs/promises";
import { checkBytes, checkPath } from "../check.js";
import { invalidArgument, RvqError } from "../errors.js";

/** Random access to bytes: implement it to read from elsewhere, such as HTTP ranges. */
export interface ByteSource {
  readonly sizeBytes: number;
  /** The bytes from `offset` on, fewer than `length` only at the end. */
  read(offset: number, length: number): Promise<Uint8Array>;
  close?(): Promise<void>;
}

/** A source over bytes, a path or URL of a regular file, or the source itself, and what to call it in errors. */
export async function openSource(input: unknown): Promise<{ name: string; source: ByteSource }> {
  if (typeof input === "string" || input instanceof URL) {
    const path = checkPath("input", input);
    return { name: path, source: await openFile(path) };
  }
  if (input instanceof Uint8Array) {
    const bytes = checkBytes("input", input);
    const read = async (offset: number, length: number) => bytes.subarray(offset, offset + length);
    return { name: "bytes", source: { sizeBytes: bytes.length, read } };
  }
  const source = input as Partial<ByteSource> | null | undefined;
  if (typeof source !== "object" || typeof source?.read !== "function" || !Number.isSafeInteger(source.sizeBytes)) {
    throw invalidArgument("input", "a path, a Uint8Array or a ByteSource", input);
  }
  return { name: "input", source: checkedSource(source as ByteSource) };
}

/** The caller's source, whose `read` may give anything. */
function checkedSource(source: ByteSource): ByteSource {
  return {
    sizeBytes: source.sizeBytes,
    read: async (offset, length) => checkBytes("what input.read resolves to", await source.read(offset, length)),
    close: async () => {
      await source.close?.();
    },
  };
}

async function openFile(path: string): Promise<ByteSource> {
  const failed = (cause: unknown) =>
    new RvqError("IO", `${path}: cannot be read: ${(cause as Error).message}`, { cause });
  let file: FileHandle;
  let sizeBytes: number;
  try {
    // Before it is opened: opening a pipe waits for a writer.
    const entry = await stat(path);
    if (!entry.isFile()) {
      const got = "something that is not a regular file";
      throw new RvqError("INVALID_STREAM", `${path}: expected coded vectors (.rvq), got ${got}`);
    }
    sizeBytes = entry.size;
    file = await open(path);
  } catch (cause) {
    throw cause instanceof RvqError ? cause : failed(cause);
  }
  const read = async (offset: number, length: number) => {
    const bytes = new Uint8Array(Math.max(0, Math.min(length, sizeBytes - offset)));
    let done = 0;
    try {
      while (done < bytes.length) {
        const { bytesRead } = await file.read(bytes, done, bytes.length - done, offset + done);
        if (bytesRead === 0) break;
        done += bytesRead;
      }
    } catch (cause) {
      throw failed(cause);
    }
    return bytes.subarray(0, done);
  };
  return { sizeBytes, read, close: () => file.close() };
}
