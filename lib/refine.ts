// Joint refinement: all stages learn together, each codebook from what the others leave of the vectors.

import type { Backend, CodeArray, CodebookSpec } from "./backend.js";
import { firstBadInput } from "./bad-input.js";
import {
  badInput,
  checkFunction,
  checkInteger,
  checkOptions,
  checkShrinkage,
  checkSignal,
  checkVectors,
} from "./check.js";
import { forEachChunk } from "./chunks.js";
import { newCodeArray } from "./code-array.js";
import { publishingProgress, traced, trainCalls } from "./diagnostics.js";
import { invalidArgument } from "./errors.js";
import { keepNonZero } from "./kmeans-rows.js";
import { checkOptionNames, type OptionNames } from "./option-names.js";
import { checkBeam } from "./quantizer-options.js";
import { refuseOverflow, residualOverflow } from "./residual-rows.js";
import { columnMagnitudes } from "./stage-sums.js";
import { accumulate, emptyStatistics, gridExponentsOf, meanSteps } from "./statistics.js";
import { inSlices, runInSlices } from "./time-slice.js";

export interface RefineOptions {
  /** How often the vectors are encoded and the codebooks then moved. Default 6. */
  readonly iterations?: number;
  /**
   * The beam of that encoding. Default 1, also where vectors will be encoded with a wider one later: on vectors that it has not
   * learned from that is no worse, and much quicker (docs/training.md).
   */
  readonly beam?: number;
  /** λ ≥ 0 as in training: draws each codeword towards the mean of what its stage has to describe. Default 0. */
  readonly shrinkage?: number;
  /** Called after every encoding. */
  readonly onProgress?: (progress: RefineProgress) => void;
  readonly signal?: AbortSignal;
}

const refineNames: OptionNames<RefineOptions> = {
  iterations: true,
  beam: true,
  shrinkage: true,
  onProgress: true,
  signal: true,
};

export interface RefineProgress {
  /** The iteration at work, from 0. */
  readonly iteration: number;
  readonly iterations: number;
  /** Mean squared error per element over the vectors, by the codebooks that the iteration starts from. */
  readonly mse: number;
  /** 10·log10 of the vectors' energy over the error's. */
  readonly snrDb: number;
}

/** What `refineCodebooks` needs to know. */
export interface Refinement {
  readonly iterations: number;
  readonly beam: number;
  readonly shrinkage: number;
  readonly onProgress: RefineOptions["onProgress"];
  readonly signal: AbortSignal | undefined;
}

/** Codebooks that each refinement goes over, one after the other; more passes change little until codes change. */
const passes = 2;

/**
 * The codebooks of `spec` refined on vectors[N][dim], which are copied.
 * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, ZERO_VECTOR; the signal's reason when aborted
 */
export async function refineModel(
  backend: Backend,
  spec: CodebookSpec,
  vectorsArgument: unknown,
  options: RefineOptions,
): Promise<CodebookSpec> {
  checkOptions("options", options);
  checkOptionNames(options, refineNames);
  const { dim, metric } = spec;
  const { onProgress } = options;
  checkFunction("onProgress", onProgress);
  const refinement = {
    iterations: checkInteger("iterations", options.iterations ?? 6, 1, 1_000_000),
    beam: checkBeam(options.beam ?? 1, metric),
    shrinkage: checkShrinkage(options.shrinkage),
    onProgress: publishingProgress(onProgress),
    signal: checkSignal("signal", options.signal),
  };
  const vectors = checkVectors("vectors", vectorsArgument, dim).slice();
  if (vectors.length === 0) throw invalidArgument("vectors", "at least one vector", vectors.length);
  await inSlices(vectors.length, dim, (from, to) => {
    const rows = vectors.subarray(from, to);
    const bad = firstBadInput(rows, dim, metric === "cosine");
    if (bad !== null) throw badInput("vectors", bad, from / dim, rows[bad.row * dim + bad.column]);
  });
  const shape = { dim, vectors: vectors.length / dim, stages: spec.codebooks.length };
  const event = () => ({ method: "refine", backend: backend.name, sync: false, ...shape }) as const;
  const codebooks = await traced(trainCalls, event, () => refineCodebooks(backend, spec, vectors, refinement));
  return { ...spec, codebooks };
}

