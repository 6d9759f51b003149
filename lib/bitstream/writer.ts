// RvqWriter: writes codes to a `.rvq` file as they come, or adds to one; a file cut off in mid-write keeps its chunks.

import { type FileHandle, open } from "node:fs/promises";
import { checkOptions, checkPath } from "../check.js";
import { RvqError } from "../errors.js";
import { runInSlices, runToEnd } from "../time-slice.js";
import { openSource } from "./byte-source.js";
import { openStream } from "./open-stream.js";
import {
  type ChunkingOptions,
  headerOf,
  type RvqOptions,
  StreamEncoder,
  type WritableCodes,
} from "./stream-encoder.js";

/** Writes a file from its first frame to its last. Await every call before the next one. */
export class RvqWriter {
  private state: "ready" | "busy" | "closed" | "failed" = "ready";

  private constructor(
    private readonly path: string,
    private readonly file: FileHandle,
    private readonly encoder: StreamEncoder,
    private position: number,
  ) {}

  /**
   * A new file, or an old one emptied.
   * @throws RvqError INVALID_ARGUMENT, IO
   */
  static async create(path: string | URL, options: RvqOptions): Promise<RvqWriter> {
    const name = checkPath("path", path);
    const encoder = new StreamEncoder(headerOf(options), options);
    return within(name, async () => {
      const file = await open(name, "w");
      try {
        await writeAll(file, encoder.headerBytes, 0);
        return new RvqWriter(name, file, encoder, encoder.headerBytes.length);
      } catch (error) {
        await file.close();
        throw error;
      }
    });
  }

  /**
   * An old file, to add frames after its last. One that was cut off is continued after its last whole chunk.
   * @throws RvqError INVALID_STREAM for a file that is damaged otherwise, INVALID_ARGUMENT, IO
   */
  static async append(path: string | URL, options: ChunkingOptions = {}): Promise<RvqWriter> {
    checkOptions("options", options);
    const name = checkPath("path", path);
    const { source } = await openSource(name);
    let encoder: StreamEncoder;
    let end: number;
    try {
      const { file, chunks, damage, summary, end: found } = await openStream(name, source);
      const whole = [...chunks];
      end = found;
      // Of a file that was cut off, the last chunk may be there in part.
      if (summary === null && found > source.sizeBytes) end = whole.pop()?.offset ?? found;
      const lost = damage.find(({ firstFrame, frames }) => firstFrame !== null && frames !== null);
      if (lost !== undefined)
        throw new RvqError("INVALID_STREAM", `${name}: expected a sound file, got: ${lost.message}`);
      encoder = new StreamEncoder(file.header, options, whole, end);
    } finally {
      await source.close?.();
    }
    return within(name, async () => {
      const file = await open(name, "r+");
      // The first header may be the damaged one.
      await writeAll(file, encoder.headerBytes, 0);
      return new RvqWriter(name, file, encoder, end);
    });
  }

  /**
   * Adds frames. They are on their way to the file once their chunk is full.
   * @throws RvqError INVALID_ARGUMENT, CODE_OUT_OF_RANGE, and then the file is as before; IO; DISPOSED
   */
  async write(codes: WritableCodes): Promise<void> {
    this.checkReady();
    const steps = this.encoder.push(codes);
    await this.during(async () => {
      for (const chunk of await runInSlices(steps)) await this.put(chunk);
    });
  }

  /** Writes the frames that wait as a chunk, however few, and what is written to the disk: they survive a crash from here on. */
  async flush(): Promise<void> {
    await this.during(async () => {
      const chunk = await runInSlices(this.encoder.flush());
      if (chunk !== null) await this.put(chunk);
      await this.file.sync();
    });
  }

  /** Writes what waits and the index, with a JSON object of yours, and closes the file; does nothing more a second time. */
  async close(summary: Readonly<Record<string, unknown>> = {}): Promise<void> {
    if (this.state === "closed") return;
    await this.during(async () => {
      const chunk = await runInSlices(this.encoder.flush());
      if (chunk !== null) await this.put(chunk);
      await this.put(this.encoder.end(summary));
      // What an old index left behind.
      await this.file.truncate(this.position);
      await this.file.sync();
      await this.file.close();
    });
    this.state = "closed";
  }

  /** `close()`, but after a failure, which closes the file. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.state !== "failed") await this.close();
  }

  private async put(bytes: Uint8Array): Promise<void> {
    await writeAll(this.file, bytes, this.position);
    this.position += bytes.length;
  }

  /** Runs a call. After a failure, which closes the file, none follows: what is in the file is then not known. */
  private async during(work: () => Promise<void>): Promise<void> {
    this.checkReady();
    this.state = "busy";
    try {
      await within(this.path, work);
      this.state = "ready";
    } catch (error) {
      this.state = "failed";
      await this.file.close().catch(() => {});
      throw error;
    }
  }

  private checkReady(): void {
    if (this.state === "ready") return;
    const got = this.state === "busy" ? "one before the last call was awaited" : "one after its end or a failure";
    throw new RvqError("DISPOSED", `writer: expected a call to one that is ready, got ${got}`);
  }
}

/**
 * The bytes of a `.rvq` file with these codes, on the calling thread.
 * @throws RvqError INVALID_ARGUMENT, CODE_OUT_OF_RANGE
 */
export function rvqToBytes(
  codes: WritableCodes,
  options: RvqOptions & { readonly summary?: Readonly<Record<string, unknown>> },
): Uint8Array {
  const encoder = new StreamEncoder(headerOf(options), options);
  const parts = [encoder.headerBytes, ...runToEnd(encoder.push(codes))];
  const last = runToEnd(encoder.flush());
  if (last !== null) parts.push(last);
  parts.push(encoder.end(options.summary ?? {}));
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}

async function within<Result>(path: string, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof RvqError) throw cause;
    throw new RvqError("IO", `cannot write ${path}: ${(cause as Error).message}`, { cause });
  }
}
