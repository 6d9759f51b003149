// Writes files so that a reader, or a crash in mid-write, sees the old file or the new one and nothing in between.

import { randomBytes } from "node:crypto";
import { open, rename, rm } from "node:fs/promises";
import { RvqError } from "./errors.js";

/** Writes bytes to a temporary file beside `path`, flushes it to disk and renames it over `path`. */
export async function writeFileAtomic(path: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${path}.${process.pid}-${randomBytes(4).toString("hex")}.tmp`;
  try {
    const file = await open(temporary, "wx");
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (cause) {
    // The first failure is the one to report, whatever becomes of the temporary file.
    await rm(temporary, { force: true }).catch(() => {});
    throw new RvqError("IO", `cannot write ${path}: ${(cause as Error).message}`, { cause });
  }
}
