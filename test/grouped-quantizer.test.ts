// GroupedQuantizer against a ResidualQuantizer for each group, its code layout, its model bytes and its errors.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, expect, it } from "vitest";
import {
  type Codes,
  GroupedQuantizer,
  type GroupedTrainProgress,
  packCodes,
  ResidualQuantizer,
  RvqError,
  unpackCodes,
} from "../lib/index.js";
import { makeData } from "./contract/families.js";

const dim = 10;
const groups = [3, 5, 2];
const count = 200;
const { vectors } = makeData("gaussian", { count, dim, numCodewords: 1 }, 1);
const weights = Float32Array.from({ length: dim }, (_, i) => i % 4);
/** Codebooks of every group, of sizes that differ from stage to stage and from group to group. */
const codebooks = groups.map((width, group) =>
  [12, 7].map(
    (size, stage) => makeData("gaussian", { count: size + group, dim: width, numCodewords: 1 }, stage).vectors,
  ),
);
const starts = [0, 3, 8];

function part(matrix: Float32Array, group: number): Float32Array {
  const start = starts[group];
  return matrix.filter((_, i) => i % dim >= start && i % dim < start + groups[group]);
}

/** The codes of a group: columns group, group + 3, … */
const codesOf = ({ data, stages }: Codes, group: number) => data.filter((_, i) => (i % stages) % 3 === group);

async function errorOf(call: () => unknown): Promise<RvqError> {
  try {
    await call();
  } catch (error) {
    expect(error).toBeInstanceOf(RvqError);
    return error as RvqError;
  }
  throw new Error("the call did not fail");
}

