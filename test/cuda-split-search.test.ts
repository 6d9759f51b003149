// Few rows on the cuda backend, by both of its forms of search (cuda/split_search.h), bit for bit against the definition: on a
// machine with a GPU, or in the build that emulates one, where both run for real.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadAddon } from "../lib/addon.js";
import type { CodebookSpec, Metric } from "../lib/backend.js";
import { newCodeArray } from "../lib/code-array.js";
import type { CudaAddon } from "../lib/cuda/addon.js";
import { openBackend, status } from "../lib/open-backend.js";
import { Random } from "../lib/random.js";
import { ResidualQuantizer } from "../lib/residual-quantizer.js";
import { expectSame } from "./contract/backends.js";
import { familyNames, makeData, makeStages, normal, withoutZeroRows } from "./contract/families.js";
import { type Encoded, encode, nearest } from "./contract/reference.js";

const native = loadAddon().addon as CudaAddon | null;
const available = status().backends.find(({ name }) => name === "cuda")?.available === true;

interface Case {
  readonly family: string;
  readonly count: number;
  readonly dim: number;
  /** K of every stage. */
  readonly sizes: readonly number[];
  readonly metric?: Metric;
  readonly weighted?: boolean;
}

/** Slices have 16 … 256 codewords, blocks one row, or four from eight rows on. */
const shapes: readonly Omit<Case, "family">[] = [
  { count: 1, dim: 1, sizes: [1] },
  { count: 3, dim: 4, sizes: [15, 16, 17] },
  { count: 7, dim: 5, sizes: [1, 300, 2] },
  { count: 8, dim: 3, sizes: [257, 33] },
  { count: 13, dim: 16, sizes: [100, 31, 64] },
  { count: 2, dim: 128, sizes: [200, 200] },
  { count: 33, dim: 12, sizes: [70, 70] },
  { count: 64, dim: 24, sizes: [129] },
  { count: 1, dim: 1023, sizes: [40, 20] },
  { count: 9, dim: 1024, sizes: [35] },
];
const kinds = [{ metric: "l2" }, { metric: "l2", weighted: true }, { metric: "cosine" }] as const;

function makeInput({ family, count, dim, sizes, metric = "l2", weighted = false }: Case, seed: number) {
  const most = Math.max(...sizes);
  const shape = { count, dim, numCodewords: most };
  const data = makeData(family, shape, seed);
  const prepare = (matrix: Float32Array) => (metric === "cosine" ? withoutZeroRows(matrix, dim) : matrix);
  const random = new Random(seed);
  // A third of them zero.
  const weight = () => (random.below(3) === 0 ? 0 : 10 ** (6 * random.fraction() - 3));
  const weights = weighted ? Float32Array.from({ length: dim }, weight) : null;
  const codebooks = makeStages(data, shape, sizes.length, seed).map((codebook, s) =>
    prepare(codebook.slice(0, sizes[s] * dim)),
  );
  const spec: CodebookSpec = { dim, metric, weights, codebooks };
  return { spec, vectors: prepare(data.vectors), count };
}

/** The definition is slow, and the same for both forms. */
const known = new Map<string, Encoded>();

function definition(key: string, { dim, metric, weights, codebooks }: CodebookSpec, vectors: Float32Array): Encoded {
  const encoded = known.get(key) ?? encode(vectors, codebooks, dim, metric, weights);
  known.set(key, encoded);
  return encoded;
}

function nearestInFloat32(vector: Float32Array, codebook: Float32Array): number {
  const distances = new Float32Array(codebook.length / vector.length);
  for (const [i, element] of codebook.entries()) {
    const k = Math.floor(i / vector.length);
    const difference = Math.fround(element - vector[i % vector.length]);
    distances[k] += difference * difference;
  }
  return distances.indexOf(Math.min(...distances));
}

