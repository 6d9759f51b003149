// Writes files so that a reader, or a crash in mid-write, sees the old file or the new one and nothing in between.

import { randomBytes } from "node:crypto";
import { closeSync, openSync, rmSync } from "node:fs";
import { open, realpath, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { checkBytes, checkPath } from "./check.js";
import { RvqError } from "./errors.js";

/**
 * Writes bytes, whole or as they come, to a temporary file in the folder of `path`, flushes it to disk and renames it over `path`. A symbolic link keeps
 * pointing where it did, a file keeps its permissions, and what is no file (a pipe, a device) is written to as it is. A process
 * that exits meanwhile removes the temporary file.
 * @throws RvqError INVALID_ARGUMENT, IO; what the bytes throw where they come piece by piece
 */
export async function writeFileAtomic(
  path: string | URL,
  bytes: Uint8Array | AsyncIterable<Uint8Array>,
): Promise<void> {
  const name = checkPath("path", path);
  let sourceFailed = false;
  async function* piecesOf(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    try {
      yield* source;
    } catch (error) {
      sourceFailed = true;
      throw error;
    }
  }
  const content = isAsyncIterable(bytes) ? piecesOf(bytes) : checkBytes("bytes", bytes);
  try {
    const target = await realpath(name).catch(() => name);
    const old = await stat(target).catch(() => null);
    if (old !== null && !old.isFile()) await writeFile(target, content);
    else await replaceFile(target, content, old === null ? null : old.mode & 0o7777);
  } catch (cause) {
    // What comes piece by piece may fail to come: that says itself what is wrong.
    if (cause instanceof RvqError || sourceFailed) throw cause;
    throw new RvqError("IO", `cannot write ${name}: ${(cause as Error).message}`, { cause });
  }
}

/** Whether a file of this name is one that a write under way, or cut off, has made. */
export function isTemporaryName(name: string): boolean {
  return /^\.rvq-[0-9a-f]{16}\.tmp$/.test(name);
}

function isAsyncIterable(value: unknown): value is AsyncIterable<Uint8Array> {
  return typeof value === "object" && value !== null && Symbol.asyncIterator in value;
}

async function replaceFile(
  target: string,
  bytes: Uint8Array | AsyncIterable<Uint8Array>,
  mode: number | null,
): Promise<void> {
  // A short name of its own: a suffix could make a valid name too long.
  const temporary = join(dirname(target), `.rvq-${randomBytes(8).toString("hex")}.tmp`);
  removeAtExit(temporary);
  try {
    // Made at once: a process that exits now finds it and removes it, and nothing under way could make it again.
    closeSync(openSync(temporary, "wx"));
    const file = await open(temporary, "r+");
    try {
      if (mode !== null) await file.chmod(mode);
      if (isAsyncIterable(bytes)) for await (const part of bytes) await file.writeFile(part);
      else await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, target);
  } catch (error) {
    // The first failure is the one to report, whatever becomes of the temporary file.
    await rm(temporary, { force: true }).catch(() => {});
    throw error;
  } finally {
    keepAtExit(temporary);
  }
}

/** Temporary files of writes under way. */
const unfinished = new Set<string>();

function removeAtExit(temporary: string): void {
  if (unfinished.size === 0) process.on("exit", removeUnfinished);
  unfinished.add(temporary);
}

function keepAtExit(temporary: string): void {
  unfinished.delete(temporary);
  if (unfinished.size === 0) process.off("exit", removeUnfinished);
}

function removeUnfinished(): void {
  for (const temporary of unfinished) {
    try {
      rmSync(temporary, { force: true });
    } catch {
      // The process exits for a reason of its own, which this must not hide.
    }
  }
}
