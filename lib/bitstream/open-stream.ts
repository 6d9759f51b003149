// Opens a `.rvq` file: finds its header and its chunks, by the index or, where that is damaged, without it.

import type { ByteSource } from "./byte-source.js";
import { type ChunkPlace, type FoundIndex, indexFromBytes, indexLengthAtEnd, trailerBytes } from "./index-block.js";
import type { ChunkedFile } from "./read-chunk.js";
import { scanChunks } from "./scan.js";
import {
  damaged,
  fixedHeaderBytes,
  headerFromBytes,
  headerLength,
  headerTag,
  type StreamHeader,
} from "./stream-header.js";

/** Something in a file that is not as it was written. */
export interface Damage {
  /** What and where, in a sentence. */
  readonly message: string;
  /** The frames that suffer from it; null: none, all codes are there. */
  readonly firstFrame: number | null;
  /** How many frames; null: nobody knows, as the end of the file is missing. */
  readonly frames: number | null;
  /** How many stages of those frames are intact. */
  readonly stages: number;
}

export interface OpenedStream {
  readonly file: ChunkedFile;
  readonly chunks: readonly ChunkPlace[];
  /** What the writer said at the end; null: the end is missing. */
  readonly summary: Readonly<Record<string, unknown>> | null;
  readonly damage: readonly Damage[];
  /** Where the index is or should be. */
  readonly end: number;
  readonly headerBytes: Uint8Array;
}

/** @throws RvqError INVALID_STREAM where there is no header to be found; IO */
export async function openStream(name: string, source: ByteSource): Promise<OpenedStream> {
  const first = await readHeader(name, source);
  const last = await readIndex(name, source);
  // The copy of the header in the index serves where the header itself is damaged.
  const { headerBytes, header } = "header" in first ? first : headerCopy(name, last, first.problem);
  const file: ChunkedFile = { source, header, tag: headerTag(headerBytes) };
  const damage: Damage[] = [];
  if ("problem" in first) damage.push(harmless("the header is damaged; its copy in the index is used"));
  if (last !== null && sameBytes(last.header, headerBytes)) {
    return { file, chunks: last.chunks, summary: last.summary, damage, end: last.offset, headerBytes };
  }

  const { chunks, index, lost, end } = await scanChunks(file, name, headerBytes.length);
  if (index !== null && sameBytes(index.header, headerBytes)) {
    damage.push(harmless("the last bytes are damaged; the index was found by a scan"));
    return { file, chunks: index.chunks, summary: index.summary, damage, end: index.offset, headerBytes };
  }
  damage.push(harmless("there is no sound index at the end; the chunks were found by a scan"));
  for (const { offset, length } of lost)
    damage.push(harmless(`bytes ${offset} to ${offset + length - 1} hold no chunk`));
  damage.push(...lostFrames(chunks));
  return { file, chunks, summary: null, damage, end, headerBytes };
}

/** Gaps between the chunks, and the end that is missing. */
function lostFrames(chunks: readonly ChunkPlace[]): Damage[] {
  const damage: Damage[] = [];
  let next = 0;
  for (const { firstFrame, frames } of chunks) {
    if (firstFrame > next) {
      const message = `the chunks of frames ${next} to ${firstFrame - 1} are lost`;
      damage.push({ message, firstFrame: next, frames: firstFrame - next, stages: 0 });
    }
    next = firstFrame + frames;
  }
  damage.push({
    message: `frames from ${next} on, if there were any, are lost`,
    firstFrame: next,
    frames: null,
    stages: 0,
  });
  return damage;
}

type FirstHeader = { readonly headerBytes: Uint8Array; readonly header: StreamHeader } | { readonly problem: unknown };

async function readHeader(name: string, source: ByteSource): Promise<FirstHeader> {
  try {
    const length = headerLength(name, await source.read(0, fixedHeaderBytes));
    if (length > source.sizeBytes) throw damaged(name, `a header of ${length} bytes`, `${source.sizeBytes} bytes`);
    const headerBytes = await source.read(0, length);
    return { headerBytes, header: headerFromBytes(name, headerBytes) };
  } catch (problem) {
    if ((problem as { code?: unknown }).code !== "INVALID_STREAM") throw problem;
    return { problem };
  }
}

/** The index that the last bytes of the file point to, if it is sound. */
async function readIndex(name: string, source: ByteSource): Promise<FoundIndex | null> {
  const trailerAt = source.sizeBytes - trailerBytes;
  if (trailerAt < fixedHeaderBytes) return null;
  const length = indexLengthAtEnd(await source.read(trailerAt, trailerBytes));
  if (length === null || length > source.sizeBytes - fixedHeaderBytes) return null;
  const offset = source.sizeBytes - length;
  try {
    return indexFromBytes(name, await source.read(offset, length), offset);
  } catch (problem) {
    if ((problem as { code?: unknown }).code !== "INVALID_STREAM") throw problem;
    return null;
  }
}

function headerCopy(
  name: string,
  index: FoundIndex | null,
  problem: unknown,
): { headerBytes: Uint8Array; header: StreamHeader } {
  if (index === null) throw problem;
  return { headerBytes: index.header, header: headerFromBytes(name, index.header) };
}

/** Damage that costs no codes. */
function harmless(message: string): Damage {
  return { message, firstFrame: null, frames: null, stages: 0 };
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
