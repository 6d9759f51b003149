// Joint refinement against its formula, on every backend with the same bytes; and that it does what it is for.

import { describe, expect, it } from "vitest";
import { type RefineProgress, ResidualQuantizer, RvqError } from "../../lib/index.js";
import { candidates, withForm } from "./backends.js";
import { familyNames, makeData, makeStages, type Shape, withoutZeroRows } from "./families.js";
import { encodeBeam } from "./reference.js";

const shape: Shape = { count: 300, dim: 9, numCodewords: 20 };
const { count, dim } = shape;

/** One refinement in float64: two passes, each codebook in turn the (shrunken) means of what the others leave. */
function refined(
  vectors: Float32Array,
  codebooks: readonly Float32Array[],
  codes: readonly number[],
  shrinkage: number,
): Float64Array[] {
  const stages = codebooks.length;
  const fitted = codebooks.map((codebook) => Float64Array.from(codebook));
  for (let turn = 0; turn < 2 * stages; turn++) {
    const stage = turn % stages;
    const targets = Float64Array.from(vectors, (x, at) => {
      const [n, i] = [Math.floor(at / dim), at % dim];
      return fitted.reduce((t, c, s) => (s === stage ? t : t - c[codes[n * stages + s] * dim + i]), x);
    });
    const codebook = fitted[stage];
    const before = codebook.slice();
    codebook.fill(0);
    const members = new Float64Array(codebook.length / dim);
    for (let n = 0; n < count; n++) {
      members[codes[n * stages + stage]]++;
      for (let i = 0; i < dim; i++) codebook[codes[n * stages + stage] * dim + i] += targets[n * dim + i];
    }
    for (const [at, sum] of codebook.entries()) {
      const n = members[Math.floor(at / dim)];
      const mean = targets.reduce((total, t, j) => (j % dim === at % dim ? total + t : total), 0) / count;
      codebook[at] = n === 0 ? before[at] : (sum + shrinkage * mean) / (n + shrinkage);
    }
  }
  return fitted;
}

