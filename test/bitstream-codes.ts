// Codes for the tests of the bitstream.

import fc from "fast-check";
import type { Codes } from "../lib/index.js";
import { Random } from "../lib/random.js";

/** Codes[count][sizes.length] made code by code, stage by stage within a frame; `at` gives those made before. */
export function codesOf(
  count: number,
  codebookSizes: readonly number[],
  make: (stage: number, frame: number, at: (frame: number, stage: number) => number) => number,
): Codes {
  const stages = codebookSizes.length;
  const wide = codebookSizes.some((size) => size > 65_536);
  const data = wide ? new Uint32Array(count * stages) : new Uint16Array(count * stages);
  const at = (frame: number, stage: number) => data[frame * stages + stage];
  for (let frame = 0; frame < count; frame++) {
    for (let stage = 0; stage < stages; stage++) data[frame * stages + stage] = make(stage, frame, at);
  }
  return { count, stages, data };
}

/** One to six codebook sizes, small ones, round ones and any up to `largest`. */
export function sizesArbitrary(largest: number): fc.Arbitrary<number[]> {
  const size = fc.oneof(
    fc.integer({ min: 1, max: 9 }),
    fc.constantFrom(16, 255, 256, 257, 1024),
    fc.integer({ min: 1, max: largest }),
  );
  return fc.array(size, { minLength: 1, maxLength: 6 });
}

/** The codes with a stage count for every frame, from 0 to all, and zeros beyond it. */
export function countedCodes(codes: Codes, seed: number): Codes & { stageCounts: Uint16Array } {
  const { count, stages } = codes;
  const random = new Random(seed);
  const stageCounts = Uint16Array.from({ length: count }, () => random.below(stages + 1));
  const data = codes.data.map((code, i) => (i % stages < stageCounts[Math.floor(i / stages)] ? code : 0));
  return { count, stages, data, stageCounts };
}

/** Some frames of codes, with their stage counts where there are any. */
export function sliceCodes<Given extends Codes & { readonly stageCounts?: Uint16Array | null }>(
  codes: Given,
  firstFrame: number,
  count: number,
): Given {
  const end = firstFrame + count;
  const data = codes.data.slice(firstFrame * codes.stages, end * codes.stages);
  const stageCounts = codes.stageCounts?.slice(firstFrame, end) ?? null;
  return { ...codes, count, data, stageCounts };
}
