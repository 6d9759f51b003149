// Balanced codes and balanced k-means against their definition in plain arrays, with the same bytes on every backend.

import { describe, expect, it } from "vitest";
import { ResidualQuantizer, RvqError } from "../../lib/index.js";
import { nthSmallest } from "../../lib/nth-smallest.js";
import { Random } from "../../lib/random.js";
import { runToEnd } from "../../lib/time-slice.js";
import { candidates, expectSame, withForm } from "./backends.js";
import { familyNames, makeData, makeStages, type Shape } from "./families.js";
import { d64 } from "./reference.js";

const shape: Shape = { count: 300, dim: 9, numCodewords: 21 };
const { count, dim } = shape;
const row = (matrix: Float32Array, n: number) => matrix.subarray(n * dim, (n + 1) * dim);

/** docs/training.md, with all N × K distances in memory. */
function balanced(vectors: Float32Array, codebook: Float32Array, weights: Float32Array | null, room: number): number[] {
  const numCodewords = codebook.length / dim;
  const distances = Array.from({ length: vectors.length / dim }, (_, n) =>
    Array.from({ length: numCodewords }, (_, k) => d64(row(vectors, n), row(codebook, k), weights)),
  );
  const nearest = (n: number, among: readonly number[]) =>
    among.reduce((best, k) => (distances[n][k] < distances[n][best] ? k : best));
  const all = Array.from({ length: numCodewords }, (_, k) => k);
  const codes = distances.map((_, n) => nearest(n, all));
  for (;;) {
    const members = all.map((k) => codes.flatMap((code, n) => (code === k ? [n] : [])));
    const open = all.filter((k) => members[k].length < room);
    if (members.every((rows) => rows.length <= room)) return codes;
    for (const [k, rows] of members.entries()) {
      if (rows.length <= room) continue;
      const moves = rows.map((n) => ({ n, to: nearest(n, open), regret: 0 }));
      for (const move of moves) move.regret = distances[move.n][move.to] - distances[move.n][k];
      moves.sort((a, b) => a.regret - b.regret || a.n - b.n);
      for (const { n, to } of moves.slice(0, rows.length - room)) codes[n] = to;
    }
  }
}

function largest(codes: ArrayLike<number>, stages: number, stage: number): number {
  const counts = new Map<number, number>();
  for (let i = stage; i < codes.length; i += stages) counts.set(codes[i], (counts.get(codes[i]) ?? 0) + 1);
  return Math.max(...counts.values());
}

