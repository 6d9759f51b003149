// Losses of vector quantization and their gradients, for encoders that are trained elsewhere: pure functions of arrays.
//
// sg(·) is the stop-gradient: what stands in it counts as a constant. All arithmetic is float64 in the order written, rows
// in order; a gradient is rounded to float32 once. The functions run on the calling thread, a few milliseconds for a
// million elements.

import type { CodeArray } from "./backend.js";
import { firstBadInput } from "./bad-input.js";
import { squaredDistance } from "./canonical.js";
import {
  badInput,
  checkCodeRange,
  checkCodes,
  checkInteger,
  checkNumber,
  checkRequiredOptions,
  checkVectors,
  limits,
} from "./check.js";
import { invalidArgument } from "./errors.js";
import { type CheckedRows, checkRows, type RowOptions } from "./row-options.js";

export interface LossOptions extends RowOptions {
  /** D, the length of one vector. */
  readonly dim: number;
}

export interface CommitmentLossOptions extends LossOptions {
  /** β ≥ 0. Default 0.25, as in VQ-VAE (van den Oord et al., 2017). */
  readonly beta?: number;
}

/**
 * β·‖x − sg(q)‖², the mean over the elements of the rows that count: β·Σ_n w_n‖x_n − q_n‖² / (D·Σ_n w_n), 0 where no row counts.
 * The gradient is dx = 2β·w_n·(x − q) / (D·Σw), zero in rows that are left out.
 * @param vectors vectors[N][D], what the encoder made
 * @param quantized quantized[N][D], their reconstructions; or those of one stage, with its residuals as vectors
 * @throws RvqError INVALID_ARGUMENT, NOT_FINITE
 */
export function commitmentLoss(
  vectors: Float32Array,
  quantized: Float32Array,
  options: CommitmentLossOptions,
): { loss: number; dx: Float32Array } {
  const { dim, rows, count } = checkLoss(options, vectors);
  const beta = checkNumber("beta", options.beta ?? 0.25, 0, "a finite number ≥ 0");
  const x = checkMatrix("vectors", vectors, dim, count);
  const q = checkMatrix("quantized", quantized, dim, count);
  const dx = new Float32Array(x.length);
  const elements = dim * rows.totalWeight;

  let sum = 0;
  for (let n = 0; n < count; n++) {
    const weight = rows.weightOf(n);
    if (weight === 0) continue;
    const distance = squaredDistance(x, n * dim, q, n * dim, dim, null, Infinity);
    if (distance - distance !== 0) throw notFinite(n, dim, { vectors: x, quantized: q });
    sum += weight * distance;
    const scale = (2 * beta * weight) / elements;
    for (let i = n * dim; i < (n + 1) * dim; i++) dx[i] = scale * (x[i] - q[i]);
  }
  return { loss: elements === 0 ? 0 : (beta * sum) / elements, dx };
}

/**
 * ‖sg(x) − c‖², the mean over the elements of the rows that count: Σ_n w_n‖x_n − c_{codes[n]}‖² / (D·Σ_n w_n). The gradient of
 * codeword k is Σ_{n: codes[n] = k} 2·w_n·(c_k − x_n) / (D·Σw). For codebooks that are learnt by gradients instead of averages.
 * @param vectors vectors[N][D]: what the codebook quantizes; for a later stage the residuals of the stages before
 * @param codes codes[N]
 * @param codebook codebook[K][D]
 * @throws RvqError INVALID_ARGUMENT, CODE_OUT_OF_RANGE, NOT_FINITE
 */
export function codebookLoss(
  vectors: Float32Array,
  codes: CodeArray,
  codebook: Float32Array,
  options: LossOptions,
): { loss: number; dCodebook: Float32Array } {
  const { dim, rows, count } = checkLoss(options, vectors);
  const x = checkMatrix("vectors", vectors, dim, count);
  const { data } = checkCodes("codes", { count, stages: 1, data: codes }, 1);
  const c = checkVectors("codebook", codebook, dim);
  checkCodeRange("codes", data, 1, [c.length / dim], 0);
  const sums = new Float64Array(c.length);
  const elements = dim * rows.totalWeight;

  let sum = 0;
  for (let n = 0; n < count; n++) {
    const weight = rows.weightOf(n);
    if (weight === 0) continue;
    const start = data[n] * dim;
    const distance = squaredDistance(x, n * dim, c, start, dim, null, Infinity);
    if (distance - distance !== 0) {
      throw notFinite(0, dim, {
        vectors: x.subarray(n * dim, (n + 1) * dim),
        codebook: c.subarray(start, start + dim),
      });
    }
    sum += weight * distance;
    for (let i = 0; i < dim; i++) sums[start + i] += weight * (c[start + i] - x[n * dim + i]);
  }
  const scale = elements === 0 ? 0 : 2 / elements;
  return { loss: elements === 0 ? 0 : sum / elements, dCodebook: Float32Array.from(sums, (value) => scale * value) };
}

