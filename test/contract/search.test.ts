// Search, residual encode, decode and distances of every backend against the definition, on every data family.

import { describe, expect, it } from "vitest";
import type { CodebookSpec, PreparedCodebooks } from "../../lib/backend.js";
import { newCodeArray } from "../../lib/code-array.js";
import { candidates, expectSame } from "./backends.js";
import { expectDefinition, type Form, makeSpec } from "./definition.js";
import { familyNames, type Shape } from "./families.js";
import { type Encoded, encode } from "./reference.js";

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

const cases: readonly Form[] = [
  { metric: "l2", weighted: false, stages: 1 },
  { metric: "l2", weighted: false, stages: 4 },
  { metric: "l2", weighted: true, stages: 3 },
  { metric: "cosine", weighted: false, stages: 3 },
];

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
            await expectKnownDefinition(prepared, spec, vectors, context);
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
      await expectKnownDefinition(candidate.open().prepare(spec), spec, vectors, {
        backend: candidate.name,
        stages: 32,
      });
    });

    it("searches 65,536 codewords, and 70,000 with 32-bit codes", async () => {
      for (const numCodewords of [65_536, 70_000]) {
        const shape: Shape = { count: 9, dim: 5, numCodewords };
        for (const family of ["gaussian", "integer grid"]) {
          const { spec, vectors } = makeSpec(family, shape, { metric: "l2", weighted: false, stages: 1 }, 5);
          const context = { backend: candidate.name, family, ...shape };
          await expectKnownDefinition(candidate.open().prepare(spec), spec, vectors, context);
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

function expectKnownDefinition(
  prepared: PreparedCodebooks,
  spec: CodebookSpec,
  vectors: Float32Array,
  context: Record<string, unknown>,
): Promise<void> {
  const key = JSON.stringify({ ...context, backend: "" });
  const expected = definitions.get(key) ?? encode(vectors, spec.codebooks, spec.dim, spec.metric, spec.weights);
  definitions.set(key, expected);
  return expectDefinition(prepared, spec, vectors, expected, context);
}