describe("balanced codes", () => {
  it.each(familyNames)("are those of the definition, on every backend, for %s data", async (family) => {
    const data = makeData(family, shape, 1);
    // Residuals of numbers near the limit overflow float32, which balanced codes refuse.
    const scale = family === "near overflow" ? 0.125 : 1;
    const vectors = data.vectors.map((x) => x * scale);
    const codebooks = makeStages(data, shape, 2, 1).map((codebook) => codebook.map((x) => x * scale));
    for (const w of [null, Float32Array.from({ length: dim }, (_, i) => i % 3)]) {
      for (const capacity of [1, 1.4]) {
        const [room, secondRoom] = codebooks.map((codebook) => Math.ceil((capacity * count * dim) / codebook.length));
        const first = balanced(vectors, codebooks[0], w, room);
        const residuals = vectors.map((x, at) => x - codebooks[0][first[Math.floor(at / dim)] * dim + (at % dim)]);
        const second = balanced(residuals, codebooks[1], w, secondRoom);
        const expected = first.flatMap((code, n) => [code, second[n]]);
        expect(largest(expected, 2, 0)).toBeLessThanOrEqual(room);
        for (const { name, title, form, available } of candidates) {
          for (const threads of available ? [1, 2] : []) {
            const rq = withForm(form, () =>
              ResidualQuantizer.fromCodebooks(codebooks, { dim, weights: w ?? undefined, backend: name, threads }),
            );
            const { data: codes } = await withForm(form, () => rq.encodeBalanced(vectors, { capacity }));
            expectSame(codes, expected, { title, threads, family, capacity, weighted: w !== null });
          }
        }
      }
    }
  });

  it("spread even what is all the same", async () => {
    const rq = ResidualQuantizer.fromCodebooks([new Float32Array(4), Float32Array.of(1, 2, 3)], { dim: 1 });
    const { data } = await rq.encodeBalanced(new Float32Array(12));
    // Codes of four equal codewords, three rows each, the first rows on the move first; then the next best of 1, 2 and 3.
    expect([...data.filter((_, i) => i % 2 === 0)]).toEqual([3, 3, 3, 2, 2, 2, 1, 1, 1, 0, 0, 0]);
    expect([...data.filter((_, i) => i % 2 === 1)]).toEqual([2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0]);
  });

  it("are the nearest ones where capacity allows, and take a limit for each stage", async () => {
    const data = makeData("gaussian", shape, 2);
    const rq = ResidualQuantizer.fromCodebooks(makeStages(data, shape, 3, 1), { dim });
    const greedy = await rq.encode(data.vectors);
    expect(await rq.encodeBalanced(data.vectors, { capacity: Infinity })).toEqual(greedy);
    expect(await rq.encodeBalanced(data.vectors, { capacity: 21 })).toEqual(greedy);
    const codes = await rq.encodeBalanced(data.vectors, { capacity: [Infinity, 1], stages: 2 });
    expect(codes.data.filter((_, i) => i % 2 === 0)).toEqual(greedy.data.filter((_, i) => i % 3 === 0));
    expect(largest(codes.data, 2, 1)).toBe(Math.ceil(300 / rq.codebookSizes[1]));
    expect(await rq.encodeBalanced(new Float32Array(0))).toEqual({ count: 0, stages: 3, data: new Uint16Array(0) });
  });

  it("leave the vectors alone, stop at the signal, and refuse what they cannot use", async () => {
    const data = makeData("gaussian", shape, 2);
    const vectors = data.vectors.slice();
    const rq = ResidualQuantizer.fromCodebooks(makeStages(data, shape, 2, 1), { dim });
    await rq.encodeBalanced(vectors);
    expect(vectors).toEqual(data.vectors);
    const signal = AbortSignal.abort(new Error("enough"));
    await expect(rq.encodeBalanced(vectors, { signal })).rejects.toThrow("enough");
    for (const capacity of [0.99, NaN, -1, "1", [1], [1, 0]]) {
      await expect(rq.encodeBalanced(vectors, { capacity: capacity as number })).rejects.toThrow(/capacity/);
    }
    vectors[5 * dim + 3] = NaN;
    await expect(rq.encodeBalanced(vectors)).rejects.toThrow(/row 5, column 3/);
    const cosine = ResidualQuantizer.fromCodebooks([data.codebook], { dim, metric: "cosine" });
    await expect(cosine.encodeBalanced(data.vectors)).rejects.toThrow(/metric "cosine"/);
    rq.dispose();
    await expect(rq.encodeBalanced(data.vectors)).rejects.toThrow(RvqError);
  });
});

