// Decoding in batches: codes of many calls, each to be decoded from its own number of columns.

import { allocate, type Codes, checkCodeRange } from "../check.js";
import { newCodeArray } from "../code-array.js";
import { decodeCounted } from "../counted-codes.js";
import { checkLeftAlone } from "../staging.js";
import type { BatchOperation } from "./batch-runner.js";

export interface DecodeInput {
  readonly rows: number;
  /** Checked, but for the range of the codes. */
  readonly codes: Codes;
  /** How many of the codes' columns to add up. */
  readonly columns: number;
}

/** Codes[maxBatch][all columns], zeros after those of a row, and columnCounts[maxBatch]. */
interface DecodeBatch {
  readonly data: Codes["data"];
  readonly columnCounts: Uint32Array;
}

export interface DecodeOperationOptions {
  readonly dim: number;
  readonly codebookSizes: readonly number[];
  readonly maxBatch: number;
  /** The reconstruction from the first `columns` columns. */
  readonly decode: (codes: Codes, columns: number) => Promise<Float32Array>;
}

export function decodeOperation(
  options: DecodeOperationOptions,
): BatchOperation<DecodeInput, DecodeBatch, Float32Array, Float32Array> {
  const { dim, codebookSizes, maxBatch, decode } = options;
  const width = codebookSizes.length;
  return {
    open: () => ({
      data: newCodeArray(maxBatch * width, codebookSizes),
      columnCounts: new Uint32Array(maxBatch),
    }),

    put({ data, columnCounts }, at, { codes, columns }, first, rows) {
      checkLeftAlone("codes.data", codes.data, (first + rows) * codes.stages);
      const piece = codes.data.slice(first * codes.stages, (first + rows) * codes.stages);
      checkCodeRange("codes", piece, codes.stages, codebookSizes, first);
      data.fill(0, at * width, (at + rows) * width);
      for (let row = 0; row < rows; row++) {
        for (let column = 0; column < columns; column++) {
          data[(at + row) * width + column] = piece[row * codes.stages + column];
        }
      }
      columnCounts.fill(columns, at, at + rows);
    },

    compute(batch, rows) {
      const codes = { count: rows, stages: width, data: batch.data.subarray(0, rows * width) };
      const columnCounts = batch.columnCounts.subarray(0, rows);
      const columns = columnCounts[0];
      if (columnCounts.every((one) => one === columns)) return decode(codes, columns);
      const counted = { ...codes, stageCounts: columnCounts };
      return decodeCounted(counted, { stages: codebookSizes.length, into: undefined }, dim, codebookSizes, (some) =>
        decode(some, some.stages),
      );
    },

    take(result, at, { rows: count }, output, first, rows) {
      const piece = result.subarray(at * dim, (at + rows) * dim);
      if (rows === count) return piece.slice();
      const vectors = output ?? allocate("the reconstruction", count * dim, (length) => new Float32Array(length));
      vectors.set(piece, first * dim);
      return vectors;
    },
  };
}
