// Encoding in batches: rows of vectors of many calls, searched together.

import type { Metric } from "../backend.js";
import { firstBadInput } from "../bad-input.js";
import { allocate, badInput, type Codes } from "../check.js";
import { newCodeArray } from "../pack-codes.js";
import { checkLeftAlone } from "../staging.js";
import type { BatchOperation } from "./batch-runner.js";

export interface EncodeInput {
  readonly rows: number;
  /** vectors[rows][dim] */
  readonly vectors: Float32Array;
  readonly stages: number;
}

interface EncodeBatch {
  /** vectors[maxBatch][dim] */
  readonly vectors: Float32Array;
  /** The most stages that any of the calls wants. */
  stages: number;
}

export interface EncodeOperationOptions {
  readonly dim: number;
  readonly metric: Metric;
  readonly codebookSizes: readonly number[];
  readonly maxBatch: number;
  /** Codes of vectors[rows][dim]. */
  readonly encode: (vectors: Float32Array, stages: number) => Promise<Codes>;
}

/** Calls may want different numbers of stages: the codes of the first ones do not depend on how many follow. */
export function encodeOperation(
  options: EncodeOperationOptions,
): BatchOperation<EncodeInput, EncodeBatch, Codes, Codes> {
  const { dim, metric, codebookSizes, maxBatch, encode } = options;
  return {
    open: () => ({ vectors: allocate("a batch", maxBatch * dim, (length) => new Float32Array(length)), stages: 0 }),

    put(batch, at, { vectors, stages }, first, rows) {
      checkLeftAlone("vectors", vectors, (first + rows) * dim);
      const put = batch.vectors.subarray(at * dim, (at + rows) * dim);
      put.set(vectors.subarray(first * dim, (first + rows) * dim));
      const bad = firstBadInput(put, dim, metric === "cosine");
      if (bad !== null) throw badInput("vectors", bad, first, put[bad.row * dim + bad.column]);
      batch.stages = Math.max(batch.stages, stages);
    },

    compute(batch, rows) {
      const { stages } = batch;
      batch.stages = 0;
      return encode(batch.vectors.subarray(0, rows * dim), stages);
    },

    take(result, at, { rows: count, stages }, output, first, rows) {
      const from = at * result.stages;
      if (rows === count && stages === result.stages) {
        return { count, stages, data: result.data.slice(from, from + rows * stages) };
      }
      const codes = output ?? { count, stages, data: newCodeArray(count * stages, codebookSizes) };
      for (let row = 0; row < rows; row++) {
        for (let stage = 0; stage < stages; stage++) {
          codes.data[(first + row) * stages + stage] = result.data[from + row * result.stages + stage];
        }
      }
      return codes;
    },
  };
}
