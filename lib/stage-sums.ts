// Exact sums of the rows of every codeword, on grids that the range of the vectors decides: shards that agree on it can merge.

import type { Backend, CodeArray, CodebookSpec } from "./backend.js";
import { invalidArgument } from "./errors.js";
import { accumulate, emptyStatistics, gridExponentFor, gridExponentsOf, type StageStatistics } from "./statistics.js";
import { inSlices } from "./time-slice.js";

/** What shards agree on before they accumulate. */
export interface VectorRange {
  /** Rows that count, in all. */
  readonly rows: number;
  /** magnitudes[D]: the largest |x_i| of them. */
  readonly magnitudes: readonly number[];
  /** The largest row weight; null: rows have no weights, each counts as 1. */
  readonly maxWeight: number | null;
}

/** The grids of one stage. */
export interface StageGrid {
  /** gridExponents[D]: sums of dimension i are in units of 2^gridExponents[i]. */
  readonly gridExponents: Int32Array;
  /** Sums of row weights are in units of 2^weightExponent; 0 without weights. */
  readonly weightExponent: number;
}

/**
 * The grids of every stage for the rows of a range. Residuals need not be looked at: with |x_i| ≤ a_0 and |c_{s,k,i}| ≤ b_s for all
 * k, |r_{s,i}| ≤ a_s = fround(a_{s−1} + b_{s−1}), since rounding is monotone. A few of the 50 bits pay for it.
 * @param name what to call the source of the range in an error
 * @param codewordMagnitudes [stages][D], the largest |c_i| of every stage, where they are known
 * @throws RvqError INVALID_ARGUMENT where that bound overflows float32
 */
export async function stageGrids(
  name: string,
  range: VectorRange,
  { dim, codebooks }: CodebookSpec,
  codewordMagnitudes: Float32Array | null = null,
): Promise<StageGrid[]> {
  const { rows, maxWeight } = range;
  const magnitudes = Float32Array.from(range.magnitudes);
  const weightExponent = maxWeight === null ? 0 : gridExponentFor(maxWeight, rows);
  const grids: StageGrid[] = [];
  for (const [stage, codebook] of codebooks.entries()) {
    const weighted = magnitudes.map((magnitude) => magnitude * (maxWeight ?? 1));
    const bad = weighted.indexOf(Infinity);
    if (bad >= 0) {
      const expected = "magnitudes (times row weights, plus those of the codewords of all stages before) below 3.4e38";
      throw invalidArgument(name, expected, `larger ones in column ${bad}`);
    }
    const gridExponents = gridExponentsOf(weighted, rows);
    grids.push({ gridExponents, weightExponent });
    const known = codewordMagnitudes?.subarray(stage * dim, (stage + 1) * dim);
    const largest = known ?? (await columnMagnitudes(codebook, dim));
    for (let i = 0; i < dim; i++) magnitudes[i] += largest[i];
  }
  return grids;
}

/** The largest |m_i| of every column of matrix[…][dim]. */
export async function columnMagnitudes(matrix: Float32Array, dim: number): Promise<Float32Array> {
  const largest = new Float32Array(dim);
  await inSlices(matrix.length, dim, (from, to) => raiseToMagnitudes(largest, matrix, from, to));
  return largest;
}

/** largest[i] = max(largest[i], |matrix[n][i]|) over the elements from … to, which are whole rows; NaN raises nothing. */
export function raiseToMagnitudes(largest: Float32Array, matrix: Float32Array, from: number, to: number): void {
  const dim = largest.length;
  const whole = dim - (dim % 4);
  // Four columns at a time, so that their maxima stay in registers; the rows of a slice stay in the cache.
  for (let i = 0; i < whole; i += 4) {
    let a0 = largest[i];
    let a1 = largest[i + 1];
    let a2 = largest[i + 2];
    let a3 = largest[i + 3];
    for (let j = from + i; j < to; j += dim) {
      const m0 = Math.abs(matrix[j]);
      const m1 = Math.abs(matrix[j + 1]);
      const m2 = Math.abs(matrix[j + 2]);
      const m3 = Math.abs(matrix[j + 3]);
      if (m0 > a0) a0 = m0;
      if (m1 > a1) a1 = m1;
      if (m2 > a2) a2 = m2;
      if (m3 > a3) a3 = m3;
    }
    largest[i] = a0;
    largest[i + 1] = a1;
    largest[i + 2] = a2;
    largest[i + 3] = a3;
  }
  for (let i = whole; i < dim; i++) {
    for (let j = from + i; j < to; j += dim) {
      const magnitude = Math.abs(matrix[j]);
      if (magnitude > largest[i]) largest[i] = magnitude;
    }
  }
}

/** Sums of one stage with K codewords. Each array has one entry more, for rows that do not count in the stage. */
export interface StageSums {
  /** counts[K+1] of rows and sums[K+1][D] of rows times their weights. */
  readonly statistics: StageStatistics;
  /** masses[K+1]: sums of row weights in units of 2^weightExponent; the counts themselves without weights. */
  readonly masses: Float64Array;
  readonly weightExponent: number;
}

export function emptySums(
  numCodewords: number,
  { gridExponents, weightExponent }: StageGrid,
  weighted: boolean,
): StageSums {
  const statistics = emptyStatistics(numCodewords + 1, gridExponents);
  const masses = weighted ? new Float64Array(numCodewords + 1) : statistics.counts;
  return { statistics, masses, weightExponent };
}

/** Rows that are multiplied by their weights at a time: 4 MiB. */
const elementsTogether = 2 ** 20;

/**
 * Adds residuals[M][D] with codes[M], K where a row does not count. A row of weight w adds fround(w·x_i), element by element, to the
 * sums and w to the masses, all rounded to the grids.
 */
export async function addRows(
  backend: Backend,
  { statistics, masses, weightExponent }: StageSums,
  residuals: Float32Array,
  codes: CodeArray,
  weights: Float32Array | null,
): Promise<void> {
  if (weights === null) return accumulate(backend, statistics, residuals, codes);

  const { dim, counts } = statistics;
  const rowsTogether = Math.max(1, Math.floor(elementsTogether / dim));
  for (let first = 0; first < codes.length; first += rowsTogether) {
    const end = Math.min(codes.length, first + rowsTogether);
    const scaled = residuals.slice(first * dim, end * dim);
    await inSlices(scaled.length, dim, (from, to) => {
      for (let n = from / dim; n < to / dim; n++) {
        const weight = weights[first + n];
        for (let i = n * dim; i < (n + 1) * dim; i++) scaled[i] *= weight;
      }
    });
    await accumulate(backend, statistics, scaled, codes.subarray(first, end));
  }
  // The weights are rows of one dimension; their counts are known already.
  const ones = emptyStatistics(counts.length, Int32Array.of(weightExponent));
  await accumulate(backend, ones, weights, codes);
  for (let k = 0; k < masses.length; k++) masses[k] += ones.sums[k];
}

/** Adds the sums of other rows on the same grids: exact, whatever the order. */
export function addSums(to: StageSums, from: StageSums): void {
  const add = (a: Float64Array, b: Float64Array) => {
    for (let i = 0; i < a.length; i++) a[i] += b[i];
  };
  add(to.statistics.counts, from.statistics.counts);
  add(to.statistics.sums, from.statistics.sums);
  if (to.masses !== to.statistics.counts) add(to.masses, from.masses);
}

/** masses[K] as numbers: rows, or sums of row weights, of every codeword. */
export function massesOf({ masses, weightExponent }: StageSums): Float64Array {
  return masses.slice(0, -1).map((mass) => mass * 2 ** weightExponent);
}
