// The scan that defines the answer of a search; every search of the `js` backend falls back on it.

import { squaredDistance } from "../canonical.js";
import type { JsCodebook } from "./codebook.js";

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
