// Encoding in batches: rows of vectors of many calls, searched together.

import { allocate, type Codes } from "../check.js";
import { newCodeArray } from "../code-array.js";
import { checkLeftAlone } from "../staging.js";
import type { BatchOperation } from "./batch-runner.js";

export interface EncodeInput {
  readonly rows: number;
  /** vectors[rows][dim] */
  readonly vectors: Float32Array;
  /** Codes a vector. */
  readonly columns: number;
}

interface EncodeBatch {
  /** vectors[maxBatch][dim] */
  readonly vectors: Float32Array;
  /** The most columns that any of the calls wants. */
  columns: number;
}

export interface EncodeOperationOptions {
  readonly dim: number;
  readonly codebookSizes: readonly number[];
  readonly maxBatch: number;
  /** Throws what is wrong with vectors[rows][dim] of a call, whose row `firstRow` is their first. */
  readonly checkContent: (vectors: Float32Array, firstRow: number) => void;
  /** The first `columns` codes of vectors[rows][dim]. */
  readonly encode: (vectors: Float32Array, columns: number) => Promise<Codes>;
}

/** Calls may want different numbers of columns: the first ones do not depend on how many follow. */
export function encodeOperation(
  options: EncodeOperationOptions,
): BatchOperation<EncodeInput, EncodeBatch, Codes, Codes> {
  const { dim, codebookSizes, maxBatch, checkContent, encode } = options;
  return {
    open: () => ({ vectors: allocate("a batch", maxBatch * dim, (length) => new Float32Array(length)), columns: 0 }),

    put(batch, at, { vectors, columns }, first, rows) {
      checkLeftAlone("vectors", vectors, (first + rows) * dim);
      const put = batch.vectors.subarray(at * dim, (at + rows) * dim);
      put.set(vectors.subarray(first * dim, (first + rows) * dim));
      checkContent(put, first);
      batch.columns = Math.max(batch.columns, columns);
    },

    compute(batch, rows) {
      const { columns } = batch;
      batch.columns = 0;
      return encode(batch.vectors.subarray(0, rows * dim), columns);
    },

    take(result, at, { rows: count, columns }, output, first, rows) {
      const from = at * result.stages;
      if (rows === count && columns === result.stages) {
        return { count, stages: columns, data: result.data.slice(from, from + rows * columns) };
      }
      const codes = output ?? { count, stages: columns, data: newCodeArray(count * columns, codebookSizes) };
      for (let row = 0; row < rows; row++) {
        for (let column = 0; column < columns; column++) {
          codes.data[(first + row) * columns + column] = result.data[from + row * result.stages + column];
        }
      }
      return codes;
    },
  };
}
