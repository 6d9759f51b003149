// Search, residual encode, decode and distances of every backend against the definition, on every data family.

import { describe, expect, it } from "vitest";
import type { CodebookSpec, Metric, PreparedCodebooks } from "../../lib/backend.js";
import { newCodeArray } from "../../lib/code-array.js";
import { Random } from "../../lib/random.js";
import { candidates, expectSame } from "./backends.js";
import { familyNames, makeData, makeStages, type Shape, withoutZeroRows } from "./families.js";
import { d64, type Encoded, encode } from "./reference.js";

const shapes: readonly Shape[] = [
  { count: 1, dim: 1, numCodewords: 1 },
  { count: 5, dim: 1, numCodewords: 7 },
  { count: 65, dim: 2, numCodewords: 33 },
  { count: 63, dim: 3, numCodewords: 100 },
  { count: 100, dim: 7, numCodewords: 257 },
  { count: 130, dim: 8, numCodewords: 256 },
  { count: 49, dim: 17, numCodewords: 65 },
  { count: 64, dim: 64, numCodewords: 128 },
  { count: 31, dim: 100, numCodewords: 48 },
  { count: 20, dim: 257, numCodewords: 19 },
  { count: 7, dim: 1000, numCodewords: 21 },
  { count: 70, dim: 400, numCodewords: 130 },
];

interface Case {
  readonly metric: Metric;
  readonly weighted: boolean;
  readonly stages: number;
}

const cases: readonly Case[] = [
  { metric: "l2", weighted: false, stages: 1 },
  { metric: "l2", weighted: false, stages: 4 },
  { metric: "l2", weighted: true, stages: 3 },
  { metric: "cosine", weighted: false, stages: 3 },
];

function makeSpec(family: string, shape: Shape, { metric, weighted, stages }: Case, seed: number) {
  const data = makeData(family, shape, seed);
  const prepare = (matrix: Float32Array) => (metric === "cosine" ? withoutZeroRows(matrix, shape.dim) : matrix);
  const random = new Random(seed + 2);
  // A third of the weights is zero, the others spread over six orders of magnitude.
  const weight = () => (random.below(3) === 0 ? 0 : 10 ** (6 * random.fraction() - 3));
  const weights = weighted ? Float32Array.from({ length: shape.dim }, weight) : null;
  const codebooks = makeStages(data, shape, stages, seed).map(prepare);
  const spec: CodebookSpec = { dim: shape.dim, metric, weights, codebooks };
  return { spec, vectors: prepare(data.vectors) };
}

