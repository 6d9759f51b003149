// All that is intact of a damaged `.rvq` file.

import { newCodeArray } from "../code-array.js";
import type { Frames } from "./chunk.js";
import type { ReadOptions, RvqReader } from "./reader.js";

/** The codes of all frames, with fewer stages or none where they are damaged, and what is damaged of them, a sentence each. */
export async function readIntact(
  reader: RvqReader,
  options: ReadOptions & { readonly stages: number },
): Promise<{ codes: Frames; damage: string[] }> {
  const { stages } = options;
  const damage: string[] = [];
  const count = reader.frameCount;
  const data = newCodeArray(count * stages, reader.header.codebookSizes);
  const stageCounts = new Uint16Array(count);
  for await (const chunk of reader.chunks(options)) {
    if (chunk.damage !== null) damage.push(chunk.damage.message);
    if (chunk.codes === null) continue;
    for (let i = 0; i < chunk.count; i++) {
      const frame = chunk.firstFrame + i;
      const { stages: intact } = chunk.codes;
      stageCounts[frame] = chunk.codes.stageCounts?.[i] ?? intact;
      data.set(chunk.codes.data.subarray(i * intact, (i + 1) * intact), frame * stages);
    }
  }
  return { codes: { count, stages, data, stageCounts }, damage };
}
