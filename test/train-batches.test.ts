// Mini-batch training: the same bytes however the data is cut and wherever it runs, and nearly as good as training on all.

import { describe, expect, it } from "vitest";
import { type BatchTrainProgress, ResidualQuantizer, RvqError } from "../lib/index.js";
import { candidates, withForm } from "./contract/backends.js";
import { makeData } from "./contract/families.js";

const dim = 8;
const count = 6000;
const { vectors } = makeData("correlated", { count, dim, numCodewords: 1 }, 3);
const options = { dim, codebookSize: [24, 16], seed: 7, iterations: 8, sampleSize: 900, batchSize: 500 };

/** Passes over rows of the vectors, `rows` at a time, asynchronously. */
function source(rows: number, data = vectors) {
  return async function* () {
    for (let start = 0; start < data.length; start += rows * dim) {
      await Promise.resolve();
      yield data.subarray(start, start + rows * dim);
    }
  };
}

async function errorOf(call: () => Promise<unknown>): Promise<RvqError> {
  try {
    await call();
  } catch (error) {
    expect(error).toBeInstanceOf(RvqError);
    return error as RvqError;
  }
  throw new Error("the call did not fail");
}

describe("training from batches", () => {
  it.each(["l2", "cosine"] as const)("gives the same bytes for any cut and on every backend (%s)", async (metric) => {
    const ids = new Map<string, string>();
    for (const { title, name, form, available } of candidates) {
      if (!available) continue;
      const choice = { ...options, metric, backend: name };
      for (const rows of name === "js" ? [500] : [1, 77, 500, count]) {
        const rq = await withForm(form, () => ResidualQuantizer.trainFromBatches(source(rows), choice));
        ids.set(`${title}, ${rows} rows`, rq.id);
      }
    }
    expect(new Set(ids.values()).size, JSON.stringify([...ids])).toBe(1);
    const plain = await ResidualQuantizer.trainFromBatches(() => [vectors], { ...options, metric });
    expect(ids.values().next().value).toBe(plain.id);
  });

  it.each([2, 3])("refuses residuals that overflow on every backend, the last stage's too (of %d)", async (stages) => {
    const far = [Float32Array.of(3.4e38), Float32Array.of(-3.4e38)];
    for (const { name, form, available } of candidates) {
      if (!available) continue;
      const choice = { dim: 1, codebookSize: 1, stages, sampleSize: 1, batchSize: 1, backend: name };
      const train = () => ResidualQuantizer.trainFromBatches(() => far, choice);
      const error = await errorOf(() => withForm(form, train));
      expect([error.code, error.message]).toEqual(["INVALID_ARGUMENT", expect.stringMatching(/^vectors: .*overflow/)]);
    }
  });

  it("comes close to training on all data, and closer than the sample alone", async () => {
    const snr = async (rq: ResidualQuantizer) => (await rq.distortion(vectors, await rq.encode(vectors)))[1].snrDb;
    const all = await snr(await ResidualQuantizer.train(vectors, { ...options, iterations: 20 }));
    const batches = await snr(await ResidualQuantizer.trainFromBatches(source(500), { ...options, passes: 3 }));
    const sample = await snr(await ResidualQuantizer.trainFromBatches(source(500), { ...options, passes: 0 }));
    expect(batches).toBeGreaterThan(all - 0.25);
    expect(batches).toBeGreaterThan(sample + 0.05);
  });

  it("is training as always where the sample holds all data", async () => {
    const all = { ...options, sampleSize: count };
    const rq = await ResidualQuantizer.trainFromBatches(source(100), all);
    expect(rq.id).toBe((await ResidualQuantizer.train(vectors, all)).id);
  });

  it("moves a codeword by the share of its new vectors", async () => {
    // Sample: the first two rows. Codeword 3 of {2, 4}; then the batch {9, 9}: 3 + (9 − 3) · 2 / 4.
    const data = Float32Array.of(2, 4, 9, 9);
    const one = { dim: 1, codebookSize: 1, stages: 1, sampleSize: 2, batchSize: 2, passes: 1 };
    const seen: BatchTrainProgress[] = [];
    const onProgress = (progress: BatchTrainProgress) => seen.push(progress);
    const rq = await ResidualQuantizer.trainFromBatches(() => [data], { ...one, onProgress });
    expect(seen.map(({ stage, rows }) => [stage, rows])).toEqual([
      [-1, 2],
      [-1, 4],
      [0, 2],
      [0, 4],
    ]);
    // Whatever rows the sample held, with mean c: two batches move it to (2c + 6) / 4 and then to (4c' + 18) / 6.
    const means = [3, 5.5, 6.5, 9].map((c) => (4 * ((2 * c + 6) / 4) + 18) / 6);
    expect(means.some((mean) => Math.abs(mean - rq.codebooks()[0][0]) < 1e-6)).toBe(true);
  });

  it("refuses what it cannot use, and passes on what the source throws", async () => {
    const train = (given: unknown, more: object = {}) =>
      ResidualQuantizer.trainFromBatches(given as never, { ...options, ...more });
    const bad = vectors.slice();
    bad[700 * dim + 3] = Infinity;
    const cases: [() => Promise<unknown>, string, RegExp][] = [
      [() => train([vectors]), "INVALID_ARGUMENT", /source: expected a function/],
      [() => train(() => []), "INVALID_ARGUMENT", /source: expected at least one vector/],
      [() => train(() => [new Float64Array(8)]), "INVALID_ARGUMENT", /batch of source: expected a Float32Array/],
      [() => train(() => [new Float32Array(9)]), "INVALID_ARGUMENT", /multiple of dim 8/],
      [() => train(source(100, bad)), "NOT_FINITE", /row 700, column 3/],
      [() => train(() => [new Float32Array(8)], { metric: "cosine" }), "ZERO_VECTOR", /row 0/],
      [() => train(source(9), { batchSize: 0 }), "INVALID_ARGUMENT", /batchSize/],
      [() => train(source(9), { passes: -1 }), "INVALID_ARGUMENT", /passes/],
      [() => train(source(9), { dim: 0 }), "INVALID_ARGUMENT", /dim/],
      [() => ResidualQuantizer.trainFromBatches(source(9), undefined as never), "INVALID_ARGUMENT", /options/],
    ];
    for (const [call, code, message] of cases) {
      const error = await errorOf(call);
      expect(error.message).toMatch(message);
      expect(error.code).toBe(code);
    }
    let passes = 0;
    const shrinking = () => [passes++ === 0 ? vectors : vectors.subarray(8)];
    expect((await errorOf(() => train(shrinking))).message).toMatch(/6000 vectors in every pass, got 5999/);
    await expect(
      train(() => {
        throw new Error("disk on fire");
      }),
    ).rejects.toThrow("disk on fire");
    await expect(train(source(9), { signal: AbortSignal.abort(new Error("enough")) })).rejects.toThrow("enough");
  });
});
