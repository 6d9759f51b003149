// The arithmetic of search on codes, in float64: inner products, lookup tables of a query, norms of coded vectors.

import type { Codes } from "../check.js";
import { StepMeter, type Steps } from "../time-slice.js";

/**
 * Σ x_i·y[yOffset + i]: eight partial sums, lane i mod 8, each in the order of i, then ((s0+s4)+(s2+s6))+((s1+s5)+(s3+s7)).
 */
export function innerProduct(x: Float64Array, y: Float32Array, yOffset: number): number {
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  let s4 = 0;
  let s5 = 0;
  let s6 = 0;
  let s7 = 0;
  const whole = x.length - (x.length % 8);
  for (let i = 0; i < whole; i += 8) {
    s0 += x[i] * y[yOffset + i];
    s1 += x[i + 1] * y[yOffset + i + 1];
    s2 += x[i + 2] * y[yOffset + i + 2];
    s3 += x[i + 3] * y[yOffset + i + 3];
    s4 += x[i + 4] * y[yOffset + i + 4];
    s5 += x[i + 5] * y[yOffset + i + 5];
    s6 += x[i + 6] * y[yOffset + i + 6];
    s7 += x[i + 7] * y[yOffset + i + 7];
  }
  // The tail: at most one element for each of the first seven lanes.
  const rest = x.length - whole;
  const tail = yOffset + whole;
  if (rest > 0) s0 += x[whole] * y[tail];
  if (rest > 1) s1 += x[whole + 1] * y[tail + 1];
  if (rest > 2) s2 += x[whole + 2] * y[tail + 2];
  if (rest > 3) s3 += x[whole + 3] * y[tail + 3];
  if (rest > 4) s4 += x[whole + 4] * y[tail + 4];
  if (rest > 5) s5 += x[whole + 5] * y[tail + 5];
  if (rest > 6) s6 += x[whole + 6] * y[tail + 6];
  return s0 + s4 + (s2 + s6) + (s1 + s5 + (s3 + s7));
}

/** tables[s][k] = factor · ⟨query, codebooks[s][k]⟩, the factor being a power of two, or minus one: without rounding. */
export function* fillTables(
  query: Float64Array,
  factor: number,
  codebooks: readonly Float32Array[],
  tables: readonly Float64Array[],
): Steps<void> {
  const product = innerProduct;
  const dim = query.length;
  const meter = new StepMeter();
  for (const [stage, table] of tables.entries()) {
    for (let k = 0; k < table.length; k++) {
      table[k] = factor * product(query, codebooks[stage], k * dim);
      if (meter.add(dim)) yield;
    }
  }
}

/**
 * norms[n] = |x̂_n|², weights being 1 where there are none: x̂_n the sum of the codewords in float64, in stage order from zero; each term
 * (w_i·x̂_i)·x̂_i, summed in the lanes and the tree of `innerProduct`.
 */
export function* squaredNorms(
  { count, stages, data }: Codes,
  codebooks: readonly Float32Array[],
  weights: Float64Array,
  signal: AbortSignal | undefined,
  norms: Float64Array,
): Steps<void> {
  const add = addCodeword;
  const norm = squaredNorm;
  const meter = new StepMeter();
  const sum = new Float64Array(weights.length);
  for (let n = 0; n < count; n++) {
    sum.fill(0);
    for (let s = 0; s < stages; s++) add(sum, codebooks[s], data[n * stages + s] * sum.length);
    norms[n] = norm(sum, weights);
    if (!meter.add(sum.length * (stages + 1))) continue;
    signal?.throwIfAborted();
    yield;
  }
}

function addCodeword(sum: Float64Array, codebook: Float32Array, start: number): void {
  for (let i = 0; i < sum.length; i++) sum[i] += codebook[start + i];
}

export function squaredNorm(x: Float64Array | Float32Array, weights: Float64Array): number {
  const s = [0, 0, 0, 0, 0, 0, 0, 0];
  for (let i = 0; i < x.length; i++) s[i & 7] += weights[i] * x[i] * x[i];
  return s[0] + s[4] + (s[2] + s[6]) + (s[1] + s[5] + (s[3] + s[7]));
}
