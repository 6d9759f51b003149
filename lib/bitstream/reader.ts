// RvqReader: random access to the codes in a `.rvq` file; damage is reported and never read as codes.

import { allocate, checkInteger, checkOptions, checkSignal } from "../check.js";
import { newCodeArray } from "../code-array.js";
import { RvqError } from "../errors.js";
import { type ByteSource, openSource } from "./byte-source.js";
import type { Frames } from "./chunk.js";
import type { Coding } from "./code-coder.js";
import type { ChunkPlace } from "./index-block.js";
import { type Damage, type OpenedStream, openStream } from "./open-stream.js";
import { type ChunkContent, readChunk, readChunkHeader } from "./read-chunk.js";
import type { StreamHeader } from "./stream-header.js";

export interface ReadOptions {
  /** Read the first so many stages; default: all that are stored. */
  readonly stages?: number;
  readonly signal?: AbortSignal;
}

export interface ReadRangeOptions extends ReadOptions {
  /** Default 0. */
  readonly firstFrame?: number;
  /** How many frames; default: all from the first on. */
  readonly count?: number;
}

/** The codes of a chunk, or what is left of them. */
export interface ReadChunk {
  readonly firstFrame: number;
  readonly count: number;
  /** codes.stages says how many stages are intact; null: none. */
  readonly codes: Frames | null;
  /** null: the stages asked for are all there. */
  readonly damage: Damage | null;
}

/** What a chunk consists of. */
export interface ChunkFacts {
  readonly firstFrame: number;
  readonly frames: number;
  /** Of its first byte from the start of the file. */
  readonly offset: number;
  /** Of header and sections. */
  readonly sizeBytes: number;
  /** Whether its frames may have different numbers of stages. */
  readonly counted: boolean;
  readonly stages: readonly { readonly coding: Coding; readonly bytes: number }[];
}

/** Reads a `.rvq` file chunk by chunk; never holds more of it than its header, its index and one chunk. */
export class RvqReader {
  /** Model, codebook sizes, rate and metadata. */
  readonly header: StreamHeader;
  /** How many stages are stored. */
  readonly stages: number;
  /** Frames up to the end of the last chunk that was found, lost ones among them. */
  readonly frameCount: number;
  /** A JSON object that the writer added at the end; null: the end is missing. */
  readonly summary: Readonly<Record<string, unknown>> | null;
  /** What was found on opening. Damage inside chunks is found by reading them, or all of it by `verify`. */
  readonly damage: readonly Damage[];

  /** What `read` has read last, for ranges that share a chunk. */
  private cached: { readonly index: number; readonly stages: number; readonly read: ReadChunk } | null = null;

  private constructor(
    private readonly name: string,
    private readonly opened: OpenedStream,
  ) {
    const { file, chunks, summary, damage } = opened;
    this.header = file.header;
    this.stages = file.header.codebookSizes.length;
    const last = chunks.at(-1);
    this.frameCount = last === undefined ? 0 : last.firstFrame + last.frames;
    this.summary = summary;
    this.damage = damage;
  }

  /**
   * Opens a file by its path, bytes, or anything that reads ranges of bytes. A file without a sound end is searched for its chunks.
   * @throws RvqError INVALID_STREAM for what is no `.rvq` file or has lost both copies of its header; IO; INVALID_ARGUMENT
   */
  static async open(input: string | URL | Uint8Array | ByteSource): Promise<RvqReader> {
    const { name, source } = await openSource(input);
    try {
      return new RvqReader(name, await openStream(name, source));
    } catch (error) {
      await source.close?.();
      throw error;
    }
  }

  get sizeBytes(): number {
    return this.opened.file.source.sizeBytes;
  }

  get chunkCount(): number {
    return this.opened.chunks.length;
  }

