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

/** Indices of the rows of matrix[rows][dim] that differ bitwise from every earlier row, in increasing order. */
function distinctRows(matrix: Float32Array, dim: number): Uint32Array {
  const bits = new Uint32Array(matrix.buffer, matrix.byteOffset, matrix.length);
  const rows = bits.length / dim;
  const rowsByHash = new Map<number, number[]>();
  const distinct: number[] = [];
  for (let row = 0; row < rows; row++) {
    let hash = 0;
    for (let i = row * dim; i < (row + 1) * dim; i++) hash = Math.imul(hash ^ bits[i], 0x9e3779b1) ^ (hash >>> 15);
    const earlier = rowsByHash.get(hash);
    if (earlier === undefined) rowsByHash.set(hash, [row]);
    else if (earlier.some((other) => sameRow(bits, other * dim, row * dim, dim))) continue;
    else earlier.push(row);
    distinct.push(row);
  }
  return Uint32Array.from(distinct);
}

function sameRow(bits: Uint32Array, a: number, b: number, dim: number): boolean {
  for (let i = 0; i < dim; i++) if (bits[a + i] !== bits[b + i]) return false;
  return true;
}
