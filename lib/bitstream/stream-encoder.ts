// Makes a `.rvq` file piece by piece: header, chunks of a fixed number of frames however the codes arrive, index.

import type { CodeArray } from "../backend.js";
import {
  type Codes,
  checkCodeRange,
  checkCodes,
  checkInteger,
  checkMetadata,
  checkOptions,
  checkRequiredOptions,
} from "../check.js";
import { newCodeArray } from "../code-array.js";
import { checkStageCounts } from "../counted-codes.js";
import { invalidArgument } from "../errors.js";
import type { Steps } from "../time-slice.js";
import { encodeChunk, type Frames, mostChunkFrames } from "./chunk.js";
import type { Coding } from "./code-coder.js";
import type { CodeTables } from "./code-tables.js";
import { type ChunkPlace, indexToBytes } from "./index-block.js";
import { type CheckedCoding, checkCoding, mostCodesPerBlock } from "./sections.js";
import { checkHeader, headerTag, headerToBytes, mostMetadataBytes, type StreamHeader } from "./stream-header.js";

/** How chunks are made. */
export interface ChunkingOptions {
  /** Default "mixed"; "static" wants `tables` in the file. */
  readonly coding?: Coding;
  /**
   * Frames in a chunk; default 2048, or fewer where more than 2^22 codes would be in one. A chunk is decoded as a whole, and what
   * adaptive coding has learned is forgotten at its end.
   */
  readonly chunkFrames?: number;
}

/** What a `.rvq` file says of its codes, and how they are coded. */
export interface RvqOptions extends ChunkingOptions {
  /** `quantizer.id`. */
  readonly modelId: string;
  /** K_s of each stage that the codes have. */
  readonly codebookSizes: readonly number[];
  /** Frames (vectors) a second. */
  readonly frameRate?: number;
  /** A JSON object of yours, up to 1 MiB. */
  readonly metadata?: Readonly<Record<string, unknown>>;
  /** What `codeTables` gave: stored in the file, 2·K bytes a stage. */
  readonly tables?: CodeTables;
}

/** Codes to write; with stageCounts[count], each frame's first so many stages. */
export interface WritableCodes extends Codes {
  readonly stageCounts?: Uint16Array | null;
}

const defaultChunkFrames = 2048;

export function headerOf(options: RvqOptions): StreamHeader {
  checkRequiredOptions("options", options);
  const { modelId, codebookSizes, frameRate = null, metadata = {}, tables = null } = options;
  return checkHeader({ modelId, codebookSizes, frameRate, metadata, tables });
}

/** Turns codes into the bytes of a file. Chunks are cut where `chunkFrames` says, wherever the calls of `push` are cut. */
export class StreamEncoder {
  readonly headerBytes: Uint8Array;
  private readonly tag: number;
  private readonly coding: CheckedCoding;
  private readonly chunkFrames: number;
  private readonly stages: number;
  /** Frames that wait for their chunk to be full. */
  private readonly pending: CodeArray;
  private readonly pendingCounts: Uint16Array;
  private pendingFrames = 0;
  private counted = false;

  /**
   * @param chunks those that are in the file already
   * @param offset where the next one begins
   */
  constructor(
    private readonly header: StreamHeader,
    options: ChunkingOptions,
    private readonly chunks: ChunkPlace[] = [],
    private offset = headerToBytes(header).length,
  ) {
    checkOptions("options", options);
    this.headerBytes = headerToBytes(header);
    this.tag = headerTag(this.headerBytes);
    this.stages = header.codebookSizes.length;
    this.coding = checkCoding({ coding: options.coding, tables: header.tables ?? undefined }, header.codebookSizes);
    const most = Math.min(mostChunkFrames, Math.floor(mostCodesPerBlock / this.stages));
    this.chunkFrames = checkInteger("chunkFrames", options.chunkFrames ?? Math.min(most, defaultChunkFrames), 1, most);
    this.pending = newCodeArray(this.chunkFrames * this.stages, header.codebookSizes);
    this.pendingCounts = new Uint16Array(this.chunkFrames);
  }

  /** Takes codes, all of them or none, and returns the steps that make the chunks they fill. Run them before the next call. */
  push(codes: WritableCodes): Steps<Uint8Array[]> {
    const frames = this.check(codes);
    return this.take(frames);
  }

  /** The chunk of the frames that wait, however few; null: none do. */
  *flush(): Steps<Uint8Array | null> {
    return this.pendingFrames === 0 ? null : yield* this.chunk();
  }

  /** The index that ends the file. */
  end(summary: unknown): Uint8Array {
    const checked = checkMetadata(summary, "summary");
    const sizeBytes = Buffer.byteLength(JSON.stringify(checked));
    if (sizeBytes > mostMetadataBytes) {
      throw invalidArgument("summary", `at most ${mostMetadataBytes} bytes of JSON`, sizeBytes);
    }
    return indexToBytes({ chunks: this.chunks, header: this.headerBytes, summary: checked });
  }

  private check(codes: WritableCodes): Frames {
    checkRequiredOptions("codes", codes);
    const { count, stages, data, stageCounts: given = null } = codes;
    const checked = checkCodes("codes", { count, stages, data }, this.stages);
    checkInteger("codes.stages", checked.stages, this.stages, this.stages);
    const stageCounts = given === null ? null : checkStageCounts(given, checked);
    checkCodeRange("codes", checked.data, stages, this.header.codebookSizes, 0);
    const next = this.nextFrame + this.pendingFrames + count;
    if (next > Number.MAX_SAFE_INTEGER) throw invalidArgument("codes.count", "fewer than 2^53 frames in all", count);
    return { ...checked, stageCounts };
  }

  private *take({ count, data, stageCounts }: Frames): Steps<Uint8Array[]> {
    const made: Uint8Array[] = [];
    for (let done = 0; done < count; ) {
      const frames = Math.min(count - done, this.chunkFrames - this.pendingFrames);
      const end = done + frames;
      this.pending.set(data.subarray(done * this.stages, end * this.stages), this.pendingFrames * this.stages);
      // A chunk has counts as soon as one of its frames was given with one.
      if (stageCounts === null) this.pendingCounts.fill(this.stages, this.pendingFrames, this.pendingFrames + frames);
      else this.pendingCounts.set(stageCounts.subarray(done, end), this.pendingFrames);
      this.counted ||= stageCounts !== null;
      this.pendingFrames += frames;
      done = end;
      if (this.pendingFrames === this.chunkFrames) made.push(yield* this.chunk());
    }
    return made;
  }

  private *chunk(): Steps<Uint8Array> {
    const count = this.pendingFrames;
    const stageCounts = this.counted ? this.pendingCounts.slice(0, count) : null;
    const frames = { count, stages: this.stages, data: this.pending.slice(0, count * this.stages), stageCounts };
    const firstFrame = this.nextFrame;
    this.pendingFrames = 0;
    this.counted = false;
    const bytes = yield* encodeChunk(frames, firstFrame, this.header, this.tag, this.coding);
    this.chunks.push({ offset: this.offset, firstFrame, frames: count });
    this.offset += bytes.length;
    return bytes;
  }

  /** Number of the first frame that is in no chunk yet. */
  private get nextFrame(): number {
    const last = this.chunks.at(-1);
    return last === undefined ? 0 : last.firstFrame + last.frames;
  }
}
