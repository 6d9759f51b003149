// The squared error of each frame by the number of its stages: what rate control weighs against bits.

import { type Codes, checkCodeRange, checkCodes, checkSignal, checkVectors } from "./check.js";
import { invalidArgument } from "./errors.js";
import type { ResidualQuantizer } from "./residual-quantizer.js";
import { runInSlices, StepMeter, type Steps } from "./time-slice.js";

/**
 * errors[count][S + 1] of vectors[count][dim] with codes of S stages: Σ w_i (x_i − x̂_i)² of the reconstructions from the first 0, 1, …
 * S stages, weights being 1 without the metric's. Summed in float64 in the order of the dimensions, so the same bits everywhere.
 * @throws RvqError INVALID_ARGUMENT, CODE_OUT_OF_RANGE; the signal's reason when aborted
 */
export async function frameErrors(
  quantizer: ResidualQuantizer,
  vectors: Float32Array,
  codes: Codes,
  options: { readonly signal?: AbortSignal } = {},
): Promise<Float64Array> {
  const { dim, codebookSizes } = quantizer;
  const signal = checkSignal("signal", options?.signal);
  const checked = checkCodes("codes", codes, quantizer.stages);
  const plain = checkVectors("vectors", vectors, dim);
  if (plain.length !== checked.count * dim) {
    throw invalidArgument("vectors", `codes.count · dim = ${checked.count * dim} elements`, plain.length);
  }
  checkCodeRange("codes", checked.data, checked.stages, codebookSizes, 0);
  const weights = quantizer.weights() ?? new Float32Array(dim).fill(1);
  return runInSlices(measure(plain, checked, quantizer.codebooks(), weights, signal));
}

function* measure(
  vectors: Float32Array,
  { count, stages, data }: Codes,
  codebooks: readonly Float32Array[],
  weights: Float32Array,
  signal: AbortSignal | undefined,
): Steps<Float64Array> {
  const dim = weights.length;
  const errors = new Float64Array(count * (stages + 1));
  const reconstruction = new Float32Array(dim);
  const meter = new StepMeter();
  for (let frame = 0; frame < count; frame++) {
    const vector = vectors.subarray(frame * dim, (frame + 1) * dim);
    reconstruction.fill(0);
    errors[frame * (stages + 1)] = squaredError(vector, reconstruction, weights);
    for (let stage = 0; stage < stages; stage++) {
      const codebook = codebooks[stage];
      const start = data[frame * stages + stage] * dim;
      for (let i = 0; i < dim; i++) reconstruction[i] += codebook[start + i];
      errors[frame * (stages + 1) + stage + 1] = squaredError(vector, reconstruction, weights);
    }
    if (!meter.add(2 * dim * stages)) continue;
    signal?.throwIfAborted();
    yield;
  }
  return errors;
}

function squaredError(vector: Float32Array, reconstruction: Float32Array, weights: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < weights.length; i++) {
    const t = vector[i] - reconstruction[i];
    sum += weights[i] * (t * t);
  }
  return sum;
}
