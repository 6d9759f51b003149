// Decoding in batches: codes of many calls, each to be decoded from its own number of stages.

import { allocate, type Codes, checkCodeRange } from "../check.js";
import type { CountedCodes } from "../counted-codes.js";
import { newCodeArray } from "../pack-codes.js";
import { checkLeftAlone } from "../staging.js";
import type { BatchOperation } from "./batch-runner.js";

export interface DecodeInput {
  readonly rows: number;
  /** Checked, but for the range of the codes. */
  readonly codes: Codes;
  /** How many of the codes' stages to add up. */
  readonly stages: number;
}

/** Codes[maxBatch][all stages], zeros after those of a row, and stageCounts[maxBatch]. */
interface DecodeBatch {
  readonly data: Codes["data"];
  readonly stageCounts: Uint16Array;
}

export interface DecodeOperationOptions {
  readonly dim: number;
  readonly codebookSizes: readonly number[];
  readonly maxBatch: number;
  /** The reconstruction from the first `stages` stages, or from as many as each row counts. */
  readonly decode: (codes: Codes | CountedCodes, stages: number) => Promise<Float32Array>;
}

export function decodeOperation(
  options: DecodeOperationOptions,
): BatchOperation<DecodeInput, DecodeBatch, Float32Array, Float32Array> {
  const { dim, codebookSizes, maxBatch, decode } = options;
  const width = codebookSizes.length;
  return {
    open: () => ({
      data: newCodeArray(maxBatch * width, codebookSizes),
      stageCounts: new Uint16Array(maxBatch),
    }),

    put({ data, stageCounts }, at, { codes, stages }, first, rows) {
      checkLeftAlone("codes.data", codes.data, (first + rows) * codes.stages);
      const piece = codes.data.slice(first * codes.stages, (first + rows) * codes.stages);
      checkCodeRange("codes", piece, codes.stages, codebookSizes, first);
      data.fill(0, at * width, (at + rows) * width);
      for (let row = 0; row < rows; row++) {
        for (let stage = 0; stage < stages; stage++) {
          data[(at + row) * width + stage] = piece[row * codes.stages + stage];
        }
      }
      stageCounts.fill(stages, at, at + rows);
    },

    compute(batch, rows) {
      const codes = { count: rows, stages: width, data: batch.data.subarray(0, rows * width) };
      const stageCounts = batch.stageCounts.subarray(0, rows);
      const stages = stageCounts[0];
      return stageCounts.every((one) => one === stages)
        ? decode(codes, stages)
        : decode({ ...codes, stageCounts }, width);
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