describe("balanced k-means", () => {
  it("moves codewords to the means of balanced clusters, each stage on what those leave", async () => {
    const data = makeData("gaussian", shape, 3);
    const init = makeStages(data, shape, 2, 2);
    const options = { dim, init, iterations: 1, minClusterSize: 1, capacity: 1 };
    const codebooks = (await ResidualQuantizer.train(data.vectors, options)).codebooks();
    let residuals = data.vectors;
    for (const [stage, codebook] of codebooks.entries()) {
      const room = Math.ceil((count * dim) / codebook.length);
      const codes = balanced(residuals, init[stage], null, room);
      for (let at = 0; at < codebook.length; at++) {
        const members = codes.flatMap((code, n) => (code === Math.floor(at / dim) ? [n] : []));
        const mean = members.reduce((sum, n) => sum + residuals[n * dim + (at % dim)], 0) / members.length;
        expect(Math.abs(codebook[at] - mean), `stage ${stage}, element ${at}`).toBeLessThan(1e-6);
      }
      const left = balanced(residuals, codebook, null, room);
      residuals = residuals.map((x, at) => x - codebook[left[Math.floor(at / dim)] * dim + (at % dim)]);
    }
  });

  it.each(["clustered", "integer grid", "gaussian"])("gives the same bytes on every backend (%s)", async (family) => {
    const { vectors } = makeData(family, { ...shape, count: 700 }, 4);
    const weights = Float32Array.from({ length: dim }, (_, i) => 1 + (i % 3));
    const options = { dim, codebookSize: [13, 9], iterations: 6, seed: 3, capacity: [1.1, 1], weights };
    const ids = new Map<string, string>();
    for (const { name, title, form, available } of candidates) {
      for (const threads of available ? [1, 2] : []) {
        const rq = await withForm(form, () => ResidualQuantizer.train(vectors, { ...options, backend: name, threads }));
        ids.set(`${title}, ${threads} threads`, rq.id);
      }
    }
    expect(new Set(ids.values()).size, JSON.stringify([...ids])).toBe(1);
  });

  it("serves even codes better than k-means does", async () => {
    // Two dense clumps of 45 % each and a thin spread.
    const random = new Random(1);
    const vectors = Float32Array.from({ length: 4000 * 2 }, (_, at) => {
      const place = Math.floor(at / 2) % 20;
      return place === 0 ? 20 * random.fraction() : (place % 2) * 10 + random.fraction();
    });
    const options = { dim: 2, codebookSize: 16, stages: 1, seed: 1 };
    const plain = await ResidualQuantizer.train(vectors, options);
    const even = await ResidualQuantizer.train(vectors, { ...options, capacity: 1 });
    const codes = await even.encodeBalanced(vectors);
    expect(largest(codes.data, 1, 0)).toBe(250);
    const counts = even.usage(codes)[0].counts;
    expect([...counts]).toEqual(new Array(16).fill(250));
    const error = async (rq: ResidualQuantizer) =>
      (await rq.distortion(vectors, await rq.encodeBalanced(vectors)))[0].mse;
    expect(await error(even)).toBeLessThan(0.8 * (await error(plain)));
    const unlimited = await ResidualQuantizer.train(vectors, { ...options, capacity: Infinity });
    expect(unlimited.id).toBe(plain.id);
  });

  it("refuses what would undo it", async () => {
    const { vectors } = makeData("gaussian", shape, 1);
    const options = { dim, codebookSize: 4, stages: 2, capacity: 1 };
    for (const [more, message] of [
      [{ refinements: 1 }, /refinements/],
      [{ beam: 2 }, /refinements/],
      [{ metric: "cosine" }, /metric "cosine"/],
      [{ capacity: 0.5 }, /capacity/],
      [{ capacity: [1, 1, 1] }, /capacity/],
    ] as const) {
      await expect(ResidualQuantizer.train(vectors, { ...options, ...more } as never)).rejects.toThrow(message);
    }
    const batches = ResidualQuantizer.trainFromBatches(() => [vectors], options as never);
    await expect(batches).rejects.toThrow(/capacity/);
  });
});

describe("the number at a place", () => {
  it("is that of the sorted numbers", () => {
    const random = new Random(5);
    for (const [length, different] of [
      [1, 1],
      [2, 2],
      [100, 3],
      [1000, 1],
      [3000, 2 ** 40],
    ]) {
      const values = Float64Array.from({ length }, () => random.below(different) - different / 2);
      const sorted = values.slice().sort();
      for (const n of [0, length >> 1, length - 1]) expect(runToEnd(nthSmallest(values, n))).toBe(sorted[n]);
    }
  });
});
