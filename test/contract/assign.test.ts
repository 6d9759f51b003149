// The assignment step of k-means on every backend and level: the answer of a full search, however few codewords moved.

import { describe, expect, it } from "vitest";
import type { Backend, CodebookSpec, Metric } from "../../lib/backend.js";
import { newCodeArray } from "../../lib/code-array.js";
import { Random } from "../../lib/random.js";
import { gridExponentFor } from "../../lib/statistics.js";
import { trainCodebooks } from "../../lib/train.js";
import { candidates, expectSame, openAll } from "./backends.js";
import { familyNames, makeData, type Shape, withoutZeroRows } from "./families.js";
import { d64, nearest, sums } from "./reference.js";

const shape: Shape = { count: 150, dim: 11, numCodewords: 160 };
/** None, one (which is searched with another), few, as many as still pay, and too many. */
const movedCounts = [0, 1, 7, 50, 160];

interface Case {
  readonly metric: Metric;
  readonly weighted: boolean;
}

const cases: readonly Case[] = [
  { metric: "l2", weighted: false },
  { metric: "l2", weighted: true },
  { metric: "cosine", weighted: false },
];

/** `moved` of the codewords elsewhere: on a vector, near where they were, on another codeword, or nearly where they were. */
function move(codebook: Float32Array, vectors: Float32Array, moved: number, random: Random): Float32Array {
  const { dim, count, numCodewords } = shape;
  const result = codebook.slice();
  for (const k of random.sample(numCodewords, moved)) {
    const way = random.below(4);
    const vector = random.below(count) * dim;
    const other = random.below(numCodewords) * dim;
    for (let i = 0; i < dim; i++) {
      const from = codebook[k * dim + i];
      const to = way === 2 ? codebook[other + i] : vectors[vector + i];
      result[k * dim + i] = way === 1 ? from / 2 + to / 2 : way === 3 ? from * (1 + 2 ** -22) : to;
    }
  }
  return result;
}

for (const candidate of candidates) {
  describe.skipIf(!candidate.available)(`assign on ${candidate.title}`, () => {
    for (const family of familyNames) {
      it(`equals a full search on ${family} data`, async () => {
        for (const { metric, weighted } of cases) {
          const random = new Random(17);
          const data = makeData(family, shape, 9);
          const prepare = (matrix: Float32Array) => (metric === "cosine" ? withoutZeroRows(matrix, shape.dim) : matrix);
          const vectors = prepare(data.vectors);
          const previous = prepare(data.codebook);
          const weights = weighted ? Float32Array.from({ length: shape.dim }, (_, i) => (i % 4) / 3) : null;
          const codesOf = (codebook: Float32Array) =>
            newCodeArray(shape.count, [1]).map((_, n) => nearest(rowOf(vectors, n), codebook, metric, weights));
          const codesBefore = codesOf(previous);
          for (const moved of movedCounts) {
            const codebook = prepare(move(previous, vectors, moved, random));
            const spec: CodebookSpec = { dim: shape.dim, metric, weights, codebooks: [codebook] };
            const expected = codesOf(codebook);
            for (const { title, backend } of openAll(candidate)) {
              for (const known of [undefined, previous]) {
                const context = { title, family, metric, weighted, moved, known: known !== undefined };
                await expectAssigned(backend, spec, vectors, known, codesBefore, expected, context);
              }
            }
          }
        }
      });
    }

    it("trains the same codebooks with and without what the iteration before knew", async () => {
      const { vectors } = makeData("clustered", { ...shape, count: 900 }, 12);
      for (const metric of ["l2", "cosine"] as const) {
        const options = { dim: shape.dim, codebookSize: [160, 100], metric, iterations: 25 };
        for (const { title, backend } of openAll(candidate)) {
          const prepare = (spec: CodebookSpec) => backend.prepare(spec);
          const forgetful: Backend = Object.assign(Object.create(backend), { prepare });
          const trained = await trainCodebooks(backend, vectors, options);
          const same = await trainCodebooks(forgetful, vectors, options);
          expect(trained.codebooks, `${title}, ${metric}`).toEqual(same.codebooks);
        }
      }
    });

    it("moves rows from codeword to codeword in the statistics", async () => {
      const { count, dim, numCodewords } = shape;
      const random = new Random(3);
      const { vectors } = makeData("gaussian", shape, 4);
      const codes = newCodeArray(count, [numCodewords]).map(() => random.below(numCodewords));
      const later = codes.map((code) => (random.below(3) === 0 ? random.below(numCodewords) : code));
      const gridExponents = new Int32Array(dim).fill(gridExponentFor(10, count));
      for (const { title, backend } of openAll(candidate)) {
        const counts = new Float64Array(numCodewords);
        const total = new Float64Array(numCodewords * dim);
        const request = { vectors, count, dim, numCodewords, gridExponents, counts, sums: total };
        await backend.accumulate({ ...request, codes });
        await backend.accumulate({ ...request, codes: later, previousCodes: codes });
        expect(Array.from(total, BigInt), title).toEqual(sums(vectors, later, numCodewords, dim, gridExponents));
        for (const [k, n] of counts.entries()) {
          expect(n, `${title}, codeword ${k}`).toBe(later.filter((code) => code === k).length);
        }
      }
    });
  });
}

/** In two unequal calls, codes and distances of both kinds. */
async function expectAssigned(
  backend: Backend,
  spec: CodebookSpec,
  vectors: Float32Array,
  previous: Float32Array | undefined,
  codesBefore: ArrayLike<number>,
  expected: ArrayLike<number>,
  context: Record<string, unknown>,
): Promise<void> {
  const { count, dim, numCodewords } = shape;
  const codes = newCodeArray(count, [numCodewords]);
  if (previous !== undefined) codes.set(codesBefore);
  const distances = new Float64Array(count);
  const plainDistances = new Float64Array(count);
  const prepared = backend.prepare(spec, previous);
  for (const [from, to] of [
    [0, 41],
    [41, count],
  ]) {
    await prepared.assign({
      vectors: vectors.subarray(from * dim, to * dim),
      count: to - from,
      codes: codes.subarray(from, to),
      distances: distances.subarray(from, to),
      plainDistances: plainDistances.subarray(from, to),
    });
  }
  prepared.dispose();
  expectSame(codes, expected, context);
  const measured = (weights: Float32Array | null) =>
    Float64Array.from(codes, (code, n) => d64(rowOf(vectors, n), rowOf(spec.codebooks[0], code), weights));
  expectSame(distances, measured(spec.weights), context);
  expectSame(plainDistances, measured(null), context);
}

function rowOf(matrix: Float32Array, row: number): Float32Array {
  return matrix.subarray(row * shape.dim, (row + 1) * shape.dim);
}
