// Finds the chunks of a `.rvq` file without its index: one after the other, and past damage by looking for the next header.

import { chunkMagic } from "./chunk.js";
import { type ChunkPlace, type FoundIndex, indexFromBytes, indexLengthAtStart, indexMagic } from "./index-block.js";
import { type ChunkedFile, readChunkHeader } from "./read-chunk.js";

/** Bytes between sound parts of the file in which nothing was found. */
export interface LostBytes {
  readonly offset: number;
  readonly length: number;
}

export interface Scan {
  readonly chunks: readonly ChunkPlace[];
  /** The index that ends the file, where it is sound. */
  readonly index: FoundIndex | null;
  readonly lost: readonly LostBytes[];
  /** Where the last chunk ends, in the file or, where it is cut off, beyond. */
  readonly end: number;
}

const windowBytes = 2 ** 16;

/** A file has one index. Bytes that only begin like one must not each cost a checksum over the rest of the file. */
const mostIndexTries = 4;

/** Scans from the end of the file's header. A chunk that the end of the file cuts off is among the chunks. */
export async function scanChunks(file: ChunkedFile, name: string, headerBytes: number): Promise<Scan> {
  const { sizeBytes } = file.source;
  const chunks: ChunkPlace[] = [];
  const lost: LostBytes[] = [];
  let end = headerBytes;
  let frames = 0;
  let from = headerBytes;
  let indexTries = 0;
  while (end < sizeBytes) {
    const at = await nextMagic(file, from);
    if (at < 0) break;
    let found: FoundChunk | FoundIndex | null = await chunkAt(file, at, frames);
    if (found === null && indexTries < mostIndexTries) {
      const length = await indexLengthAt(file, at);
      if (length !== null) {
        indexTries++;
        found = await readIndex(file, name, at, length);
      }
    }
    if (found === null) {
      from = at + 1;
      continue;
    }
    if (at > end) lost.push({ offset: end, length: at - end });
    if ("summary" in found) return { chunks, index: found, lost, end };
    chunks.push(found.place);
    frames = found.place.firstFrame + found.place.frames;
    end = at + found.sizeBytes;
    from = end;
  }
  if (end < sizeBytes) lost.push({ offset: end, length: sizeBytes - end });
  return { chunks, index: null, lost, end };
}

/** Where "RVQC" or "RVQE" comes next; negative: nowhere. */
async function nextMagic({ source }: ChunkedFile, from: number): Promise<number> {
  for (let at = from; at < source.sizeBytes; ) {
    const bytes = await source.read(at, windowBytes);
    const window = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    const hits = [window.indexOf(chunkMagic), window.indexOf(indexMagic)].filter((hit) => hit >= 0);
    if (hits.length > 0) return at + Math.min(...hits);
    if (window.length < windowBytes) return -1;
    // One that lies across the end of the window is found in the next.
    at += windowBytes - 3;
  }
  return -1;
}

interface FoundChunk {
  readonly place: ChunkPlace;
  readonly sizeBytes: number;
}

/** The chunk at `at` if there is one whose frames come after those before. */
async function chunkAt(file: ChunkedFile, at: number, framesBefore: number): Promise<FoundChunk | null> {
  const chunk = await readChunkHeader(file, at);
  if (chunk === null || chunk.firstFrame < framesBefore) return null;
  const { firstFrame, frames, sizeBytes } = chunk;
  return { place: { offset: at, firstFrame, frames }, sizeBytes };
}

/** The length of what begins as an index at `at`, if it ends within the file. */
async function indexLengthAt({ source }: ChunkedFile, at: number): Promise<number | null> {
  const length = indexLengthAtStart(await source.read(at, 8));
  return length !== null && at + length <= source.sizeBytes ? length : null;
}

async function readIndex(
  { source }: ChunkedFile,
  name: string,
  at: number,
  length: number,
): Promise<FoundIndex | null> {
  try {
    return indexFromBytes(name, await source.read(at, length), at);
  } catch {
    return null;
  }
}
