// A chunk of a `.rvq` file: some frames' codes in sections, stage after stage, behind a header with a checksum of its own.

import type { Codes } from "../check.js";
import type { Steps } from "../time-slice.js";
import { type Coding, codings } from "./code-coder.js";
import { crc32c } from "./crc32c.js";
import { type CheckedCoding, encodeSections, mostCodesPerBlock, type Section } from "./sections.js";
import type { StreamHeader } from "./stream-header.js";

/** Codes of consecutive frames. */
export interface Frames extends Codes {
  /**
   * stageCounts[count]: how many of its stages each frame has, from 0; codes beyond them are 0. null: each frame has all, which
   * is not the same as counts that happen to be the largest.
   */
  readonly stageCounts: Uint16Array | null;
}

/** Where a chunk's header says its parts are. */
export interface ChunkHeader {
  readonly frames: number;
  /** Number of the first frame in the file. */
  readonly firstFrame: number;
  /** Stages stored: those of the file's header. */
  readonly stages: number;
  /** Largest stage count that the section of counts can hold; 0: there is none, every frame has all stages. */
  readonly mostStages: number;
  readonly headerBytes: number;
  /** The section of counts where there is one, then one a stage. */
  readonly sections: readonly SectionHeader[];
  /** Bytes of the chunk, header and sections. */
  readonly sizeBytes: number;
}

export interface SectionHeader {
  readonly coding: Coding;
  readonly crc: number;
  /** From the start of the chunk. */
  readonly offset: number;
  readonly length: number;
}

export const chunkMagic = Buffer.from("RVQC", "latin1");

const at = { crc: 4, tag: 8, frames: 12, firstFrame: 16, stages: 24, mostStages: 26 } as const;
export const fixedChunkBytes = 28;
const sectionEntryBytes = 8;

/** Bounds what one chunk can make a reader hold, with `mostCodesPerBlock`. */
export const mostChunkFrames = 65_536;

/** The chunk of these frames, which have the header's stages and have been checked. */
export function* encodeChunk(
  frames: Frames,
  firstFrame: number,
  header: StreamHeader,
  tag: number,
  coding: CheckedCoding,
): Steps<Uint8Array> {
  const { count, stages, stageCounts } = frames;
  const sections: Section[] = [];
  let mostStages = 0;
  if (stageCounts !== null) {
    mostStages = stages;
    const counts = { count, stages: 1, data: stageCounts };
    // There are no static tables for counts.
    const countsCoding = coding.coding === "static" ? ("adaptive" as const) : coding.coding;
    sections.push(...(yield* encodeSections(counts, [mostStages + 1], { coding: countsCoding, tables: null })));
  }
  sections.push(...(yield* encodeSections(frames, header.codebookSizes, coding, stageCounts)));
  return chunkToBytes({ frames: count, firstFrame, stages, mostStages }, sections, tag);
}

/** A chunk of these sections, which are those of stage counts, if mostStages > 0, and of the stages. */
export function chunkToBytes(
  { frames, firstFrame, stages, mostStages }: Pick<ChunkHeader, "frames" | "firstFrame" | "stages" | "mostStages">,
  sections: readonly Section[],
  tag: number,
): Uint8Array {
  const headerBytes = fixedChunkBytes + sectionEntryBytes * sections.length;
  const bytes = Buffer.alloc(sections.reduce((sum, section) => sum + section.bytes.length, headerBytes));
  chunkMagic.copy(bytes);
  bytes.writeUInt32LE(tag, at.tag);
  bytes.writeUInt32LE(frames, at.frames);
  bytes.writeBigUInt64LE(BigInt(firstFrame), at.firstFrame);
  bytes.writeUInt16LE(stages, at.stages);
  bytes.writeUInt16LE(mostStages, at.mostStages);
  let offset = headerBytes;
  for (const [i, { coding, bytes: content }] of sections.entries()) {
    const entry = fixedChunkBytes + sectionEntryBytes * i;
    bytes.writeUIntLE(content.length, entry, 3);
    bytes[entry + 3] = codings.indexOf(coding);
    bytes.writeUInt32LE(crc32c(content), entry + 4);
    bytes.set(content, offset);
    offset += content.length;
  }
  bytes.writeUInt32LE(crc32c(bytes.subarray(at.tag, headerBytes)), at.crc);
  return bytes;
}

/** The length of the chunk header that begins with these `fixedChunkBytes` bytes; null where none does. */
export function chunkHeaderLength(head: Uint8Array, fileStages: number, tag: number): number | null {
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.length);
  if (bytes.length < fixedChunkBytes || !chunkMagic.equals(bytes.subarray(0, 4))) return null;
  const frames = bytes.readUInt32LE(at.frames);
  const stages = bytes.readUInt16LE(at.stages);
  const mostStages = bytes.readUInt16LE(at.mostStages);
  // 2^21 in the upper half would be 2^53 frames, beyond the integers of a float64.
  const possible =
    bytes.readUInt32LE(at.tag) === tag &&
    frames > 0 &&
    frames <= mostChunkFrames &&
    bytes.readUInt32LE(at.firstFrame + 4) < 2 ** 21 &&
    stages === fileStages &&
    frames * stages <= mostCodesPerBlock;
  return possible ? fixedChunkBytes + sectionEntryBytes * (stages + (mostStages > 0 ? 1 : 0)) : null;
}

/** A chunk's header from its bytes, as many as `chunkHeaderLength` says; null for a damaged one. */
export function chunkHeaderFromBytes(source: Uint8Array): ChunkHeader | null {
  const bytes = Buffer.from(source.buffer, source.byteOffset, source.length);
  if (crc32c(bytes.subarray(at.tag)) !== bytes.readUInt32LE(at.crc)) return null;
  let offset = bytes.length;
  const sections: SectionHeader[] = [];
  for (let entry = fixedChunkBytes; entry < bytes.length; entry += sectionEntryBytes) {
    const coding = codings[bytes[entry + 3]];
    if (coding === undefined) return null;
    const length = bytes.readUIntLE(entry, 3);
    sections.push({ coding, crc: bytes.readUInt32LE(entry + 4), offset, length });
    offset += length;
  }
  return {
    frames: bytes.readUInt32LE(at.frames),
    firstFrame: Number(bytes.readBigUInt64LE(at.firstFrame)),
    stages: bytes.readUInt16LE(at.stages),
    mostStages: bytes.readUInt16LE(at.mostStages),
    headerBytes: bytes.length,
    sections,
    sizeBytes: offset,
  };
}
