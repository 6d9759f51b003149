// The squared error of each frame by the number of its stages: what rate control weighs against bits.

import { firstBadInput } from "./bad-input.js";
import { badInput, type Codes, checkCodeRange, checkCodes, checkOptions, checkSignal, checkVectors } from "./check.js";
import { invalidArgument } from "./errors.js";
import { ProjectedQuantizer } from "./projected-quantizer.js";
import { ResidualQuantizer } from "./residual-quantizer.js";
import { checkLeftAlone, stageRows } from "./staging.js";
import { inSlices, runInSlices, StepMeter, type Steps } from "./time-slice.js";

/**
 * errors[count][S + 1] of vectors[count][dim] with codes of S stages: Σ w_i (x_i − x̂_i)² of the reconstructions from the first 0, 1, …
 * S stages, weights being 1 without the metric's. Summed in float64 in the order of the dimensions, so the same bits everywhere.
 * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, CODE_OUT_OF_RANGE; the signal's reason when aborted
 */
export async function frameErrors(
  quantizer: ResidualQuantizer | ProjectedQuantizer,
  vectors: Float32Array,
  codes: Codes,
  options: { readonly signal?: AbortSignal } = {},
): Promise<Float64Array> {
  if (!(quantizer instanceof ResidualQuantizer || quantizer instanceof ProjectedQuantizer)) {
    throw invalidArgument("quantizer", "a ResidualQuantizer or a ProjectedQuantizer", quantizer);
  }
  checkOptions("options", options);
  const { dim, codebookSizes } = quantizer;
  const signal = checkSignal("signal", options.signal);
  const checked = checkCodes("codes", codes, quantizer.stages);
  const plain = checkVectors("vectors", vectors, dim);
  if (plain.length !== checked.count * dim) {
    throw invalidArgument("vectors", `codes.count · dim = ${checked.count * dim} elements`, plain.length);
  }
  await inSlices(plain.length, dim, (from, to) => {
    checkLeftAlone("vectors", plain, to);
    const bad = firstBadInput(plain.subarray(from, to), dim, false);
    if (bad !== null) throw badInput("vectors", bad, from / dim);
  });
  checkLeftAlone("codes.data", checked.data, checked.count * checked.stages);
  checkCodeRange("codes", checked.data, checked.stages, codebookSizes, 0);
  if (quantizer instanceof ProjectedQuantizer) return measureDecoded(quantizer, plain, checked, signal);
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
    checkLeftAlone("vectors", vectors, (frame + 1) * dim);
    checkLeftAlone("codes.data", data, (frame + 1) * stages);
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

/** Rows that are decoded together: a few MiB. */
const elementsTogether = 2 ** 20;

/** The same of reconstructions that are no sums of codewords: decoded from every number of stages in turn. */
async function measureDecoded(
  quantizer: ProjectedQuantizer,
  vectors: Float32Array,
  { count, stages, data }: Codes,
  signal: AbortSignal | undefined,
): Promise<Float64Array> {
  const { dim } = quantizer;
  const weights = new Float32Array(dim).fill(1);
  const errors = new Float64Array(count * (stages + 1));
  const together = Math.max(1, Math.floor(elementsTogether / dim));
  for (let first = 0; first < count; first += together) {
    const rows = Math.min(together, count - first);
    const codes = { count: rows, stages, data: stageRows("codes.data", data, first, rows, stages) };
    for (let n = 0; n <= stages; n++) {
      const decoded = n === 0 ? new Float32Array(rows * dim) : await quantizer.decode(codes, { stages: n, signal });
      await inSlices(decoded.length, dim, (from, to) => {
        checkLeftAlone("vectors", vectors, first * dim + to);
        for (let start = from; start < to; start += dim) {
          const frame = first + start / dim;
          const vector = vectors.subarray(frame * dim, (frame + 1) * dim);
          errors[frame * (stages + 1) + n] = squaredError(vector, decoded.subarray(start, start + dim), weights);
        }
      });
    }
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
