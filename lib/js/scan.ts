// What every search of the `js` backend shares: the check of its input, and the scan that defines its answer.

import type { BadInput } from "../backend.js";
import { squaredDistance } from "./canonical.js";
import type { JsCodebook } from "./codebook.js";

/** The first bad element of rows[offset … ][rows][dim]. */
export function firstBadInput(
  block: Float32Array,
  offset: number,
  rows: number,
  dim: number,
  cosine: boolean,
): BadInput | null {
  for (let row = 0; row < rows; row++) {
    let zero = true;
    for (let column = 0, i = offset + row * dim; column < dim; column++, i++) {
      const value = block[i];
      if (value - value !== 0) return { kind: "not finite", row, column };
      if (value !== 0) zero = false;
    }
    if (cosine && zero) return { kind: "zero", row, column: 0 };
  }
  return null;
}

/** The definition: the smallest k with the smallest canonical distance; `guess` only tells where to stop early. */
export function scan(codebook: JsCodebook, query: Float32Array, offset: number, guess: number): number {
  const { targets, dim, weights, originalIndex } = codebook;
  const limit = squaredDistance(query, offset, targets, guess * dim, dim, weights, Infinity);
  let code = 0;
  let smallest = Infinity;
  for (let j = 0; j < originalIndex.length; j++) {
    const k = originalIndex[j];
    const distance = squaredDistance(query, offset, targets, k * dim, dim, weights, limit);
    if (distance < smallest) {
      smallest = distance;
      code = k;
    }
  }
  return code;
}