/** Codes and residuals, written over the vectors; then the codes of a prefix of the stages. */
async function expectDefinition(options: Case, seed: number) {
  const { spec, vectors, count } = makeInput(options, seed);
  const expected = definition(JSON.stringify([options, seed]), spec, vectors);
  const prepared = openBackend("cuda", undefined).prepare(spec);
  const stages = spec.codebooks.length;
  const codes = newCodeArray(count * stages, options.sizes);
  const residuals = vectors.slice();
  expect(await prepared.encode({ vectors: residuals, count, stages, codes, residuals })).toBeNull();
  expectSame(codes, expected.codes, { ...options, seed, what: "codes" });
  expectSame(residuals, expected.residuals, { ...options, seed, what: "residuals" });
  const prefix = Math.ceil(stages / 2);
  const fewer = newCodeArray(count * prefix, options.sizes);
  expect(prepared.encodeSync({ vectors, count, stages: prefix, codes: fewer })).toBeNull();
  const expectedFewer = expected.codes.filter((_, i) => i % stages < prefix);
  expectSame(fewer, expectedFewer, { ...options, seed, what: "codes of a prefix" });
  prepared.dispose();
}

for (const searchForm of ["split", "whole"] as const) {
  describe.skipIf(!available || native?.cudaTestLimits === undefined)(`few rows, by the ${searchForm} search`, () => {
    beforeAll(() => native?.cudaTestLimits?.({ pieceRows: 0, memoryBytes: 0, searchForm }));
    afterAll(() => native?.cudaTestLimits?.({ pieceRows: 0, memoryBytes: 0 }));

    it.each(familyNames)("equal the definition on %s data", async (family) => {
      for (const [seed, shape] of shapes.entries()) {
        for (const kind of kinds) await expectDefinition({ family, ...shape, ...kind }, seed);
      }
    });

    it("equal the definition over 32 stages, and with many codewords, also more than 65,536", async () => {
      const sizes = Array.from({ length: 32 }, (_, s) => 20 + s);
      for (const kind of kinds) await expectDefinition({ family: "gaussian", count: 10, dim: 6, sizes, ...kind }, 1);
      for (const family of ["gaussian", "integer grid"]) {
        await expectDefinition({ family, count: 1, dim: 7, sizes: [4099, 65_536] }, 2);
        await expectDefinition({ family, count: 9, dim: 4, sizes: [70_000] }, 3);
      }
    });

    it("get the first of equal codewords, in whichever slices they are", async () => {
      const dim = 6;
      const size = 1000;
      for (const metric of ["l2", "cosine"] as const) {
        for (const first of [0, 15, 16, 255, 256, 900]) {
          const random = new Random(first);
          const codebook = Float32Array.from({ length: size * dim }, () => 10 + random.fraction());
          const vector = Float32Array.from({ length: dim }, (_, i) => i - 3);
          // The vector itself, and what is as near with a zero of the other sign.
          for (let k = first; k < size; k += 17) codebook.set(vector, k * dim);
          for (let k = first; k < size; k += 34) codebook[k * dim + 3] = -0;
          const prepared = openBackend("cuda", undefined).prepare({
            dim,
            metric,
            weights: null,
            codebooks: [codebook],
          });
          for (const count of [1, 11]) {
            const vectors = Float32Array.from({ length: count * dim }, (_, i) => vector[i % dim]);
            const codes = new Uint16Array(count);
            expect(await prepared.encode({ vectors, count, stages: 1, codes })).toBeNull();
            expect([...codes], `${metric}, first ${first}`).toEqual(new Array(count).fill(first));
          }
          prepared.dispose();
        }
      }
    });

    it("get the nearest where float32 has another order", async () => {
      const dim = 64;
      const size = 300;
      let misled = 0;
      for (let seed = 1; seed <= 16; seed++) {
        const random = new Random(seed);
        const vector = Float32Array.from({ length: dim }, () => normal(random));
        // All as far away, but for the rounding of their elements.
        const codebook = new Float32Array(size * dim);
        for (let start = 0; start < codebook.length; start += dim) {
          const direction = Float64Array.from({ length: dim }, () => normal(random));
          const length = Math.hypot(...direction);
          for (let i = 0; i < dim; i++) codebook[start + i] = vector[i] + (3 * direction[i]) / length;
        }
        const expected = nearest(vector, codebook, "l2", null);
        if (nearestInFloat32(vector, codebook) !== expected) misled++;
        const prepared = openBackend("cuda", undefined).prepare({
          dim,
          metric: "l2",
          weights: null,
          codebooks: [codebook],
        });
        for (const count of [1, 9]) {
          const vectors = Float32Array.from({ length: count * dim }, (_, i) => vector[i % dim]);
          const codes = new Uint16Array(count);
          expect(await prepared.encode({ vectors, count, stages: 1, codes })).toBeNull();
          expect([...codes], `seed ${seed}`).toEqual(new Array(count).fill(expected));
        }
        prepared.dispose();
      }
      expect(misled).toBeGreaterThan(4);
    });

    it("are refused for the first element that is not finite, and with cosine for the first zero row", async () => {
      for (const count of [1, 5, 64]) {
        const { spec, vectors } = makeInput({ family: "gaussian", count, dim: 20, sizes: [50, 50] }, 4);
        for (const metric of ["l2", "cosine"] as const) {
          const prepared = openBackend("cuda", undefined).prepare({ ...spec, metric });
          const answer = (rows: Float32Array) =>
            prepared.encode({ vectors: rows, count, stages: 2, codes: new Uint16Array(2 * count) });
          const bad = vectors.slice();
          const last = count - 1;
          bad[last * 20 + 19] = Number.NaN;
          expect(await answer(bad)).toEqual({ kind: "not finite", row: last, column: 19 });
          bad[last * 20 + 3] = -Infinity;
          expect(await answer(bad)).toEqual({ kind: "not finite", row: last, column: 3 });
          const row = count >> 1;
          bad.fill(0, row * 20, (row + 1) * 20);
          const zero = { kind: "zero", row, column: 0 };
          const next = row === last ? null : { kind: "not finite", row: last, column: 3 };
          expect(await answer(bad)).toEqual(metric === "cosine" ? zero : next);
          expect(await answer(vectors)).toBeNull();
          prepared.dispose();
        }
      }
    });

    it("get code 0 where a residual has overflowed or has no direction", () => {
      const overflow = [Float32Array.of(-3e38, 0), Float32Array.of(1, 1, 0, 0)];
      for (const weights of [null, Float32Array.of(0, 1)]) {
        const prepared = openBackend("cuda", undefined).prepare({ dim: 2, metric: "l2", weights, codebooks: overflow });
        const codes = new Uint16Array(2);
        prepared.encodeSync({ vectors: Float32Array.of(3e38, 0), count: 1, stages: 2, codes });
        expect([...codes]).toEqual([0, 0]);
      }
      const codebooks = [Float32Array.of(1, 2, 3, 4, 5, 6), Float32Array.of(0, 0, 1, 0, 1, 0)];
      const prepared = openBackend("cuda", undefined).prepare({ dim: 3, metric: "cosine", weights: null, codebooks });
      const codes = new Uint16Array(2);
      const residuals = new Float32Array(3);
      prepared.encodeSync({ vectors: Float32Array.of(4, 5, 6), count: 1, stages: 2, codes, residuals });
      expect([...codes]).toEqual([1, 0]);
      expect([...residuals]).toEqual([0, 0, -1]);
    });

    it("are the same on the device, alone and at the end of longer calls", async () => {
      const options = { family: "gaussian", count: 64, dim: 20, sizes: [90, 40, 33] };
      const { spec, vectors } = makeInput(options, 6);
      const { codes, residuals } = definition(JSON.stringify([options, 6]), spec, vectors);
      const rq = ResidualQuantizer.fromCodebooks([...spec.codebooks], { dim: 20, backend: "cuda" });
      for (const count of [1, 5, 64]) {
        const uploaded = await rq.device.upload(vectors.subarray(0, count * 20));
        const found = await rq.device.encode(uploaded, { residuals: true });
        expectSame((await found.download()).data, codes.slice(0, count * 3), { count, what: "codes" });
        expectSame((await found.residuals?.download()) ?? [], residuals.subarray(0, count * 20), { count });
        expect(await uploaded.download(), "the vectors are left alone").toEqual(vectors.slice(0, count * 20));
        for (const array of [uploaded, found, found.residuals]) array?.dispose();
      }
      for (const pieceRows of [1, 5, 63]) {
        native?.cudaTestLimits?.({ pieceRows, memoryBytes: 0, searchForm });
        expectSame((await rq.encode(vectors)).data, codes, { pieceRows });
      }
      native?.cudaTestLimits?.({ pieceRows: 0, memoryBytes: 0, searchForm });
      rq.dispose();
    });
  });
}