for (const candidate of candidates) {
  describe.skipIf(!candidate.available)(`search on ${candidate.title}`, () => {
    for (const family of familyNames) {
      it(`equals the definition on ${family} data`, async () => {
        for (const [index, shape] of shapes.entries()) {
          for (const options of cases) {
            const seed = 1000 + index;
            const { spec, vectors } = makeSpec(family, shape, options, seed);
            const context = { backend: candidate.name, family, ...shape, ...options, seed };
            const backend = candidate.open();
            const prepared = backend.prepare(spec);
            await expectDefinition(prepared, spec, vectors, context);
            prepared.dispose();
          }
        }
      });
    }

    it("gives the same bytes for any number of threads and any split of the batch", async () => {
      const shape: Shape = { count: 3001, dim: 24, numCodewords: 200 };
      for (const family of ["gaussian", "integer grid", "offset"]) {
        const { spec, vectors } = makeSpec(family, shape, { metric: "l2", weighted: false, stages: 3 }, 7);
        const whole = newCodeArray(shape.count * 3, [200]);
        const one = candidate.open(1).prepare(spec);
        await one.encode({ vectors, count: shape.count, stages: 3, codes: whole });
        for (const [threads, rows] of [
          [2, 3001],
          [1, 1],
          [2, 97],
          [2, 1024],
        ]) {
          const split = newCodeArray(shape.count * 3, [200]);
          const prepared = candidate.open(threads).prepare(spec);
          // One by one some of them are enough: a device takes as long for one as for many.
          const end = rows === 1 && candidate.name === "cuda" ? 300 : shape.count;
          for (let first = 0; first < end; first += rows) {
            const count = Math.min(rows, end - first);
            const chunk = vectors.subarray(first * shape.dim, (first + count) * shape.dim);
            const codes = split.subarray(first * 3, (first + count) * 3);
            prepared.encodeSync({ vectors: chunk, count, stages: 3, codes });
          }
          const context = { backend: candidate.name, family, threads, rows };
          expectSame(split.subarray(0, end * 3), whole.subarray(0, end * 3), context);
          prepared.dispose();
        }
        one.dispose();
      }
    });

    it("handles 32 stages and codebooks of different sizes", async () => {
      const shape: Shape = { count: 40, dim: 12, numCodewords: 130 };
      const { spec, vectors } = makeSpec("gaussian", shape, { metric: "l2", weighted: false, stages: 32 }, 3);
      await expectDefinition(candidate.open().prepare(spec), spec, vectors, { backend: candidate.name, stages: 32 });
    });

    it("searches 65,536 codewords, and 70,000 with 32-bit codes", async () => {
      for (const numCodewords of [65_536, 70_000]) {
        const shape: Shape = { count: 9, dim: 5, numCodewords };
        for (const family of ["gaussian", "integer grid"]) {
          const { spec, vectors } = makeSpec(family, shape, { metric: "l2", weighted: false, stages: 1 }, 5);
          const context = { backend: candidate.name, family, ...shape };
          await expectDefinition(candidate.open().prepare(spec), spec, vectors, context);
        }
      }
    });

    it("accepts zero vectors in number", async () => {
      const { spec } = makeSpec("gaussian", shapes[4], cases[1], 1);
      const empty = new Float32Array(0);
      const prepared = candidate.open().prepare(spec);
      expect(await prepared.encode({ vectors: empty, count: 0, stages: 4, codes: new Uint16Array(0) })).toBeNull();
      expect(prepared.encodeSync({ vectors: empty, count: 0, stages: 4, codes: new Uint16Array(0) })).toBeNull();
      await prepared.decode({ codes: new Uint16Array(0), count: 0, codeStages: 4, stages: 4, vectors: empty });
    });

    it("reports the first element that is not finite, and with cosine the first zero row", async () => {
      for (const [metric, stages] of [
        ["l2", 2],
        ["cosine", 1],
      ] as const) {
        const shape: Shape = { count: 500, dim: 20, numCodewords: 50 };
        const { spec, vectors } = makeSpec("gaussian", shape, { metric, weighted: false, stages }, 11);
        const prepared = candidate.open(2).prepare(spec);
        const encodeBoth = async () => {
          const codes = new Uint16Array(shape.count * stages);
          const request = { vectors, count: shape.count, stages, codes };
          const bad = prepared.encodeSync(request);
          expect(await prepared.encode(request)).toEqual(bad);
          return bad;
        };
        vectors[499 * 20 + 19] = NaN;
        expect(await encodeBoth()).toEqual({ kind: "not finite", row: 499, column: 19 });
        vectors[300 * 20 + 7] = -Infinity;
        vectors[300 * 20 + 9] = NaN;
        expect(await encodeBoth()).toEqual({ kind: "not finite", row: 300, column: 7 });
        vectors.fill(0, 100 * 20, 101 * 20);
        const expected =
          metric === "cosine" ? { kind: "zero", row: 100, column: 0 } : { kind: "not finite", row: 300, column: 7 };
        expect(await encodeBoth()).toEqual(expected);
        vectors[0] = Infinity;
        expect(await encodeBoth()).toEqual({ kind: "not finite", row: 0, column: 0 });
      }
    });

    it("gives code 0 to a cosine residual that has become zero", async () => {
      const dim = 3;
      const first = Float32Array.of(1, 2, 3, 4, 5, 6);
      const second = Float32Array.of(0, 0, 1, 0, 1, 0);
      const prepared = candidate.open().prepare({ dim, metric: "cosine", weights: null, codebooks: [first, second] });
      const codes = new Uint16Array(2);
      const residuals = new Float32Array(3);
      prepared.encodeSync({ vectors: Float32Array.of(4, 5, 6), count: 1, stages: 2, codes, residuals });
      expect([...codes]).toEqual([1, 0]);
      expect([...residuals]).toEqual([0, 0, -1]);
    });

    it("gives code 0 to a residual that overflowed, also where a zero weight hides the infinity", () => {
      const first = Float32Array.of(-3e38, 0);
      const second = Float32Array.of(1, 1, 0, 0);
      for (const weights of [null, Float32Array.of(0, 1)]) {
        const prepared = candidate.open().prepare({ dim: 2, metric: "l2", weights, codebooks: [first, second] });
        const codes = new Uint16Array(2);
        prepared.encodeSync({ vectors: Float32Array.of(3e38, 0), count: 1, stages: 2, codes });
        expect([...codes]).toEqual([0, 0]);
      }
    });
  });
}

