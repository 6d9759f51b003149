// What ends a `.rvq` file: where its chunks are, a copy of its header, and what the writer knew only at the end.

import { checkMetadata } from "../check.js";
import { RvqError } from "../errors.js";
import { mostChunkFrames } from "./chunk.js";
import { crc32c } from "./crc32c.js";
import { damaged, mostHeaderBytes, mostMetadataBytes } from "./stream-header.js";

/** A chunk's place in the file. */
export interface ChunkPlace {
  /** Of its first byte from the start of the file. */
  readonly offset: number;
  readonly firstFrame: number;
  readonly frames: number;
}

export interface IndexBlock {
  readonly chunks: readonly ChunkPlace[];
  /** The file's header, byte by byte: what is read where the first one is damaged. */
  readonly header: Uint8Array;
  /** A JSON object. */
  readonly summary: Readonly<Record<string, unknown>>;
}

/** An index as it was found in a file. */
export interface FoundIndex extends IndexBlock {
  /** Of its first byte from the start of the file. */
  readonly offset: number;
}

export const indexMagic = Buffer.from("RVQE", "latin1");
const trailerMagic = Buffer.from("RVQZ", "latin1");

const at = { length: 4, chunks: 8, summary: 12 } as const;
const fixedBytes = 16;
const entryBytes = 12;
/** CRC32C, length, magic. */
const endBytes = 12;
/** The last bytes of a file: the length of the index block, and a magic. */
export const trailerBytes = 8;

/** 5 million chunks. What a reader has to hold in memory at most. */
const mostIndexBytes = 2 ** 26;

export function indexToBytes({ chunks, header, summary }: IndexBlock): Uint8Array {
  const json = Buffer.from(JSON.stringify(summary), "utf8");
  const length = fixedBytes + entryBytes * chunks.length + header.length + json.length + endBytes;
  if (length > mostIndexBytes) {
    throw new RvqError(
      "INVALID_ARGUMENT",
      `chunks: expected an index of at most ${mostIndexBytes} bytes, got ${length}`,
    );
  }
  const bytes = Buffer.alloc(length);
  indexMagic.copy(bytes);
  bytes.writeUInt32LE(length, at.length);
  bytes.writeUInt32LE(chunks.length, at.chunks);
  bytes.writeUInt32LE(json.length, at.summary);
  let next = fixedBytes;
  for (const { offset, frames } of chunks) {
    bytes.writeBigUInt64LE(BigInt(offset), next);
    bytes.writeUInt32LE(frames, next + 8);
    next += entryBytes;
  }
  bytes.set(header, next);
  json.copy(bytes, next + header.length);
  bytes.writeUInt32LE(crc32c(bytes.subarray(0, length - endBytes)), length - endBytes);
  bytes.writeUInt32LE(length, length - trailerBytes);
  trailerMagic.copy(bytes, length - 4);
  return bytes;
}

/** The length of the index block of a file that ends with these 8 bytes; null where they say none. */
export function indexLengthAtEnd(trailer: Uint8Array): number | null {
  const bytes = Buffer.from(trailer.buffer, trailer.byteOffset, trailer.length);
  if (bytes.length !== trailerBytes || !trailerMagic.equals(bytes.subarray(4))) return null;
  return possibleLength(bytes.readUInt32LE(0));
}

/** The length of the index block that begins with these 8 bytes; null where none does. */
export function indexLengthAtStart(head: Uint8Array): number | null {
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.length);
  if (bytes.length < 8 || !indexMagic.equals(bytes.subarray(0, 4))) return null;
  return possibleLength(bytes.readUInt32LE(at.length));
}

function possibleLength(length: number): number | null {
  return length >= fixedBytes + endBytes && length <= mostIndexBytes ? length : null;
}

/**
 * Reads an index block that begins at `offset` of the file. That chunks are where it says is not checked: reading them does.
 * Throws `RvqError` INVALID_STREAM for any other bytes.
 */
export function indexFromBytes(name: string, source: Uint8Array, offset: number): FoundIndex {
  const bytes = Buffer.from(source.buffer, source.byteOffset, source.length);
  const length = indexLengthAtStart(bytes);
  if (length === null || length !== bytes.length) throw damaged(name, "an index", "other bytes");
  const end = length - endBytes;
  if (crc32c(bytes.subarray(0, end)) !== bytes.readUInt32LE(end)) {
    throw damaged(name, "an index that fits its CRC32C", "a damaged one");
  }
  const count = bytes.readUInt32LE(at.chunks);
  const summaryBytes = bytes.readUInt32LE(at.summary);
  const headerBytes = end - fixedBytes - entryBytes * count - summaryBytes;
  if (headerBytes < 0 || headerBytes > mostHeaderBytes || summaryBytes > mostMetadataBytes) {
    throw damaged(name, `an index of ${count} chunks and a summary of ${summaryBytes} bytes`, `${length} bytes`);
  }

  const chunks: ChunkPlace[] = [];
  let firstFrame = 0;
  let free = headerBytes;
  for (let i = 0; i < count; i++) {
    const entry = fixedBytes + entryBytes * i;
    const place = Number(bytes.readBigUInt64LE(entry));
    const frames = bytes.readUInt32LE(entry + 8);
    if (place < free || place >= offset) throw damaged(name, `chunk ${i} from byte ${free} to ${offset}`, place);
    if (frames === 0 || frames > mostChunkFrames)
      throw damaged(name, `1 to ${mostChunkFrames} frames in chunk ${i}`, frames);
    chunks.push({ offset: place, firstFrame, frames });
    firstFrame += frames;
    free = place + 1;
  }
  const headerAt = fixedBytes + entryBytes * count;
  try {
    const summary: unknown = JSON.parse(bytes.toString("utf8", headerAt + headerBytes, end));
    const header = bytes.subarray(headerAt, headerAt + headerBytes);
    return { chunks, header, summary: checkMetadata(summary), offset };
  } catch (cause) {
    throw new RvqError("INVALID_STREAM", `${name}: the summary: ${(cause as Error).message}`, { cause });
  }
}
