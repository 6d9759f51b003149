// Beam search of every backend and level against the definition, on every data family; and that it never loses to greedy.

import { describe, expect, it } from "vitest";
import type { CodebookSpec } from "../../lib/backend.js";
import { newCodeArray } from "../../lib/code-array.js";
import { Random } from "../../lib/random.js";
import { ResidualQuantizer } from "../../lib/residual-quantizer.js";
import { candidates, expectSame, openAll, withForm } from "./backends.js";
import { familyNames, hardFamilies, makeData, makeStages, type Shape } from "./families.js";
import { d64, encodeBeam } from "./reference.js";

const shapes: readonly (Shape & { readonly stages: number })[] = [
  { count: 3, dim: 1, numCodewords: 1, stages: 2 },
  { count: 9, dim: 1, numCodewords: 7, stages: 4 },
  { count: 65, dim: 2, numCodewords: 33, stages: 3 },
  { count: 40, dim: 7, numCodewords: 130, stages: 4 },
  { count: 50, dim: 8, numCodewords: 64, stages: 3 },
  { count: 19, dim: 33, numCodewords: 40, stages: 3 },
  { count: 13, dim: 64, numCodewords: 140, stages: 3 },
  { count: 5, dim: 257, numCodewords: 19, stages: 2 },
];
/** One more than most levels have lanes, and more than some shapes have codewords. */
const beams = [2, 5, 17];

interface Case {
  readonly spec: CodebookSpec;
  readonly vectors: Float32Array;
  readonly count: number;
}

function makeCase(family: string, shape: Shape, stages: number, weighted: boolean, seed: number): Case {
  const hard = shape.numCodewords < 2 ? undefined : hardFamilies[family]?.(shape, seed);
  // A hard family is about pairs of codewords.
  const data =
    hard === undefined ? makeData(family in hardFamilies ? "gaussian" : family, shape, seed) : { family, ...hard };
  const random = new Random(seed + 2);
  // A third of the weights is zero, the others spread over six orders of magnitude.
  const weight = () => (random.below(3) === 0 ? 0 : 10 ** (6 * random.fraction() - 3));
  const weights = weighted ? Float32Array.from({ length: shape.dim }, weight) : null;
  const codebooks = makeStages(data, shape, stages, seed);
  return { spec: { dim: shape.dim, metric: "l2", weights, codebooks }, vectors: data.vectors, count: shape.count };
}

/** The reference is slow and the same for every backend: kept by the case it belongs to. */
const definitions = new Map<string, ReturnType<typeof encodeBeam>>();

function definition({ spec, vectors }: Case, beam: number, key: string): ReturnType<typeof encodeBeam> {
  const known = definitions.get(key);
  if (known !== undefined) return known;
  const expected = encodeBeam(vectors, spec.codebooks, spec.dim, spec.weights, beam);
  definitions.set(key, expected);
  return expected;
}

