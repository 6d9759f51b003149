// Drops the last stages of a `.rvq` file without decoding a code: the sections of the first ones are copied.

import { checkInteger } from "../check.js";
import { RvqError } from "../errors.js";
import { type ByteSource, openSource } from "./byte-source.js";
import { chunkToBytes } from "./chunk.js";
import type { CodeTables } from "./code-tables.js";
import { type ChunkPlace, indexToBytes } from "./index-block.js";
import { openStream } from "./open-stream.js";
import { readChunkHeader, readSections } from "./read-chunk.js";
import { headerTag, headerToBytes } from "./stream-header.js";

/**
 * The bytes of a `.rvq` file with the first `stages` stages of another, in pieces: `writeFileAtomic(path, trimRvq(…))`. Every checksum
 * is checked on the way.
 * @throws RvqError INVALID_STREAM for a damaged file, INVALID_ARGUMENT, IO
 */
export async function* trimRvq(
  input: string | URL | Uint8Array | ByteSource,
  stages: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  const { name, source } = await openSource(input);
  try {
    const { file, chunks, summary, damage } = await openStream(name, source);
    const { codebookSizes, tables } = file.header;
    checkInteger("stages", stages, 1, codebookSizes.length);
    if (summary === null) throw damagedFile(name, damage[0].message);

    const kept = codebookSizes.slice(0, stages);
    const header = headerToBytes({ ...file.header, codebookSizes: kept, tables: firstTables(tables, stages) });
    yield header;
    const places: ChunkPlace[] = [];
    let offset = header.length;
    for (const [i, place] of chunks.entries()) {
      const what = `chunk ${i} (frames ${place.firstFrame} to ${place.firstFrame + place.frames - 1})`;
      const chunk = await readChunkHeader(file, place.offset);
      if (chunk === null || chunk.firstFrame !== place.firstFrame || chunk.frames !== place.frames) {
        throw damagedFile(name, `${what}: its header is damaged`);
      }
      const { sections, damage: found } = await readSections(file, place.offset, chunk, stages);
      if (found !== null) throw damagedFile(name, `${what}: ${found}`);
      const bytes = chunkToBytes({ ...chunk, stages }, sections, headerTag(header));
      yield bytes;
      places.push({ ...place, offset });
      offset += bytes.length;
    }
    yield indexToBytes({ chunks: places, header, summary });
  } finally {
    await source.close?.();
  }
}

function firstTables(tables: CodeTables | null, stages: number): CodeTables | null {
  if (tables === null) return null;
  return { codebookSizes: tables.codebookSizes.slice(0, stages), nodes: tables.nodes.slice(0, stages) };
}

function damagedFile(name: string, what: string): RvqError {
  return new RvqError("INVALID_STREAM", `${name}: expected a sound file to trim, got damage: ${what}`);
}