/**
 * Codebooks for vectors[N][dim], N ≥ 1, all finite (and none zero with the cosine metric), that start from those of `spec`.
 *
 * Each iteration encodes the vectors, and then fits the codebooks to these codes by least squares, one at a time: every
 * codeword moves to the mean of its targets t = r + c, r being what all stages leave of a vector and c the codeword itself.
 * Passes over the stages converge to the joint optimum (Gauss and Seidel). Codewords without vectors stay.
 */
export async function refineCodebooks(
  backend: Backend,
  spec: CodebookSpec,
  vectors: Float32Array,
  { iterations, beam, shrinkage, onProgress, signal }: Refinement,
): Promise<Float32Array[]> {
  const { dim, metric } = spec;
  const codebooks = spec.codebooks.map((codebook) => codebook.slice());
  const residuals = new Float32Array(vectors.length);
  const energy = await energyOf(vectors, dim);
  for (let iteration = 0; iteration < iterations; iteration++) {
    const codes = await encodeAll(backend, { ...spec, codebooks }, vectors, residuals, beam, signal);
    const error = await energyOf(residuals, dim);
    // NaN too.
    if (!(error < Infinity)) throw residualOverflow();
    onProgress?.({ iteration, iterations, mse: error / vectors.length, snrDb: 10 * Math.log10(energy / error) });
    for (let pass = 0; pass < passes; pass++) {
      for (const [stage, codebook] of codebooks.entries()) {
        signal?.throwIfAborted();
        await addCodewords(residuals, codebook, codes[stage], dim, 1);
        const magnitudes = await columnMagnitudes(residuals, dim);
        await refuseOverflow(magnitudes);
        const statistics = emptyStatistics(codebook.length / dim, gridExponentsOf(magnitudes, vectors.length / dim));
        await accumulate(backend, statistics, residuals, codes[stage]);
        const before = metric === "cosine" ? codebook.slice() : null;
        await runInSlices(meanSteps(statistics, codebook, shrinkage));
        if (before !== null) keepNonZero(codebook, before, dim);
        await addCodewords(residuals, codebook, codes[stage], dim, -1);
      }
    }
  }
  return codebooks;
}

/** Codes of every stage, codes[stages][N], and residuals[N][dim]. */
async function encodeAll(
  backend: Backend,
  spec: CodebookSpec,
  vectors: Float32Array,
  residuals: Float32Array,
  beam: number,
  signal: AbortSignal | undefined,
): Promise<CodeArray[]> {
  const { dim } = spec;
  const stages = spec.codebooks.length;
  const count = vectors.length / dim;
  const sizes = spec.codebooks.map((codebook) => codebook.length / dim);
  const codes = newCodeArray(count * stages, sizes);
  const prepared = backend.prepare(spec);
  try {
    const encodeChunk = (first: number, rows: number, chunkOf: object | undefined) =>
      prepared.encode({
        vectors: vectors.subarray(first * dim, (first + rows) * dim),
        count: rows,
        stages,
        beam,
        codes: codes.subarray(first * stages, (first + rows) * stages),
        residuals: residuals.subarray(first * dim, (first + rows) * dim),
        chunkOf,
      });
    const codewordsPerVector = beam * sizes.reduce((sum, size) => sum + size, 0);
    await forEachChunk(count, { backend, dim, codewordsPerVector }, { signal }, encodeChunk, () => {});
  } finally {
    prepared.dispose();
  }

  const byStage = sizes.map((size) => newCodeArray(count, [size]));
  await inSlices(codes.length, stages, (from, to) => {
    for (let i = from; i < to; i++) byStage[i % stages][Math.floor(i / stages)] = codes[i];
  });
  return byStage;
}

/** residuals[n] ±= the codeword of codes[n], each element rounded to float32. */
function addCodewords(
  residuals: Float32Array,
  codebook: Float32Array,
  codes: CodeArray,
  dim: number,
  sign: 1 | -1,
): Promise<void> {
  return inSlices(residuals.length, dim, (from, to) => {
    for (let start = from, n = from / dim; start < to; start += dim, n++) {
      const codeword = codes[n] * dim;
      for (let i = 0; i < dim; i++) residuals[start + i] += sign * codebook[codeword + i];
    }
  });
}

/** Σ x², in row order. */
async function energyOf(vectors: Float32Array, dim: number): Promise<number> {
  let energy = 0;
  await inSlices(vectors.length, dim, (from, to) => {
    let sum = energy;
    for (let i = from; i < to; i++) sum += vectors[i] * vectors[i];
    energy = sum;
  });
  return energy;
}