  /**
   * Codes of consecutive frames.
   * @throws RvqError INVALID_STREAM where any of them is damaged, or the end of the file where no count is given: `chunks` gives what is
   * intact; INVALID_ARGUMENT, OUT_OF_MEMORY
   */
  async read(options: ReadRangeOptions = {}): Promise<Frames> {
    const { stages, signal } = this.checkRead(options);
    const firstFrame = checkInteger("firstFrame", options.firstFrame ?? 0, 0, this.frameCount);
    const end = this.damage.find(({ frames, firstFrame: first }) => first !== null && frames === null);
    if (options.count === undefined && end !== undefined) throw this.lost(end.message);
    const most = this.frameCount - firstFrame;
    const count = checkInteger("count", options.count ?? most, 0, most);
    const sizes = this.header.codebookSizes.slice(0, stages);
    const data = allocate("codes", count * stages, (length) => newCodeArray(length, sizes));
    let stageCounts: Uint16Array | null = null;
    const stop = firstFrame + count;
    let next = firstFrame;
    for (let i = this.chunkWith(firstFrame); next < stop; i++) {
      signal?.throwIfAborted();
      const place: ChunkPlace | undefined = this.opened.chunks[i];
      if (place === undefined || place.firstFrame > next) throw this.lost(`frames from ${next} on are lost`);
      const { codes, damage } = await this.readCached(i, stages);
      if (codes === null || damage !== null) throw this.lost(damage?.message ?? "");
      const from = next - place.firstFrame;
      const to = Math.min(codes.count, stop - place.firstFrame);
      const at = next - firstFrame;
      data.set(codes.data.subarray(from * stages, to * stages), at * stages);
      if (codes.stageCounts !== null) {
        stageCounts ??= new Uint16Array(count).fill(stages);
        stageCounts.set(codes.stageCounts.subarray(from, to), at);
      }
      next += to - from;
    }
    return { count, stages, data, stageCounts };
  }

  /** A chunk by its number. Chunks hold the frames in order; there may be frames between them that are lost. */
  async readChunk(index: number, options: ReadOptions = {}): Promise<ReadChunk> {
    const { stages, signal } = this.checkRead(options);
    checkInteger("index", index, 0, this.chunkCount - 1);
    signal?.throwIfAborted();
    return this.readFrom(index, stages);
  }

  /** All chunks in order. */
  async *chunks(options: ReadOptions = {}): AsyncGenerator<ReadChunk, void, undefined> {
    for (let i = 0; i < this.chunkCount; i++) yield await this.readChunk(i, options);
  }

  /** What a chunk consists of, by its header; null: that is damaged. */
  async chunkFacts(index: number): Promise<ChunkFacts | null> {
    checkInteger("index", index, 0, this.chunkCount - 1);
    const { file, chunks } = this.opened;
    const { offset, firstFrame, frames } = chunks[index];
    const chunk = await readChunkHeader(file, offset);
    if (chunk === null) return null;
    const counted = chunk.mostStages > 0;
    const sections = counted ? chunk.sections.slice(1) : chunk.sections;
    const stages = sections.map(({ coding, length }) => ({ coding, bytes: length }));
    return { firstFrame, frames, offset, sizeBytes: chunk.sizeBytes, counted, stages };
  }

  /** Reads everything and returns all that is damaged; an empty array: the file is as it was written. */
  async verify(options: Pick<ReadOptions, "signal"> = {}): Promise<Damage[]> {
    const found = [...this.damage];
    for await (const { damage } of this.chunks({ signal: options?.signal })) if (damage !== null) found.push(damage);
    return found.sort((a, b) => (a.firstFrame ?? -1) - (b.firstFrame ?? -1));
  }

  /** Closes the file. */
  async close(): Promise<void> {
    this.cached = null;
    await this.opened.file.source.close?.();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  private async readCached(index: number, stages: number): Promise<ReadChunk> {
    if (this.cached?.index === index && this.cached.stages === stages) return this.cached.read;
    const read = await this.readFrom(index, stages);
    this.cached = { index, stages, read };
    return read;
  }

  private async readFrom(index: number, stages: number): Promise<ReadChunk> {
    const { file, chunks } = this.opened;
    const { offset, firstFrame, frames } = chunks[index];
    const header = await readChunkHeader(file, offset);
    const fits = header !== null && header.firstFrame === firstFrame && header.frames === frames;
    const content: ChunkContent = fits
      ? await readChunk(file, offset, header, stages)
      : { frames: null, damage: "its header is damaged" };
    const codes = content.frames;
    if (content.damage === null) return { firstFrame, count: frames, codes, damage: null };
    const last = firstFrame + frames - 1;
    const message = `chunk ${index} (frames ${firstFrame} to ${last}, byte ${offset}): ${content.damage}`;
    return { firstFrame, count: frames, codes, damage: { message, firstFrame, frames, stages: codes?.stages ?? 0 } };
  }

  private checkRead(options: ReadOptions): { stages: number; signal: AbortSignal | undefined } {
    checkOptions("options", options);
    const stages = checkInteger("stages", options.stages ?? this.stages, 1, this.stages);
    return { stages, signal: checkSignal("signal", options.signal) };
  }

  /** The number of the chunk with a frame, or of the first one after it. */
  private chunkWith(frame: number): number {
    const { chunks } = this.opened;
    let [low, high] = [0, chunks.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (chunks[middle].firstFrame + chunks[middle].frames > frame) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  private lost(what: string): RvqError {
    return new RvqError("INVALID_STREAM", `${this.name}: expected intact codes, got damage: ${what}`);
  }
}
