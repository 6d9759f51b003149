// Reads one chunk of a `.rvq` file, as many of its stages as are asked for and intact.

import { RvqError } from "../errors.js";
import { packedSizeBytes } from "../pack-layout.js";
import { runInSlices } from "../time-slice.js";
import type { ByteSource } from "./byte-source.js";
import {
  type ChunkHeader,
  chunkHeaderFromBytes,
  chunkHeaderLength,
  type Frames,
  fixedChunkBytes,
  type SectionHeader,
} from "./chunk.js";
import { crc32c } from "./crc32c.js";
import { decodeSections, type Section } from "./sections.js";
import type { StreamHeader } from "./stream-header.js";

/** What is the same for all chunks of a file. */
export interface ChunkedFile {
  readonly source: ByteSource;
  readonly header: StreamHeader;
  readonly tag: number;
}

/** The frames of a chunk, and how many of the stages asked for are intact; frames.stages says how many there are. */
export interface ChunkContent {
  /** null where not even the first stage is intact. */
  readonly frames: Frames | null;
  /** What is damaged; null: nothing that was read. */
  readonly damage: string | null;
}

/** The header of the chunk at `offset`; null where no sound one is. */
export async function readChunkHeader(
  { source, header, tag }: ChunkedFile,
  offset: number,
): Promise<ChunkHeader | null> {
  const stages = header.codebookSizes.length;
  // The longest that this file's chunks can have.
  const head = await source.read(offset, fixedChunkBytes + 8 * (stages + 1));
  const length = chunkHeaderLength(head, stages, tag);
  return length === null || length > head.length ? null : chunkHeaderFromBytes(head.subarray(0, length));
}

/** The first `stages` stages of a chunk at `offset`. */
export async function readChunk(
  file: ChunkedFile,
  offset: number,
  chunk: ChunkHeader,
  stages: number,
): Promise<ChunkContent> {
  const { header } = file;
  const counted = chunk.mostStages > 0 ? 1 : 0;
  const { sections, damage } = await readSections(file, offset, chunk, stages);
  const intact = sections.length - counted;
  if (intact < 1) return { frames: null, damage };
  try {
    let stageCounts: Uint16Array | null = null;
    if (counted) {
      const counts = await runInSlices(
        decodeSections(sections.slice(0, 1), chunk.frames, [chunk.mostStages + 1], null),
      );
      // A trimmed chunk keeps the counts that it had.
      stageCounts = Uint16Array.from(counts.data, (count) => Math.min(count, stages));
    }
    const steps = decodeSections(
      sections.slice(counted),
      chunk.frames,
      header.codebookSizes,
      header.tables,
      stageCounts,
    );
    const codes = await runInSlices(steps);
    // Stages lost to damage do not count.
    const kept = stageCounts?.map((count) => Math.min(count, intact)) ?? null;
    return { frames: { ...codes, stageCounts: kept }, damage };
  } catch (error) {
    // The checksums fit: no encoder of this package wrote it.
    if (error instanceof RvqError && error.code === "INVALID_STREAM") return { frames: null, damage: error.message };
    throw error;
  }
}

/** The section of counts, if there is one, and those of the first `stages` stages, up to the first one that is damaged. */
export async function readSections(
  { source, header }: ChunkedFile,
  offset: number,
  chunk: ChunkHeader,
  stages: number,
): Promise<{ sections: Section[]; damage: string | null }> {
  const counted = chunk.mostStages > 0 ? 1 : 0;
  const sizes = [...(counted ? [chunk.mostStages + 1] : []), ...header.codebookSizes].slice(0, counted + stages);
  const name = (i: number) => (i < counted ? "the stage counts" : `stage ${i - counted}`);
  // None is longer than packed: what is read at once is bounded by that.
  const headers = chunk.sections.slice(0, sizes.length);
  const tooLong = headers.findIndex(({ length }, i) => length > packedSizeBytes(chunk.frames, [sizes[i]]));
  const readable = tooLong < 0 ? headers : headers.slice(0, tooLong);
  const end = endOf(readable, chunk.headerBytes);
  const bytes = await source.read(offset + chunk.headerBytes, end - chunk.headerBytes);

  const sections: Section[] = [];
  for (const [i, { coding, crc, offset: at, length }] of readable.entries()) {
    const content = bytes.subarray(at - chunk.headerBytes, at - chunk.headerBytes + length);
    if (content.length < length) return { sections, damage: `${name(i)} is cut off` };
    if (crc32c(content) !== crc) return { sections, damage: `${name(i)} does not fit its CRC32C` };
    sections.push({ coding, bytes: content });
  }
  return { sections, damage: tooLong < 0 ? null : `${name(tooLong)} claims more bytes than it can have` };
}

function endOf(sections: readonly SectionHeader[], start: number): number {
  const last = sections.at(-1);
  return last === undefined ? start : last.offset + last.length;
}