for (const candidate of candidates) {
  describe.skipIf(!candidate.available)(`beam search on ${candidate.title}`, () => {
    for (const family of [...familyNames, ...Object.keys(hardFamilies)]) {
      it(`equals the definition on ${family} data`, async () => {
        for (const [seed, { stages, ...shape }] of shapes.entries()) {
          for (const weighted of [false, true]) {
            const input = makeCase(family, shape, stages, weighted, seed);
            for (const beam of beams) {
              const where = { family, ...shape, stages, weighted, beam, seed };
              const expected = definition(input, beam, JSON.stringify(where));
              for (const { title, backend } of openAll(candidate)) {
                const prepared = backend.prepare(input.spec);
                const codes = newCodeArray(shape.count * stages, [shape.numCodewords]);
                // Residuals take the place of the vectors.
                const residuals = input.vectors.slice();
                const request = { vectors: residuals, count: shape.count, stages, beam, codes, residuals };
                expect(await prepared.encode(request), JSON.stringify({ title, ...where })).toBeNull();
                prepared.dispose();
                expectSame(codes, expected.codes, { title, ...where, what: "codes" });
                expectSame(residuals, expected.residuals, { title, ...where, what: "residuals" });
              }
            }
          }
        }
      });

      it(`is never worse than greedy, and with a beam of 1 the same, on ${family} data`, () => {
        const { stages, ...shape } = { ...shapes[3], count: 200 };
        for (const weighted of [false, true]) {
          const { spec, vectors } = makeCase(family, shape, stages, weighted, 5);
          const { dim, weights, codebooks } = spec;
          const options = { dim, weights: weights ?? undefined, backend: candidate.name, threads: 1 };
          const rq = withForm(candidate.form, () => ResidualQuantizer.fromCodebooks(codebooks, options));
          for (const fewer of [1, 2, stages]) {
            const greedy = rq.encodeSync(vectors, { stages: fewer });
            expectSame(rq.encodeSync(vectors, { stages: fewer, beam: 1 }).data, greedy.data, { family });
            const before = rq.decodeSync(greedy);
            const after = rq.decodeSync(rq.encodeSync(vectors, { stages: fewer, beam: 4 }));
            for (let start = 0; start < vectors.length; start += dim) {
              const [x, a, b] = [vectors, before, after].map((rows) => rows.subarray(start, start + dim));
              const worse = d64(x, b, weights) > d64(x, a, weights);
              expect(worse, JSON.stringify({ family, weighted, stages: fewer, row: start / dim })).toBe(false);
            }
          }
          rq.dispose();
        }
      });
    }

    it("gives the same bytes for any number of threads and any split of the batch", () => {
      const shape: Shape = { count: 701, dim: 24, numCodewords: 200 };
      for (const family of ["gaussian", "integer grid", "offset"]) {
        const { spec, vectors } = makeCase(family, shape, 3, false, 7);
        const encode = (threads: number, rows: number) => {
          const data = newCodeArray(shape.count * 3, [200]);
          const prepared = candidate.open(threads).prepare(spec);
          for (let first = 0; first < shape.count; first += rows) {
            const count = Math.min(rows, shape.count - first);
            const chunk = vectors.subarray(first * shape.dim, (first + count) * shape.dim);
            const codes = data.subarray(first * 3, (first + count) * 3);
            prepared.encodeSync({ vectors: chunk, count, stages: 3, beam: 6, codes });
          }
          prepared.dispose();
          return data;
        };
        const whole = encode(1, shape.count);
        for (const [threads, rows] of [
          [2, 701],
          [1, 1],
          [2, 97],
        ]) {
          expectSame(encode(threads, rows), whole, { backend: candidate.name, family, threads, rows });
        }
      }
    });

    it("keeps up to 256 hypotheses, over 16 stages and 70,000 codewords", async () => {
      for (const { stages, beam, ...shape } of [
        { count: 3, dim: 6, numCodewords: 90, stages: 16, beam: 9 },
        { count: 2, dim: 5, numCodewords: 300, stages: 2, beam: 256 },
        { count: 2, dim: 3, numCodewords: 70_000, stages: 2, beam: 3 },
      ]) {
        for (const family of ["gaussian", "integer grid"]) {
          const input = makeCase(family, shape, stages, false, 2);
          const where = { family, ...shape, stages, beam, seed: 2 };
          const expected = definition(input, beam, JSON.stringify(where));
          for (const { title, backend } of openAll(candidate)) {
            const codes = newCodeArray(shape.count * stages, [shape.numCodewords]);
            const prepared = backend.prepare(input.spec);
            await prepared.encode({ vectors: input.vectors, count: shape.count, stages, beam, codes });
            prepared.dispose();
            expectSame(codes, expected.codes, { title, ...where });
          }
        }
      }
    });

    it("reports the first element that is not finite", async () => {
      const { spec, vectors } = makeCase("gaussian", { count: 300, dim: 20, numCodewords: 50 }, 2, false, 11);
      vectors[299 * 20 + 19] = NaN;
      vectors[150 * 20 + 7] = -Infinity;
      const prepared = candidate.open(2).prepare(spec);
      const request = { vectors, count: 300, stages: 2, beam: 3, codes: new Uint16Array(600) };
      expect(prepared.encodeSync(request)).toEqual({ kind: "not finite", row: 150, column: 7 });
      expect(await prepared.encode(request)).toEqual({ kind: "not finite", row: 150, column: 7 });
    });
  });
}
