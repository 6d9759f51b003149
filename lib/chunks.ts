// Walks over the rows of a long call in chunks: bounded staging memory, progress, and a look at the abort signal.

export interface ChunkOptions {
  readonly signal?: AbortSignal;
  /** Called after every finished chunk, in order, with rows done so far and all rows. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** Chunks handed to the backend ahead of the one that is awaited: its threads find the next one waiting. */
const chunksInFlight = 2;

/**
 * Calls `work(firstRow, rows)` for consecutive chunks, at most `chunksInFlight` at a time, and `finish` on each result in
 * row order. The first failure (in row order), or the signal's reason, is thrown after the work in flight has settled.
 */
export async function forEachChunk<Result>(
  count: number,
  chunkRows: number,
  options: ChunkOptions,
  work: (firstRow: number, rows: number) => Promise<Result>,
  finish: (result: Result, firstRow: number, rows: number) => void,
): Promise<void> {
  const { signal, onProgress } = options;
  const inFlight: { promise: Promise<Result>; firstRow: number; rows: number }[] = [];
  let next = 0;
  try {
    for (;;) {
      while (next < count && inFlight.length < chunksInFlight) {
        signal?.throwIfAborted();
        const rows = Math.min(chunkRows, count - next);
        const promise = work(next, rows);
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
    }
  } finally {
    await Promise.allSettled(inFlight.map(({ promise }) => promise));
  }
}
