// What a stage leaves over of the vectors in training, for the next one to learn from.

import type { Backend, CodeArray, CodebookSpec } from "./backend.js";
import { allFinite } from "./bad-input.js";
import { isZeroRow } from "./check.js";
import { forEachChunk } from "./chunks.js";
import { newCodeArray } from "./code-array.js";
import { invalidArgument, RvqError } from "./errors.js";
import { inSlices } from "./time-slice.js";

/** The rows that have a direction. A residual that is exactly zero gets code 0 and takes no part in cosine training. */
export async function nonZeroRows(residuals: Float32Array, dim: number, stage: number): Promise<Float32Array> {
  let left = residuals.length;
  await inSlices(residuals.length, dim, (from, to) => {
    for (let start = from; start < to; start += dim) if (isZeroRow(residuals, start, dim)) left -= dim;
  });
  if (left === residuals.length) return residuals;
  if (left === 0) {
    throw invalidArgument("stages", `at most ${stage}: after those every residual is zero`, `more than ${stage}`);
  }
  const gathered = new Float32Array(left);
  let next = 0;
  await inSlices(residuals.length, dim, (from, to) => {
    for (let start = from; start < to; start += dim) {
      if (isZeroRow(residuals, start, dim)) continue;
      gathered.set(residuals.subarray(start, start + dim), next);
      next += dim;
    }
  });
  return gathered;
}

/** residuals[N][D] −= the stage's codeword of each row. Where it throws they are unspecified. */
export async function subtractStage(
  backend: Backend,
  spec: CodebookSpec,
  residuals: Float32Array,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { dim, codebooks } = spec;
  const codebook = codebooks[0];
  // A zero residual has code 0 by definition, but as the *input* of a search it would be refused: subtract it here.
  const zeroRows: number[] = [];
  if (spec.metric === "cosine") {
    for (let start = 0; start < residuals.length; start += dim)
      if (isZeroRow(residuals, start, dim)) zeroRows.push(start);
    for (const start of zeroRows) residuals.set(codebook.subarray(0, dim), start);
  }
  await encodeStage(backend, spec, residuals, signal, residuals);
  for (const start of zeroRows) {
    for (let i = 0; i < dim; i++) residuals[start + i] = 0 - codebook[i];
  }
  await refuseOverflow(residuals);
}

/** The codes[N] of vectors[N][D] in the spec's one stage; `residuals`, where they are wanted, may be the vectors. */
export async function encodeStage(
  backend: Backend,
  spec: CodebookSpec,
  vectors: Float32Array,
  signal: AbortSignal | undefined,
  residuals?: Float32Array,
): Promise<CodeArray> {
  const { dim, codebooks } = spec;
  const numCodewords = codebooks[0].length / dim;
  const count = vectors.length / dim;
  const codes = newCodeArray(count, [numCodewords]);
  const prepared = backend.prepare(spec);
  try {
    const encodeChunk = (first: number, rows: number, chunkOf: object | undefined) =>
      prepared.encode({
        vectors: vectors.subarray(first * dim, (first + rows) * dim),
        count: rows,
        stages: 1,
        codes: codes.subarray(first, first + rows),
        residuals: residuals?.subarray(first * dim, (first + rows) * dim),
        chunkOf,
      });
    await forEachChunk(count, { backend, dim, codewordsPerVector: numCodewords }, { signal }, encodeChunk, () => {});
  } finally {
    prepared.dispose();
  }
  return codes;
}

/** residuals[N][D] −= the codewords of codes[N]. */
export async function subtractCodewords(
  codebook: Float32Array,
  codes: CodeArray,
  residuals: Float32Array,
): Promise<void> {
  const dim = residuals.length / codes.length;
  await inSlices(residuals.length, dim, (from, to) => {
    for (let start = from; start < to; start += dim) {
      const codeword = codes[start / dim] * dim;
      for (let i = 0; i < dim; i++) residuals[start + i] -= codebook[codeword + i];
    }
  });
  await refuseOverflow(residuals);
}

/** For residuals, or the largest magnitudes of their columns. */
export async function refuseOverflow(residuals: Float32Array): Promise<void> {
  if (!(await allFinite(residuals))) throw residualOverflow();
}

export function residualOverflow(): RvqError {
  const message = "vectors: expected magnitudes below 1.7e38, got larger ones whose residuals overflow float32";
  return new RvqError("INVALID_ARGUMENT", message);
}
