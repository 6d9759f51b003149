// One stage's codebook in the forms the TypeScript searches read.

import type { CodebookSpec } from "../backend.js";
import { unitVector } from "../canonical.js";
import { type Box, boxAround } from "./reach.js";

export interface JsCodebook {
  readonly dim: number;
  readonly numCodewords: number;
  /** codewords[K][D] as given: what residuals and reconstructions use. */
  readonly codewords: Float32Array;
  /** targets[K][D]: what distances are measured to; the codewords, or with the cosine metric their unit vectors. */
  readonly targets: Float32Array;
  readonly weights: Float32Array | null;
  readonly cosine: boolean;
  /** originalIndex[distinct], increasing: codewords that equal an earlier one to every distance can never win. */
  readonly originalIndex: Uint32Array;
  /** Around the targets. */
  readonly box: Box;
}

export function prepareCodebook(spec: CodebookSpec, stage: number): JsCodebook {
  const { dim, weights } = spec;
  const cosine = spec.metric === "cosine";
  const codewords = spec.codebooks[stage].slice();
  const numCodewords = codewords.length / dim;
  const targets = cosine ? unitCodewords(codewords, dim) : codewords;
  const originalIndex = distinctRows(significant(targets, weights), dim);
  const box = boxAround(targets, dim);
  return { dim, numCodewords, codewords, targets, weights, cosine, originalIndex, box };
}

function unitCodewords(codewords: Float32Array, dim: number): Float32Array {
  const unit = new Float32Array(codewords.length);
  for (let offset = 0; offset < codewords.length; offset += dim) unitVector(codewords, offset, dim, unit, offset);
  return unit;
}

/** A copy of targets[K][D] with what no distance depends on made zero: elements of weight zero, and the sign of zeros. */
function significant(targets: Float32Array, weights: Float32Array | null): Float32Array {
  const result = new Float32Array(targets.length);
  const dim = weights?.length ?? targets.length;
  for (let start = 0; start < targets.length; start += dim) {
    for (let i = 0; i < dim; i++) {
      const value = targets[start + i];
      result[start + i] = value === 0 || (weights !== null && weights[i] === 0) ? 0 : value;
    }
  }
  return result;
}

/**
 * Indices of the rows of matrix[rows][dim] that differ bitwise from every earlier row, in increasing order. By sorting: a hash could
 * be made to collide by whoever made the model.
 */
function distinctRows(matrix: Float32Array, dim: number): Uint32Array {
  const bits = new Uint32Array(matrix.buffer, matrix.byteOffset, matrix.length);
  const compare = (a: number, b: number): number => {
    for (let i = 0; i < dim; i++) {
      const difference = bits[a * dim + i] - bits[b * dim + i];
      if (difference !== 0) return difference;
    }
    return 0;
  };
  const order = Uint32Array.from({ length: bits.length / dim }, (_, row) => row);
  order.sort((a, b) => compare(a, b) || a - b);
  return order.filter((row, i) => i === 0 || compare(order[i - 1], row) !== 0).sort();
}