/**
 * The straight-through gradient (Bengio et al., 2013): the quantizer counts as the identity, dx = dq; zero in rows that are left out.
 * @param dQuantized dQuantized[N][D], the gradient of the loss with respect to the quantized vectors
 * @throws RvqError INVALID_ARGUMENT
 */
export function straightThroughGradient(dQuantized: Float32Array, options: LossOptions): Float32Array {
  const { dim, rows, count } = checkLoss(options, dQuantized, "dQuantized");
  const dx = checkMatrix("dQuantized", dQuantized, dim, count).slice();
  for (let n = 0; n < count; n++) if (rows.weightOf(n) === 0) dx.fill(0, n * dim, (n + 1) * dim);
  return dx;
}

/**
 * The gradient of the rotation trick (Fifty et al., 2024, arXiv 2410.06424): the quantizer counts as the linear map that turns x
 * into q and scales it, q = λ·R·x with λ = ‖q‖/‖x‖ and R = I − 2·r·rᵀ + 2·q̂·x̂ᵀ, r = (x̂ + q̂)/‖x̂ + q̂‖, both constants. So
 * dx = λ·Rᵀ·dq = λ·(dq − 2·r·(r·dq) + 2·x̂·(q̂·dq)).
 *
 * Where x or q is zero there is no rotation: those rows get the straight-through gradient. Where they point in opposite directions
 * r has none, and its term is left out: R is then the reflection that turns x into q. Rows that are left out get zero.
 * @param vectors vectors[N][D]
 * @param quantized quantized[N][D]
 * @param dQuantized dQuantized[N][D], the gradient of the loss with respect to the quantized vectors
 * @throws RvqError INVALID_ARGUMENT
 */
export function rotationTrickGradient(
  vectors: Float32Array,
  quantized: Float32Array,
  dQuantized: Float32Array,
  options: LossOptions,
): Float32Array {
  const { dim, rows, count } = checkLoss(options, vectors);
  const x = checkMatrix("vectors", vectors, dim, count);
  const q = checkMatrix("quantized", quantized, dim, count);
  const dq = checkMatrix("dQuantized", dQuantized, dim, count);
  const dx = new Float32Array(x.length);
  for (let start = 0, n = 0; n < count; n++, start += dim) {
    if (rows.weightOf(n) !== 0) rotateBack(x, q, dq, dx, start, dim);
  }
  return dx;
}

/** Squared lengths of x̂ + q̂ below this are rounding: the directions are opposite. */
const opposite = 1e-24;

/** One row of `rotationTrickGradient`; sums run in increasing i. */
function rotateBack(
  x: Float32Array,
  q: Float32Array,
  dq: Float32Array,
  dx: Float32Array,
  start: number,
  dim: number,
): void {
  const end = start + dim;
  let xx = 0;
  let qq = 0;
  for (let i = start; i < end; i++) {
    xx += x[i] * x[i];
    qq += q[i] * q[i];
  }
  if (xx === 0 || qq === 0) {
    dx.set(dq.subarray(start, end), start);
    return;
  }
  const xLength = Math.sqrt(xx);
  const qLength = Math.sqrt(qq);

  // s = x̂ + q̂, so that r·(r·dq) = s·(s·dq) / (s·s).
  let ss = 0;
  let sg = 0;
  let qg = 0;
  for (let i = start; i < end; i++) {
    const s = x[i] / xLength + q[i] / qLength;
    ss += s * s;
    sg += s * dq[i];
    qg += (q[i] / qLength) * dq[i];
  }
  const scale = qLength / xLength;
  const alongSum = ss < opposite ? 0 : (2 * sg) / ss;
  for (let i = start; i < end; i++) {
    const direction = x[i] / xLength;
    dx[i] = scale * (dq[i] - alongSum * (direction + q[i] / qLength) + 2 * qg * direction);
  }
}

function checkLoss(
  options: LossOptions,
  matrix: unknown,
  name = "vectors",
): { dim: number; rows: CheckedRows; count: number } {
  checkRequiredOptions("options", options);
  const dim = checkInteger("dim", options.dim, 1, limits.dim);
  const count = checkVectors(name, matrix, dim).length / dim;
  return { dim, rows: checkRows(options, count), count };
}

/** matrix[count][dim]. */
function checkMatrix(name: string, value: unknown, dim: number, count: number): Float32Array {
  const matrix = checkVectors(name, value, dim);
  if (matrix.length !== count * dim) {
    throw invalidArgument(name, `${count * dim} elements, as many as the vectors have`, matrix.length);
  }
  return matrix;
}

/** Finite float32 never overflows a float64 distance: one of these rows has something else. */
function notFinite(row: number, dim: number, matrices: Record<string, Float32Array>): Error {
  for (const [name, matrix] of Object.entries(matrices)) {
    const values = matrix.subarray(row * dim, (row + 1) * dim);
    const bad = firstBadInput(values, dim, false);
    if (bad !== null) return badInput(name, bad, row, values[bad.column]);
  }
  return invalidArgument("vectors", "finite numbers", "others");
}
