// Walks rows through the stages of residual codebooks: hands every stage's rows and codes on before the next sees what is left over.

import type { Backend, BadInput, CodeArray, CodebookSpec, PreparedCodebooks } from "./backend.js";
import { squaredDistance } from "./canonical.js";
import { isZeroRow } from "./check.js";
import { forEachChunk } from "./chunks.js";
import { newCodeArray } from "./code-array.js";
import { inSlices } from "./time-slice.js";

export interface StageOfRows {
  readonly stage: number;
  /** residuals[M][D]: what the stage quantizes. Valid until the visit is over. */
  readonly residuals: Float32Array;
  /** codes[M], each below K. */
  readonly codes: CodeArray;
  /** The codes, but K in rows that do not count in this stage; the same array where all do. */
  readonly counted: CodeArray;
  /** distances[M] = d64(residual, codeword), with the weights of the metric; empty unless measured. */
  readonly distances: Float64Array;
  /** The same without weights. */
  readonly plainDistances: Float64Array;
}

export interface WalkOptions {
  /** stagesOfRow[M]: a row counts in so many stages; null: in all. */
  readonly stagesOfRow: Uint16Array | null;
  readonly measure: boolean;
  readonly signal: AbortSignal | undefined;
  /** The error for what a search refuses in the vectors. */
  readonly refuse: (bad: BadInput) => Error;
}

/**
 * Codes of vectors[M][D], which become residuals, by every stage in turn, as `encode` gives them. With the cosine metric a residual
 * that is exactly zero has code 0 and does not count.
 */
export async function walkStages(
  backend: Backend,
  spec: CodebookSpec,
  vectors: Float32Array,
  options: WalkOptions,
  visit: (rows: StageOfRows) => Promise<void>,
): Promise<void> {
  const { dim, metric, codebooks } = spec;
  const count = vectors.length / dim;
  let residuals = vectors;
  let next: Float32Array | undefined = codebooks.length > 1 ? new Float32Array(vectors.length) : undefined;
  for (const [stage, codebook] of codebooks.entries()) {
    const numCodewords = codebook.length / dim;
    const last = stage === codebooks.length - 1;
    // A zero residual has code 0 by definition, but as the input of a search it would be refused: the first codeword stands for it.
    const zeroRows = metric === "cosine" && stage > 0 ? await findZeroRows(residuals, dim) : [];
    for (const row of zeroRows) residuals.set(codebook.subarray(0, dim), row * dim);

    const codes = newCodeArray(count, [numCodewords + 1]);
    const distances = new Float64Array(options.measure ? count : 0);
    const plainDistances = spec.weights === null ? distances : new Float64Array(distances.length);
    const prepared = backend.prepare({ ...spec, codebooks: [codebook] });
    try {
      const chunk = { prepared, dim, residuals, codes, distances, plainDistances, next: last ? undefined : next };
      await searchStage(backend, numCodewords, chunk, options);
    } finally {
      prepared.dispose();
    }
    for (const row of zeroRows) {
      residuals.fill(0, row * dim, (row + 1) * dim);
      if (options.measure) distances[row] = squaredDistance(residuals, row * dim, codebook, 0, dim, null, Infinity);
      if (!last && next !== undefined) for (let i = 0; i < dim; i++) next[row * dim + i] = 0 - codebook[i];
    }

    const counted = await countedCodes(codes, numCodewords, stage, options.stagesOfRow, zeroRows);
    await visit({ stage, residuals, codes, counted, distances, plainDistances });
    options.signal?.throwIfAborted();
    if (next !== undefined) [residuals, next] = [next, residuals];
  }
}

interface StageChunk {
  readonly prepared: PreparedCodebooks;
  readonly dim: number;
  readonly residuals: Float32Array;
  readonly codes: CodeArray;
  readonly distances: Float64Array;
  readonly plainDistances: Float64Array;
  /** Output [M][D]: what the stage leaves over, where wanted. */
  readonly next: Float32Array | undefined;
}

/** Codes, distances and what is left over, chunk by chunk. */
async function searchStage(
  backend: Backend,
  numCodewords: number,
  { prepared, dim, residuals, codes, distances, plainDistances, next }: StageChunk,
  { measure, signal, refuse }: WalkOptions,
): Promise<void> {
  const searchChunk = async (first: number, rows: number, chunkOf: object | undefined) => {
    const end = first + rows;
    const search = {
      vectors: residuals.subarray(first * dim, end * dim),
      count: rows,
      stages: 1,
      codes: codes.subarray(first, end),
      chunkOf,
    };
    const bad = await prepared.encode({ ...search, residuals: next?.subarray(first * dim, end * dim) });
    if (bad !== null || !measure) return bad;
    const measured = { ...search, codeStages: 1 };
    await prepared.distances({ ...measured, weighted: true, distances: distances.subarray(first, end) });
    if (plainDistances !== distances) {
      await prepared.distances({ ...measured, weighted: false, distances: plainDistances.subarray(first, end) });
    }
    return null;
  };
  const chunked = { backend, dim, codewordsPerVector: numCodewords };
  await forEachChunk(codes.length, chunked, { signal }, searchChunk, (bad, first) => {
    if (bad !== null) throw refuse({ ...bad, row: first + bad.row });
  });
}

async function countedCodes(
  codes: CodeArray,
  leftOut: number,
  stage: number,
  stagesOfRow: Uint16Array | null,
  zeroRows: readonly number[],
): Promise<CodeArray> {
  if (stagesOfRow === null && zeroRows.length === 0) return codes;
  const counted = codes.slice();
  if (stagesOfRow !== null) {
    await inSlices(codes.length, 1, (from, to) => {
      for (let n = from; n < to; n++) if (stagesOfRow[n] <= stage) counted[n] = leftOut;
    });
  }
  for (const row of zeroRows) counted[row] = leftOut;
  return counted;
}

async function findZeroRows(residuals: Float32Array, dim: number): Promise<number[]> {
  const rows: number[] = [];
  await inSlices(residuals.length, dim, (from, to) => {
    for (let start = from; start < to; start += dim) if (isZeroRow(residuals, start, dim)) rows.push(start / dim);
  });
  return rows;
}