/** The reference is slow and the same for every backend: kept by the case it belongs to. */
const definitions = new Map<string, Encoded>();

function definition(spec: CodebookSpec, vectors: Float32Array, key: string): Encoded {
  const known = definitions.get(key);
  if (known !== undefined) return known;
  const expected = encode(vectors, spec.codebooks, spec.dim, spec.metric, spec.weights);
  definitions.set(key, expected);
  return expected;
}

async function expectDefinition(
  prepared: PreparedCodebooks,
  spec: CodebookSpec,
  vectors: Float32Array,
  context: Record<string, unknown>,
): Promise<void> {
  const { dim, weights, codebooks } = spec;
  const stages = codebooks.length;
  const count = vectors.length / dim;
  const expected = definition(spec, vectors, JSON.stringify({ ...context, backend: "" }));
  const sizes = codebooks.map((codebook) => codebook.length / dim);

  // Encode, with residuals written over a copy of the vectors.
  const codes = newCodeArray(count * stages, sizes);
  const residuals = vectors.slice();
  expect(
    await prepared.encode({ vectors: residuals, count, stages, codes, residuals }),
    JSON.stringify(context),
  ).toBeNull();
  expectSame(codes, expected.codes, { ...context, what: "codes" });
  expectSame(residuals, expected.residuals, { ...context, what: "residuals" });

  // A prefix of the stages gives a prefix of the codes.
  const prefix = Math.ceil(stages / 2);
  const fewer = newCodeArray(count * prefix, sizes);
  expect(prepared.encodeSync({ vectors, count, stages: prefix, codes: fewer })).toBeNull();
  const expectedFewer = expected.codes.filter((_, i) => i % stages < prefix);
  expectSame(fewer, expectedFewer, { ...context, what: "codes of a prefix" });

  // Decode from every number of stages; distances to each reconstruction.
  for (let s = 1; s <= stages; s++) {
    const decoded = new Float32Array(vectors.length).fill(NaN);
    const request = { codes, count, codeStages: stages, stages: s, vectors: decoded };
    if (s % 2 === 0) await prepared.decode(request);
    else prepared.decodeSync(request);
    expectSame(decoded, expected.reconstructions[s - 1], { ...context, what: `reconstruction from ${s} stages` });
  }
  for (const weighted of weights === null ? [false] : [false, true]) {
    const distances = new Float64Array(count * stages);
    await prepared.distances({ vectors, count, codes, codeStages: stages, stages, weighted, distances });
    const expectedDistances = Array.from(distances, (_, i) => {
      const n = Math.floor(i / stages);
      const reconstruction = expected.reconstructions[i % stages].subarray(n * dim, (n + 1) * dim);
      return d64(vectors.subarray(n * dim, (n + 1) * dim), reconstruction, weighted ? weights : null);
    });
    expectSame(distances, expectedDistances, { ...context, weighted, what: "distances" });
  }
}
