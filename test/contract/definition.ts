// What search, residual encode, decode and distances of a backend must give: a case from a seed, and the comparison.

import { expect } from "vitest";
import type { CodebookSpec, Metric, PreparedCodebooks } from "../../lib/backend.js";
import { newCodeArray } from "../../lib/code-array.js";
import { Random } from "../../lib/random.js";
import { expectSame } from "./backends.js";
import { type Data, hardFamilies, makeData, makeStages, type Shape, withoutZeroRows } from "./families.js";
import { d64, type Encoded } from "./reference.js";

export interface Form {
  readonly metric: Metric;
  readonly weighted: boolean;
  readonly stages: number;
}

/** Vectors of a family (of either list of families.ts) and codebooks of all stages, as the form wants them. */
export function makeSpec(family: string, shape: Shape, { metric, weighted, stages }: Form, seed: number) {
  const data: Data =
    family in hardFamilies ? { family, ...hardFamilies[family](shape, seed) } : makeData(family, shape, seed);
  const prepare = (matrix: Float32Array) => (metric === "cosine" ? withoutZeroRows(matrix, shape.dim) : matrix);
  const random = new Random(seed + 2);
  // A third of the weights is zero, the others spread over six orders of magnitude.
  const weight = () => (random.below(3) === 0 ? 0 : 10 ** (6 * random.fraction() - 3));
  const weights = weighted ? Float32Array.from({ length: shape.dim }, weight) : null;
  const codebooks = makeStages(data, shape, stages, seed).map(prepare);
  const spec: CodebookSpec = { dim: shape.dim, metric, weights, codebooks };
  return { spec, vectors: prepare(data.vectors) };
}

/** `expected`: by reference.ts. */
export async function expectDefinition(
  prepared: PreparedCodebooks,
  spec: CodebookSpec,
  vectors: Float32Array,
  expected: Encoded,
  context: Record<string, unknown>,
): Promise<void> {
  const { dim, weights, codebooks } = spec;
  const stages = codebooks.length;
  const count = vectors.length / dim;
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
