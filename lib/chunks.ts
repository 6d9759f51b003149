// Walks over the rows of a long call in chunks: bounded staging memory, progress, and a look at the abort signal.

import type { Backend } from "./backend.js";
import { nextSlice, sliceOver } from "./time-slice.js";

export interface ChunkOptions {
  readonly signal?: AbortSignal;
  /** Called after every finished chunk, in order, with rows done so far and all rows. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** What decides how large a chunk is. */
export interface ChunkedWork {
  readonly backend: Backend;
  readonly dim: number;
  /** Codewords that each vector is compared with, or that are added up for it. */
  readonly codewordsPerVector: number;
}

/** One chunk's work. Chunks of one call hand the same `chunkOf` to the backend, undefined where there is only one. */
export type ChunkWork<Result> = (firstRow: number, rows: number, chunkOf: object | undefined) => Promise<Result>;

/**
 * Calls `work` for consecutive chunks of as many rows, and as many at a time, as suit the backend, and `finish` on each result in
 * row order. The first failure (in row order), or the signal's reason, is thrown after the work in flight has settled.
 */
export async function forEachChunk<Result>(
  count: number,
  { backend, dim, codewordsPerVector }: ChunkedWork,
  options: ChunkOptions,
  work: ChunkWork<Result>,
  finish: (result: Result, firstRow: number, rows: number) => void,
): Promise<void> {
  const { signal, onProgress } = options;
  const chunkRows = backend.chunkRows(dim, codewordsPerVector);
  const chunkOf = count > chunkRows ? {} : undefined;
  const inFlight: { promise: Promise<Result>; firstRow: number; rows: number }[] = [];
  let next = 0;
  try {
    for (;;) {
      while (next < count && inFlight.length < backend.chunksInFlight) {
        signal?.throwIfAborted();
        const rows = Math.min(chunkRows, count - next);
        const promise = work(next, rows, chunkOf);
        promise.catch(() => {});
        inFlight.push({ promise, firstRow: next, rows });
        next += rows;
      }
      const oldest = inFlight[0];
      if (oldest === undefined) return;
      finish(await oldest.promise, oldest.firstRow, oldest.rows);
      inFlight.shift();
      signal?.throwIfAborted();
      onProgress?.(oldest.firstRow + oldest.rows, count);
      // A fast backend has the next result ready: without this, copying in and out would take every turn of the loop.
      if (sliceOver()) await nextSlice();
    }
  } finally {
    await Promise.allSettled(inFlight.map(({ promise }) => promise));
    // Also calls that fail one after the other, as fast: a worker that is terminated can only end when the loop turns.
    if (sliceOver()) await nextSlice();
  }
}
