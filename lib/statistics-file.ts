// Statistics as bytes, in the envelope of lib/sealed-bytes.ts.
//
// Header { dim, quantizerId, codebookSizes, rows, range: { rows, magnitudes, maxWeight }, weightExponent }; then of each stage
// gridExponents[D], int32, counts[K+1] and sums[K+1][D], float64, and masses[K+1], float64, only where rows have weights.

import { checkInteger, checkNumber, limits, mapList } from "./check.js";
import { invalidArgument } from "./errors.js";
import { openBytes, type SealedArrays, type SealedFormat, sealBytes } from "./sealed-bytes.js";
import type { StageSums, VectorRange } from "./stage-sums.js";

export interface StatisticsContent {
  readonly dim: number;
  /** `id` of the quantizer whose codes the sums go by. */
  readonly quantizerId: string;
  readonly range: VectorRange;
  /** Rows added. */
  readonly rows: number;
  readonly stages: readonly StageSums[];
}

const format: SealedFormat = { magic: "RVQS", version: 1, what: "statistics", code: "INVALID_STATISTICS" };

/** Every sum is an integer of at most this magnitude. */
const largestSum = 2 ** 51;
/** No grid for float32 and 2^50 rows is coarser. */
const largestExponent = 200;

export function statisticsToBytes({ dim, quantizerId, range, rows, stages }: StatisticsContent): Uint8Array {
  const codebookSizes = stages.map(({ masses }) => masses.length - 1);
  const { weightExponent } = stages[0];
  const header = { dim, quantizerId, codebookSizes, rows, range, weightExponent };
  const arrays = stages.flatMap(({ statistics: { gridExponents, counts, sums }, masses }) =>
    masses === counts ? [gridExponents, counts, sums] : [gridExponents, counts, sums, masses],
  );
  return sealBytes(format, header, arrays);
}

/** @throws RvqError INVALID_STATISTICS; nothing larger than the input is allocated */
export function statisticsFromBytes(name: string, bytes: Uint8Array): StatisticsContent {
  return openBytes(format, name, bytes, (header, arrays) => {
    const dim = checkInteger("dim", header.dim, 1, limits.dim);
    const { quantizerId } = header;
    if (typeof quantizerId !== "string" || !/^[0-9a-f]{64}$/.test(quantizerId)) {
      throw invalidArgument("quantizerId", "a SHA-256 in hexadecimal", quantizerId);
    }
    const range = checkRange("range", header.range, dim);
    const rows = checkInteger("rows", header.rows, 0, range.rows);
    const weighted = range.maxWeight !== null;
    const weightExponent = checkInteger("weightExponent", header.weightExponent, -149, weighted ? largestExponent : 0);
    if (!weighted && weightExponent !== 0) throw invalidArgument("weightExponent", "0 without weights", weightExponent);
    const { codebookSizes: sizes } = header;
    if (!Array.isArray(sizes)) throw invalidArgument("codebookSizes", "an array", sizes);
    checkInteger("codebookSizes.length", sizes.length, 1, limits.stages);
    let bytesExpected = 4 * dim * sizes.length;
    for (const [stage, size] of sizes.entries()) {
      checkInteger(`codebookSizes[${stage}]`, size, 1, limits.codebookSize);
      bytesExpected += 8 * (size + 1) * (dim + (weighted ? 2 : 1));
    }
    arrays.expect(bytesExpected);

    const stages = sizes.map((size: number) => readStage(arrays, size + 1, dim, rows, weighted, weightExponent));
    return { dim, quantizerId, range, rows, stages };
  });
}

function readStage(
  arrays: SealedArrays,
  entries: number,
  dim: number,
  rows: number,
  weighted: boolean,
  weightExponent: number,
): StageSums {
  const gridExponents = arrays.int32(dim);
  for (const exponent of gridExponents) checkInteger("gridExponents", exponent, -149, largestExponent);
  const counts = checkIntegers("counts", arrays.float64(entries), 0, rows);
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (total !== rows) throw invalidArgument("counts", `${rows} rows in every stage`, total);
  const sums = checkIntegers("sums", arrays.float64(entries * dim), -largestSum, largestSum);
  const masses = weighted ? checkIntegers("masses", arrays.float64(entries), 0, largestSum) : counts;
  return { statistics: { dim, gridExponents, counts, sums }, masses, weightExponent };
}

function checkIntegers(name: string, values: Float64Array, min: number, max: number): Float64Array {
  const bad = values.find((value) => !(Number.isInteger(value) && value >= min && value <= max));
  if (bad !== undefined) throw invalidArgument(name, `integers from ${min} to ${max}`, bad);
  return values;
}

/** A range as it may come from JSON, as a copy. */
export function checkRange(name: string, value: unknown, dim: number): VectorRange {
  if (typeof value !== "object" || value === null)
    throw invalidArgument(name, "{ rows, magnitudes, maxWeight }", value);
  const { rows, magnitudes, maxWeight } = value as Record<keyof VectorRange, unknown>;
  if (!Array.isArray(magnitudes) || magnitudes.length !== dim) {
    throw invalidArgument(`${name}.magnitudes`, `an array of dim ${dim} numbers`, magnitudes);
  }
  const checkMagnitude = (what: string, number: unknown) => {
    checkNumber(what, number, 0, "a finite number ≥ 0");
    // What a larger float64 rounds to could be smaller than it.
    if (Math.fround(number as number) !== number) throw invalidArgument(what, "a float32", number);
    return number;
  };
  return {
    rows: checkInteger(`${name}.rows`, rows, 0, 2 ** 50),
    magnitudes: mapList(magnitudes, (number, i) => checkMagnitude(`${name}.magnitudes[${i}]`, number)),
    maxWeight: maxWeight === null ? null : checkMagnitude(`${name}.maxWeight`, maxWeight),
  };
}
