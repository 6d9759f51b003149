// The arrays that codes are made in.

import type { CodeArray } from "./backend.js";
import { allocate } from "./check.js";

/** The narrower array type that holds every code below the sizes. */
export function newCodeArray(length: number, codebookSizes: readonly number[]): CodeArray {
  const wide = hasWideCodes(codebookSizes);
  return allocate("codes", length, (n): CodeArray => (wide ? new Uint32Array(n) : new Uint16Array(n)));
}

/** Whether codes below the sizes take 32 bits each, and not 16. */
export function hasWideCodes(codebookSizes: readonly number[]): boolean {
  return codebookSizes.some((size) => size > 65_536);
}

export function bytesOfCode(codebookSizes: readonly number[]): number {
  return hasWideCodes(codebookSizes) ? 4 : 2;
}
