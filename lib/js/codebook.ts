// One stage's codebook in the forms the TypeScript searches read.

import type { CodebookSpec } from "../backend.js";
import { unitVector } from "./canonical.js";

export interface JsCodebook {
  readonly dim: number;
  readonly numCodewords: number;
  /** codewords[K][D] as given: what residuals and reconstructions use. */
  readonly codewords: Float32Array;
  /** targets[K][D]: what distances are measured to; the codewords, or with the cosine metric their unit vectors. */
  readonly targets: Float32Array;
  readonly weights: Float32Array | null;
  readonly cosine: boolean;
  /** originalIndex[distinct], increasing: codewords that repeat an earlier one bit for bit can never win. */
  readonly originalIndex: Uint32Array;
}

/** What the plain screen reads besides. */
export interface PairedCodebook extends JsCodebook {
  /** packed[ceil(distinct/2)][D][2], weights multiplied in; a missing second codeword is zero. */
  readonly packed: Float64Array;
  /** halfNorms[2·ceil(distinct/2)] = ½ Σ w·c²; +infinity where there is no codeword. */
  readonly halfNorms: Float64Array;
  /** The largest (weighted) norm of a codeword. */
  readonly maxNorm: number;
}

export function prepareCodebook(spec: CodebookSpec, stage: number): JsCodebook {
  const { dim, weights } = spec;
  const cosine = spec.metric === "cosine";
  const codewords = spec.codebooks[stage].slice();
  const numCodewords = codewords.length / dim;
  const targets = cosine ? unitCodewords(codewords, dim) : codewords;
  return { dim, numCodewords, codewords, targets, weights, cosine, originalIndex: distinctRows(targets, dim) };
}

export function pairCodewords(codebook: JsCodebook): PairedCodebook {
  const { dim, targets, weights, originalIndex } = codebook;
  const pairs = Math.ceil(originalIndex.length / 2);
  const packed = new Float64Array(pairs * dim * 2);
  const halfNorms = new Float64Array(pairs * 2).fill(Infinity);
  let maxNorm = 0;
  for (let j = 0; j < originalIndex.length; j++) {
    const source = originalIndex[j] * dim;
    const target = (j >> 1) * dim * 2 + (j & 1);
    let norm = 0;
    for (let i = 0; i < dim; i++) {
      const value = targets[source + i];
      const weighted = weights === null ? value : weights[i] * value;
      packed[target + 2 * i] = weighted;
      norm += weighted * value;
    }
    halfNorms[j] = norm / 2;
    maxNorm = Math.max(maxNorm, Math.sqrt(norm));
  }
  return { ...codebook, packed, halfNorms, maxNorm };
}

function unitCodewords(codewords: Float32Array, dim: number): Float32Array {
  const unit = new Float32Array(codewords.length);
  for (let offset = 0; offset < codewords.length; offset += dim) unitVector(codewords, offset, dim, unit, offset);
  return unit;
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
