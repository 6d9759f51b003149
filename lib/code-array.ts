// The arrays that codes are made in.

import type { CodeArray } from "./backend.js";
import { allocate } from "./check.js";

/** The narrower array type that holds every code below the sizes. */
export function newCodeArray(length: number, codebookSizes: readonly number[]): CodeArray {
  const narrow = codebookSizes.every((size) => size <= 65_536);
  return allocate("codes", length, (n): CodeArray => (narrow ? new Uint16Array(n) : new Uint32Array(n)));
}
