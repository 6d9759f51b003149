// Codes with stage counts decode frame by frame as their own numbers of stages do, and nothing else takes them for whole codes.

import { expect, it } from "vitest";
import { packCodes, ResidualQuantizer } from "../lib/index.js";
import { Random } from "../lib/random.js";

const dim = 3;
const random = new Random(1);
const codebooks = [5, 9, 4].map((size) => Float32Array.from({ length: size * dim }, () => random.fraction() - 0.5));
const rq = ResidualQuantizer.fromCodebooks(codebooks, { dim });
const vectors = Float32Array.from({ length: 50 * dim }, () => random.fraction() - 0.5);
const plain = rq.encodeSync(vectors);
const codes = { ...plain, stageCounts: Uint16Array.from({ length: 50 }, (_, frame) => frame % 4) };

it("decodes each frame from its own stages, and zeros from none", async () => {
  for (const stages of [1, 2, 3, undefined]) {
    const byStages = [1, 2, 3].map((n) => rq.decodeSync(plain, { stages: n }));
    const expected = Float32Array.from({ length: 50 * dim }, (_, i) => {
      const kept = Math.min(codes.stageCounts[Math.floor(i / dim)], stages ?? 3);
      return kept === 0 ? 0 : byStages[kept - 1][i];
    });
    expect(rq.decodeSync(codes, { stages })).toEqual(expected);
    expect(await rq.decode(codes, { stages })).toEqual(expected);
    const into = new Float32Array(50 * dim).fill(7);
    expect(await rq.decode(codes, { stages, into })).toBe(into);
    expect(into).toEqual(expected);
  }
});

it("refuses counts that do not fit, and codes with counts where every stage is wanted", () => {
  const decode = (stageCounts: unknown) => rq.decodeSync({ ...plain, stageCounts } as typeof codes);
  expect(() => decode(new Uint16Array(49))).toThrow(
    /codes\.stageCounts: expected a Uint16Array of 50, got Uint16Array\(49\)/,
  );
  expect(() => decode([1])).toThrow(/codes\.stageCounts: expected a Uint16Array of 50, got an array of 1/);
  expect(() => decode(new Uint16Array(50).fill(4))).toThrow(/codes\.stageCounts\[0\]: expected at most 3, got 4/);
  expect(() => rq.decodeSync(codes, { into: new Float32Array(3) })).toThrow(/into: expected .* 150 elements, got 3/);
  expect(() => rq.usage(codes)).toThrow(/codes\.stageCounts: expected none: every frame has all stages here/);
  expect(() => packCodes(codes, rq.codebookSizes)).toThrow(/codes\.stageCounts: expected none/);
});
