// Statistics of codes and codebooks: exact sums and means on an integer grid, usage and perplexity.

import type { Backend, CodeArray } from "./backend.js";
import { type Codes, checkCodeRange } from "./check.js";
import type { HeldRows } from "./resident.js";
import { StepMeter, type Steps } from "./time-slice.js";

/** Counts and sums of the vectors assigned to each codeword; exact, so shards and threads may be merged in any order. */
export interface StageStatistics {
  readonly dim: number;
  /** gridExponents[D]: sums of dimension i are in units of 2^gridExponents[i]. */
  readonly gridExponents: Int32Array;
  /** counts[K], integers. */
  readonly counts: Float64Array;
  /** sums[K][D], integers in units of the dimension's grid. */
  readonly sums: Float64Array;
}

export function emptyStatistics(numCodewords: number, gridExponents: Int32Array): StageStatistics {
  const dim = gridExponents.length;
  return {
    dim,
    gridExponents,
    counts: new Float64Array(numCodewords),
    sums: new Float64Array(numCodewords * dim),
  };
}

/**
 * Adds vectors[count][D] with codes[count] to the statistics; or, where they are in there with other codes, moves those that changed.
 */
export function accumulate(
  backend: Backend,
  statistics: StageStatistics,
  vectors: Float32Array,
  codes: CodeArray,
  previousCodes?: CodeArray,
  held?: HeldRows | null,
): Promise<void> {
  const { dim, gridExponents, counts, sums } = statistics;
  const rows = { vectors, count: codes.length, dim, codes, previousCodes, held };
  return backend.accumulate({ ...rows, numCodewords: counts.length, gridExponents, counts, sums });
}

/**
 * The grid for `rows` numbers of magnitude at most `maxMagnitude`: a power of two, the finest or the one after it, on which
 * the sum of that many rounded numbers stays within 2^51. Float32 has nothing finer than 2^-149.
 */
export function gridExponentFor(maxMagnitude: number, rows: number): number {
  // maxMagnitude < 2^magnitudeBits and rows ≤ 2^rowBits, from the float's own exponent: no logarithm to round.
  const bits = new Uint32Array(Float32Array.of(maxMagnitude).buffer)[0];
  const magnitudeBits = Math.max(1, bits >>> 23) - 126;
  const rowBits = rows <= 1 ? 0 : bitLength(rows - 1);
  return Math.max(-149, magnitudeBits + rowBits + 1 - 51);
}

/** The grid of each dimension for so many rows whose numbers there are of magnitude at most maxMagnitudes[D]. */
export function gridExponentsOf(maxMagnitudes: Float32Array, rows: number): Int32Array {
  return Int32Array.from(maxMagnitudes, (magnitude) => gridExponentFor(magnitude, rows));
}

/** Bits of an integer from 1 to 2^53 − 1. */
function bitLength(integer: number): number {
  const high = Math.floor(integer / 2 ** 32);
  return high > 0 ? 64 - Math.clz32(high) : 32 - Math.clz32(integer);
}

/**
 * Steps that write the mean of every codeword that has vectors; the others are left alone.
 *
 * With `shrinkage` λ > 0 a mean is drawn towards the mean m of all vectors as if λ more of them lay there,
 * c = (Σx + λ·m) / (n + λ): a codeword that few vectors vouch for strays less (ridge, or James and Stein's, estimate).
 * float64 in the order written, rounded to float32 once.
 */
export function* meanSteps(statistics: StageStatistics, codebook: Float32Array, shrinkage: number): Steps<void> {
  const { dim, gridExponents, counts, sums } = statistics;
  const grids = Float64Array.from(gridExponents, (exponent) => 2 ** exponent);
  const prior = shrinkage === 0 ? new Float64Array(dim) : overallMean(statistics).map((m) => shrinkage * m);
  const meter = new StepMeter();
  for (let k = 0; k < counts.length; k++) {
    if (meter.add(2 * dim)) yield;
    if (counts[k] === 0) continue;
    const weight = counts[k] + shrinkage;
    for (let i = 0; i < dim; i++) codebook[k * dim + i] = (sums[k * dim + i] * grids[i] + prior[i]) / weight;
  }
}

function overallMean({ dim, gridExponents, counts, sums }: StageStatistics): Float64Array {
  const mean = new Float64Array(dim);
  let total = 0;
  for (let k = 0; k < counts.length; k++) {
    total += counts[k];
    for (let i = 0; i < dim; i++) mean[i] += sums[k * dim + i];
  }
  return mean.map((sum, i) => (sum * 2 ** gridExponents[i]) / total);
}

/** How one stage's codewords are used. */
export interface Usage {
  /** counts[K]: vectors per codeword. */
  readonly counts: Float64Array;
  /** exp(−Σ p ln p), 1 … K: how many equally used codewords would carry as much; 0 without vectors. */
  readonly perplexity: number;
  /** The fraction of codewords used at least once. */
  readonly used: number;
}

/** Counts, perplexity and fraction used of every column of data[rows][columns]. @throws RvqError CODE_OUT_OF_RANGE */
export function usageOf({ stages: columns, data }: Codes, codebookSizes: readonly number[]): Usage[] {
  checkCodeRange("codes", data, columns, codebookSizes, 0);
  return Array.from({ length: columns }, (_, column) => stageUsage(data, columns, column, codebookSizes[column]));
}

/** Usage of `numCodewords` codewords by column `stage` of data[count][codeStages]. */
export function stageUsage(data: CodeArray, codeStages: number, stage: number, numCodewords: number): Usage {
  const counts = new Float64Array(numCodewords);
  for (let i = stage; i < data.length; i += codeStages) counts[data[i]]++;
  return usageOfCounts(counts);
}

/** Usage by counts[K], which may be sums of row weights. */
export function usageOfCounts(counts: Float64Array): Usage {
  let total = 0;
  for (const count of counts) total += count;
  let entropy = 0;
  let used = 0;
  for (const count of counts) {
    if (count === 0) continue;
    used++;
    entropy -= (count / total) * Math.log(count / total);
  }
  return { counts, perplexity: total === 0 ? 0 : Math.exp(entropy), used: used / counts.length };
}
