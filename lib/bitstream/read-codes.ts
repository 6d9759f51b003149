// All codes of a `.rvq` file, and what is damaged of it.

import { newCodeArray } from "../code-array.js";
import type { Frames } from "./chunk.js";
import type { ReadOptions, RvqReader } from "./reader.js";

export interface ReadCodesOptions extends ReadOptions {
  readonly stages: number;
  /** Whether frames that are damaged come too, with the stages that are intact or none. */
  readonly recover: boolean;
}

/**
 * The codes of all frames, and what is damaged, a sentence each.
 * @throws RvqError INVALID_STREAM for damaged codes, unless `recover` is set
 */
export async function readCodes(
  reader: RvqReader,
  { recover, ...options }: ReadCodesOptions,
): Promise<{ codes: Frames; damage: string[] }> {
  const damage = reader.damage.map(({ message }) => message);
  if (!recover) return { codes: await reader.read(options), damage };
  const { stages } = options;
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
