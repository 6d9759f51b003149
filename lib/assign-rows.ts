// The nearest codewords of many rows in one stage, chunk by chunk.

import type { Backend, CodeArray, PreparedCodebooks } from "./backend.js";
import { newCodeArray } from "./code-array.js";
import type { HeldRows } from "./resident.js";
import { nextSlice, sliceOver } from "./time-slice.js";

/** Which codewords N rows are assigned to. */
export interface Assignment {
  /** codes[N] */
  readonly codes: CodeArray;
  /** distances[N] = d64(row, codeword), with the weights of the metric. */
  readonly distances: Float64Array;
  /** The same without weights; the same array where there are none. */
  readonly plainDistances: Float64Array;
}

export function newAssignment(count: number, numCodewords: number, weights: Float32Array | null): Assignment {
  const distances = new Float64Array(count);
  const plainDistances = weights === null ? distances : new Float64Array(count);
  return { codes: newCodeArray(count, [numCodewords]), distances, plainDistances };
}

/** The part of rows first … end, in the same memory. */
export function partOfAssignment(assignment: Assignment, first: number, end: number): Assignment {
  const distances = assignment.distances.subarray(first, end);
  const plain = assignment.plainDistances;
  return {
    codes: assignment.codes.subarray(first, end),
    distances,
    plainDistances: plain === assignment.distances ? distances : plain.subarray(first, end),
  };
}

/** `assign` of lib/backend.ts for vectors[N][D]. */
export async function assignRows(
  backend: Backend,
  prepared: PreparedCodebooks,
  vectors: Float32Array,
  assignment: Assignment,
  numCodewords: number,
  signal: AbortSignal | undefined,
  held?: HeldRows | null,
): Promise<void> {
  const count = assignment.codes.length;
  const dim = vectors.length / count;
  // One chunk at a time, to keep to the threads asked for; nothing is copied, so they may be large.
  const chunkRows = backend.chunkRows(dim, numCodewords, false);
  for (let first = 0; first < count; first += chunkRows) {
    signal?.throwIfAborted();
    const end = Math.min(count, first + chunkRows);
    const { codes, distances, plainDistances } = partOfAssignment(assignment, first, end);
    await prepared.assign({
      vectors: vectors.subarray(first * dim, end * dim),
      count: end - first,
      held,
      codes,
      distances,
      plainDistances: plainDistances === distances ? undefined : plainDistances,
    });
    if (sliceOver()) await nextSlice();
  }
}