describe("a grouped quantizer", () => {
  it.each([
    ["l2", undefined],
    ["l2", weights],
    ["cosine", undefined],
  ] as const)("encodes and decodes each group like a quantizer of its own (%s, weights %o)", async (metric, w) => {
    const options = { dim, metric, weights: w };
    const gq = GroupedQuantizer.fromCodebooks(codebooks, { ...options, groups });
    const beam = metric === "l2" ? 3 : 1;
    const codes = await gq.encode(vectors, { beam });
    expect(codes).toEqual(gq.encodeSync(vectors, { beam }));
    expect([codes.count, codes.stages]).toEqual([count, 6]);
    expect(gq.codebookSizes).toEqual([12, 13, 14, 7, 8, 9]);
    const fine = await gq.decode(codes);
    const coarse = await gq.decode(codes, { stages: 1 });
    expect(fine).toEqual(gq.decodeSync(codes));
    expect(coarse).toEqual(gq.decodeSync(codes, { stages: 1 }));
    for (const [group, width] of groups.entries()) {
      const own = w?.slice(starts[group], starts[group] + width);
      const rq = ResidualQuantizer.fromCodebooks(codebooks[group], { dim: width, metric, weights: own });
      const expected = await rq.encode(part(vectors, group), { beam });
      expect(codesOf(codes, group)).toEqual(expected.data);
      expect(part(fine, group)).toEqual(await rq.decode(expected));
      expect(part(coarse, group)).toEqual(await rq.decode(expected, { stages: 1 }));
    }
  });

  it("has codes whose first stages are codes of fewer stages", async () => {
    const gq = GroupedQuantizer.fromCodebooks(codebooks, { dim, groups });
    const codes = await gq.encode(vectors);
    const first = await gq.encode(vectors, { stages: 1 });
    expect(first.stages).toBe(3);
    expect(codes.data.filter((_, i) => i % 6 < 3)).toEqual(first.data);
    expect(await gq.decode(first)).toEqual(await gq.decode(codes, { stages: 1 }));
    expect(unpackCodes(packCodes(codes, gq.codebookSizes), count, gq.codebookSizes)).toEqual(codes);
  });

  it("encodes each group evenly like a quantizer of its own", async () => {
    const gq = GroupedQuantizer.fromCodebooks(codebooks, { dim, groups, weights });
    const capacity = [1.1, 1];
    const codes = await gq.encodeBalanced(vectors, { capacity });
    const first = await gq.encodeBalanced(vectors, { capacity: 1.1, stages: 1 });
    expect([codes.stages, first.stages]).toEqual([6, 3]);
    for (const [group, width] of groups.entries()) {
      const own = weights.slice(starts[group], starts[group] + width);
      const rq = ResidualQuantizer.fromCodebooks(codebooks[group], { dim: width, weights: own });
      expect(codesOf(codes, group)).toEqual((await rq.encodeBalanced(part(vectors, group), { capacity })).data);
    }
    expect(codes.data.filter((_, i) => i % 6 < 3)).toEqual(first.data);
    const bad = vectors.slice();
    bad[57] = NaN;
    expect((await errorOf(() => gq.encodeBalanced(bad))).message).toMatch(/NaN in row 5, column 7/);
  });

  it("measures the error of all dimensions together", async () => {
    const gq = GroupedQuantizer.fromCodebooks(codebooks, { dim, groups, weights });
    const codes = await gq.encode(vectors);
    for (const { stages, mse, distortion, snrDb } of await gq.distortion(vectors, codes)) {
      const decoded = await gq.decode(codes, { stages });
      let [error, weighted, energy] = [0, 0, 0];
      for (const [i, x] of vectors.entries()) {
        error += (x - decoded[i]) ** 2;
        weighted += weights[i % dim] * (x - decoded[i]) ** 2;
        energy += x * x;
      }
      expect(mse).toBeCloseTo(error / vectors.length, 9);
      expect(distortion).toBeCloseTo(weighted / count, 9);
      expect(snrDb).toBeCloseTo(10 * Math.log10(energy / error), 9);
    }
  });

  it("describes itself and how its codewords are used", async () => {
    const gq = GroupedQuantizer.fromCodebooks(codebooks, { dim, groups });
    const first = Math.log2(12 * 13 * 14);
    const both = first + Math.log2(7 * 8 * 9);
    expect(gq.bitsPerVector(1)).toBeCloseTo(first, 12);
    expect(gq.bitsPerVector()).toBeCloseTo(both, 12);
    expect(gq.describe({ frameRate: 75 })).toMatchObject({
      dim,
      groups,
      stages: 2,
      weighted: false,
      codebookBytes: 4 * (19 * 3 + 21 * 5 + 23 * 2),
      rates: [
        { stages: 1, packedBitsPerVector: 12 },
        { stages: 2, packedBitsPerVector: 12 + 3 + 3 + 4, bitsPerSecond: 75 * gq.bitsPerVector() },
      ],
    });
    const codes = await gq.encode(vectors);
    const usage = gq.usage(codes);
    expect(usage.map(({ counts }) => counts.length)).toEqual([12, 13, 14, 7, 8, 9]);
    const column = codes.data.filter((_, i) => i % 6 === 4);
    expect([...usage[4].counts]).toEqual(Array.from({ length: 8 }, (_, k) => column.filter((c) => c === k).length));
  });

  it("trains every group from its own seed, and refines it", async () => {
    const seen: GroupedTrainProgress[] = [];
    const options = { codebookSize: [8, 6], iterations: 4, weights };
    const onProgress = (progress: GroupedTrainProgress) => seen.push(progress);
    const gq = await GroupedQuantizer.train(vectors, { dim, groups, seed: 5, ...options, onProgress });
    const better = await gq.refine(vectors, { iterations: 2 });
    expect(new Set(seen.map(({ group }) => group))).toEqual(new Set([0, 1, 2]));
    for (const [group, width] of groups.entries()) {
      const own = weights.slice(starts[group], starts[group] + width);
      const rows = part(vectors, group);
      const rq = await ResidualQuantizer.train(rows, { ...options, dim: width, seed: 5 + group, weights: own });
      expect(gq.codebooks()[group]).toEqual(rq.codebooks());
      expect(better.codebooks()[group]).toEqual((await rq.refine(rows, { iterations: 2 })).codebooks());
    }
    expect(gq.weights()).toEqual(weights);
    const even = await GroupedQuantizer.train(vectors, { dim, groups: 5, codebookSize: 4, stages: 1 });
    expect(even.groups).toEqual([2, 2, 2, 2, 2]);
  });

  it("is the same after a way through bytes or a file", async () => {
    const folder = await mkdtemp(path.join(tmpdir(), "rvq-"));
    try {
      const gq = GroupedQuantizer.fromCodebooks(codebooks, { dim, groups, weights, metadata: { name: "x" } });
      const file = path.join(folder, "model.rvqg");
      await gq.save(file);
      for (const same of [GroupedQuantizer.fromBytes(gq.toBytes()), await GroupedQuantizer.load(file)]) {
        expect(same.id).toBe(gq.id);
        expect(same.metadata).toEqual({ name: "x" });
        expect(same.weights()).toEqual(weights);
        expect(same.encodeSync(vectors)).toEqual(gq.encodeSync(vectors));
      }
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it("refuses bytes that are not its model, whatever is damaged", async () => {
    const bytes = GroupedQuantizer.fromCodebooks(codebooks, { dim, groups }).toBytes();
    const rq = ResidualQuantizer.fromCodebooks(codebooks[0], { dim: 3 });
    for (let at = 0; at < bytes.length; at += 7) {
      const damaged = bytes.slice();
      damaged[at] ^= 1;
      expect((await errorOf(() => GroupedQuantizer.fromBytes(damaged))).code).toBe("INVALID_MODEL");
      const cut = bytes.slice(0, at);
      expect((await errorOf(() => GroupedQuantizer.fromBytes(cut))).code).toBe("INVALID_MODEL");
    }
    expect((await errorOf(() => GroupedQuantizer.fromBytes(rq.toBytes()))).code).toBe("INVALID_MODEL");
    expect((await errorOf(() => ResidualQuantizer.fromBytes(bytes))).code).toBe("INVALID_MODEL");
  });

  it("finishes a call that is under way when it is disposed", async () => {
    const gq = GroupedQuantizer.fromCodebooks(codebooks, { dim, groups });
    const many = new Float32Array(dim * 500_000).fill(1);
    const call = gq.encode(many);
    gq.dispose();
    expect((await call).count).toBe(500_000);
    expect((await errorOf(() => gq.encodeSync(vectors))).code).toBe("DISPOSED");
  });

  it("refuses bad arguments, by name and place", async () => {
    const gq = GroupedQuantizer.fromCodebooks(codebooks, { dim, groups });
    const cosine = GroupedQuantizer.fromCodebooks(codebooks, { dim, groups, metric: "cosine" });
    const bad = vectors.slice();
    bad[57] = NaN;
    const zero = vectors.slice().fill(0, 43, 48);
    const make = (options: object, given: unknown = codebooks) =>
      GroupedQuantizer.fromCodebooks(given as never, { dim, groups, ...options });
    const cases: [() => unknown, string, RegExp][] = [
      [() => make({ groups: 3 }), "INVALID_ARGUMENT", /groups: expected a divisor of dim 10.*got 3/],
      [() => make({ groups: [5, 4] }), "INVALID_ARGUMENT", /groups: expected widths that add up to dim 10, got 9/],
      [() => make({ groups: [10, 0] }), "INVALID_ARGUMENT", /groups\[1\]/],
      [() => make({ groups: undefined }), "INVALID_ARGUMENT", /groups/],
      [() => make({}, codebooks.slice(1)), "INVALID_ARGUMENT", /codebooks: expected an array of 3/],
      [() => make({}, [codebooks[0], codebooks[1], codebooks[2].slice(1)]), "INVALID_ARGUMENT", /2 stages/],
      [() => make({ weights: new Float32Array(3) }), "INVALID_ARGUMENT", /weights/],
      [() => GroupedQuantizer.fromCodebooks(codebooks, undefined as never), "INVALID_ARGUMENT", /options/],
      [() => gq.encode(bad), "NOT_FINITE", /NaN in row 5, column 7/],
      [() => gq.encodeSync(bad), "NOT_FINITE", /NaN in row 5, column 7/],
      [() => GroupedQuantizer.train(bad, { dim, groups }), "NOT_FINITE", /NaN in row 5, column 7/],
      [() => gq.refine(bad), "NOT_FINITE", /NaN in row 5, column 7/],
      [() => cosine.encode(zero), "ZERO_VECTOR", /vectors, group 1: .*row 4/],
      [() => cosine.encode(vectors, { beam: 2 }), "INVALID_ARGUMENT", /beam/],
      [() => gq.encode(vectors, { stages: 3 }), "INVALID_ARGUMENT", /stages/],
      [() => gq.encode(new Float32Array(9)), "INVALID_ARGUMENT", /multiple of dim 10/],
      [() => gq.decode({ count: 1, stages: 4, data: new Uint16Array(4) }), "INVALID_ARGUMENT", /multiple of the 3/],
      [
        () => gq.decode({ count: 2, stages: 3, data: Uint16Array.of(0, 0, 0, 0, 13, 0) }),
        "CODE_OUT_OF_RANGE",
        /stage 1 below its codebook size 13, got 13 in row 1/,
      ],
      [() => gq.usage({ count: 1, stages: 3, data: Uint16Array.of(12, 0, 0) }), "CODE_OUT_OF_RANGE", /got 12/],
      [() => gq.distortion(vectors, gq.encodeSync(vectors.slice(10))), "INVALID_ARGUMENT", /vectors/],
    ];
    for (const [call, code, message] of cases) {
      const error = await errorOf(call);
      expect(error.message).toMatch(message);
      expect(error.code).toBe(code);
    }
  });
});