describe("joint refinement", () => {
  it("moves every codebook to the means of what the others leave", async () => {
    const data = makeData("gaussian", shape, 1);
    const codebooks = makeStages(data, shape, 3, 1);
    const rq = ResidualQuantizer.fromCodebooks(codebooks, { dim, backend: "js" });
    for (const [beam, shrinkage] of [
      [1, 0],
      [4, 1.5],
    ]) {
      const { codes } = encodeBeam(data.vectors, codebooks, dim, null, beam);
      const expected = refined(data.vectors, codebooks, codes, shrinkage);
      const better = await rq.refine(data.vectors, { iterations: 1, beam, shrinkage });
      for (const [stage, codebook] of better.codebooks().entries()) {
        const off = codebook.findIndex((c, at) => !(Math.abs(c - expected[stage][at]) < 1e-5));
        expect(off, `beam ${beam}, stage ${stage}: ${codebook[off]}, not ${expected[stage][off]}`).toBe(-1);
      }
    }
  });

  it("lowers the error of all stages, and says so", async () => {
    const { vectors } = makeData("correlated", { ...shape, count: 2000 }, 2);
    const rq = await ResidualQuantizer.train(vectors, { dim, codebookSize: 16, stages: 4, iterations: 5, seed: 1 });
    const seen: RefineProgress[] = [];
    const better = await rq.refine(vectors, { iterations: 5, beam: 5, onProgress: (progress) => seen.push(progress) });
    const error = async (quantizer: ResidualQuantizer) =>
      (await quantizer.distortion(vectors, await quantizer.encode(vectors, { beam: 5 })))[3].mse;
    expect(seen.map(({ iteration, iterations }) => [iteration, iterations])).toEqual(
      [0, 1, 2, 3, 4].map((i) => [i, 5]),
    );
    const before = await error(rq);
    expect(seen[0].mse).toBeCloseTo(before, 6);
    expect(await error(better)).toBeLessThan(0.9 * before);
    expect(better.id).not.toBe(rq.id);
  });

  it("is what training does in the end where it is asked to", async () => {
    const { vectors } = makeData("gaussian", { ...shape, count: 500 }, 3);
    const options = { dim, codebookSize: 8, stages: 3, iterations: 4, seed: 2, shrinkage: 0.5 };
    const rq = await ResidualQuantizer.train(vectors, options);
    const later = await rq.refine(vectors, { iterations: 2, beam: 3, shrinkage: 0.5 });
    const stages: number[] = [];
    const onProgress = ({ stage }: { stage: number }) => stages.push(stage);
    const atOnce = await ResidualQuantizer.train(vectors, { ...options, beam: 3, refinements: 2, onProgress });
    expect(atOnce.id).toBe(later.id);
    expect(stages.slice(-2)).toEqual([3, 3]);
    const six = await ResidualQuantizer.train(vectors, { ...options, beam: 3 });
    expect(six.id).toBe((await rq.refine(vectors, { beam: 3, shrinkage: 0.5 })).id);
  });

  it.each(familyNames)("gives the same bytes on every backend for %s data", async (family) => {
    const data = makeData(family, shape, 4);
    // Residuals of numbers near the limit overflow float32, which refinement refuses.
    const scale = family === "near overflow" ? 0.125 : 1;
    for (const metric of ["l2", "cosine"] as const) {
      const prepare = (matrix: Float32Array) =>
        (metric === "cosine" ? withoutZeroRows(matrix, dim) : matrix).map((x) => x * scale);
      const vectors = prepare(data.vectors);
      const codebooks = makeStages(data, shape, 3, 4).map(prepare);
      const ids = new Map<string, string>();
      for (const { name, title, form, available } of candidates) {
        for (const threads of available ? [1, 2] : []) {
          const options = { dim, metric, backend: name, threads };
          const rq = withForm(form, () => ResidualQuantizer.fromCodebooks(codebooks, options));
          const better = await withForm(form, () =>
            rq.refine(vectors, { iterations: 2, beam: metric === "l2" ? 3 : 1, shrinkage: 0.1 }),
          );
          ids.set(`${title} with ${threads} threads`, better.id);
        }
      }
      const [first] = ids.values();
      expect(Object.fromEntries(ids), `${family}, ${metric}`).toEqual(
        Object.fromEntries([...ids.keys()].map((title) => [title, first])),
      );
    }
  });

  it("refuses targets that float32 cannot hold, on every backend", async () => {
    const codebooks = [Float32Array.of(2.5e38), Float32Array.of(-1e38)];
    for (const { name, form, available } of candidates) {
      if (!available) continue;
      const rq = withForm(form, () => ResidualQuantizer.fromCodebooks(codebooks, { dim: 1, backend: name }));
      for (const iterations of [1, 3]) {
        const refined = withForm(form, () => rq.refine(Float32Array.of(2.5e38, 2.5e38), { iterations }));
        await expect(refined, name).rejects.toMatchObject({
          code: "INVALID_ARGUMENT",
          message: expect.stringContaining("below 1.7e38"),
        });
      }
    }
  });

  it("refuses what it cannot use", async () => {
    const rq = ResidualQuantizer.fromCodebooks([Float32Array.of(0, 1)], { dim: 1 });
    const cosine = ResidualQuantizer.fromCodebooks([Float32Array.of(-1, 1)], { dim: 1, metric: "cosine" });
    const vectors = Float32Array.of(1, 2, 3);
    const cases: [() => Promise<unknown>, string, RegExp][] = [
      [() => rq.refine(new Float32Array(0)), "INVALID_ARGUMENT", /vectors: expected at least one vector/],
      [() => rq.refine([1] as never), "INVALID_ARGUMENT", /vectors: expected a Float32Array/],
      [() => rq.refine(Float32Array.of(1, NaN)), "NOT_FINITE", /row 1/],
      [() => cosine.refine(Float32Array.of(1, 0)), "ZERO_VECTOR", /row 1/],
      [() => cosine.refine(vectors, { beam: 2 }), "INVALID_ARGUMENT", /beam/],
      [() => rq.refine(vectors, { iterations: 0 }), "INVALID_ARGUMENT", /iterations/],
      [() => rq.refine(vectors, { shrinkage: -1 }), "INVALID_ARGUMENT", /shrinkage/],
      [() => rq.refine(vectors, 5 as never), "INVALID_ARGUMENT", /options/],
      [() => ResidualQuantizer.train(vectors, { dim: 1, refinements: -1 }), "INVALID_ARGUMENT", /refinements/],
      [() => ResidualQuantizer.train(vectors, { dim: 1, beam: 1000 }), "INVALID_ARGUMENT", /beam/],
    ];
    for (const [call, code, message] of cases) {
      const error = await call().then(
        () => null,
        (reason: unknown) => reason,
      );
      expect(error).toBeInstanceOf(RvqError);
      expect((error as RvqError).code).toBe(code);
      expect((error as RvqError).message).toMatch(message);
    }
    await expect(rq.refine(vectors, { signal: AbortSignal.abort(new Error("enough")) })).rejects.toThrow("enough");
  });
});
