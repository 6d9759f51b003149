// Accumulation and k-means++ distances of every backend against the definition, and trained codebooks across backends.

import { describe, expect, it } from "vitest";
import { newCodeArray } from "../../lib/code-array.js";
import { Random } from "../../lib/random.js";
import { ResidualQuantizer } from "../../lib/residual-quantizer.js";
import { gridExponentFor } from "../../lib/statistics.js";
import type { TrainOptions } from "../../lib/train.js";
import { candidates, expectSame, withForm } from "./backends.js";
import { familyNames, makeData, withoutZeroRows } from "./families.js";
import { d64, sums } from "./reference.js";

const shape = { count: 700, dim: 13, numCodewords: 17 };

for (const candidate of candidates) {
  describe.skipIf(!candidate.available)(`statistics on ${candidate.title}`, () => {
    for (const family of familyNames) {
      it(`sums and distances equal the definition on ${family} data`, async () => {
        const { vectors, codebook } = makeData(family, shape, 21);
        const { count, dim, numCodewords } = shape;
        const random = new Random(4);
        const codes = newCodeArray(count, [numCodewords]).map(() => random.below(numCodewords - 1));
        const gridExponents = Int32Array.from({ length: dim }, (_, i) => {
          let magnitude = 0;
          for (let n = 0; n < count; n++) magnitude = Math.max(magnitude, Math.abs(vectors[n * dim + i]));
          return gridExponentFor(magnitude, count);
        });

        for (const threads of [1, 2]) {
          const backend = candidate.open(threads);
          const context = { backend: candidate.name, family, threads, ...shape };
          const counts = new Float64Array(numCodewords);
          const total = new Float64Array(numCodewords * dim);
          // In two unequal calls: the outputs are added to.
          for (const [from, to] of [
            [0, 233],
            [233, count],
          ]) {
            await backend.accumulate({
              vectors: vectors.subarray(from * dim, to * dim),
              count: to - from,
              dim,
              codes: codes.subarray(from, to),
              numCodewords,
              gridExponents,
              counts,
              sums: total,
            });
          }
          const expected = sums(vectors, codes, numCodewords, dim, gridExponents);
          expect(Array.from(total, BigInt), JSON.stringify(context)).toEqual(expected);
          expect(counts[numCodewords - 1]).toBe(0);
          expect(counts.reduce((a, b) => a + b, 0)).toBe(count);

          for (const weights of [null, Float32Array.from({ length: dim }, (_, i) => i / 3)]) {
            const distances = new Float64Array(count).fill(Infinity);
            const centres = [0, 1, 2].map((k) => codebook.subarray(k * dim, (k + 1) * dim));
            for (const centre of centres)
              await backend.lowerDistances({ vectors, count, dim, weights, centre, distances });
            const smallest = Array.from({ length: count }, (_, n) =>
              Math.min(...centres.map((c) => d64(vectors.subarray(n * dim, (n + 1) * dim), c, weights))),
            );
            expectSame(distances, smallest, { ...context, weighted: weights !== null });
          }
        }
      });
    }
  });
}

describe("trained models", () => {
  const available = candidates.filter((candidate) => candidate.available);
  const trainAll = async (vectors: Float32Array, options: TrainOptions) => {
    const models: { title: string; bytes: Uint8Array }[] = [];
    for (const { name, title, form } of available) {
      for (const threads of name === "js" ? [1] : [1, 2]) {
        // The backend is opened before the first pause.
        const rq = await withForm(form, () => ResidualQuantizer.train(vectors, { ...options, backend: name, threads }));
        models.push({ title: `${title} with ${threads} threads`, bytes: rq.toBytes() });
      }
    }
    return models;
  };

  for (const family of familyNames) {
    it(`are the same bytes on every backend for ${family} data`, async () => {
      const data = makeData(family, { count: 400, dim: 9, numCodewords: 30 }, 5);
      // Residuals of numbers near the limit overflow float32, which training refuses.
      const scale = family === "near overflow" ? 0.25 : 1;
      const vectors = withoutZeroRows(data.vectors, 9).map((x) => x * scale);
      for (const metric of ["l2", "cosine"] as const) {
        const options = { dim: 9, codebookSize: [16, 9], metric, iterations: 6, seed: 3 };
        const models = await trainAll(vectors, options);
        for (const { title, bytes } of models) {
          expect(Buffer.compare(bytes, models[0].bytes), `${family}, ${metric}: ${title} and ${models[0].title}`).toBe(
            0,
          );
        }
      }
    });
  }

  it("are the same with weights, random seeding and k-means++ on a sample", async () => {
    const { vectors } = makeData("gaussian", { count: 600, dim: 8, numCodewords: 1 }, 6);
    const weights = Float32Array.from({ length: 8 }, (_, i) => i);
    for (const init of ["random", "k-means++"] as const) {
      const models = await trainAll(vectors, {
        dim: 8,
        codebookSize: 20,
        stages: 2,
        weights,
        init,
        sampleSize: 100,
        iterations: 4,
      });
      for (const { bytes } of models) expect(Buffer.compare(bytes, models[0].bytes)).toBe(0);
    }
  });
});
