// Encodes large calls by several worker threads: splits the rows among them and puts their results together.

import type { BadInput, EncodeRequest } from "../backend.js";
import type { SharedCodebooks, WorkerPool } from "./worker-pool.js";

/** Multiply-adds that a part has at least: some 5 ms, beside which copying and waking a worker are small. */
const leastPart = { wasm: 1e8, plain: 1.5e7 } as const;
/** Parts are whole blocks of the WebAssembly search. */
const rowsTogether = 128;

/** Rows of each worker's part of a call; all of them where the call is too small to share. */
export function partRows(
  count: number,
  multiplyAddsPerRow: number,
  threads: number,
  form: keyof typeof leastPart,
): number {
  const parts = Math.min(threads, Math.floor((count * multiplyAddsPerRow) / leastPart[form]));
  if (parts < 2) return count;
  const rows = Math.ceil(count / parts);
  return count >= 4 * parts * rowsTogether ? Math.ceil(rows / rowsTogether) * rowsTogether : rows;
}

/**
 * `encode` of lib/backend.ts in parts of `rows` rows. `encodeHere` does the same on this thread, for parts that a worker failed
 * to do.
 */
export async function encodeInParts(
  pool: WorkerPool,
  codebooks: SharedCodebooks,
  request: EncodeRequest,
  rows: number,
  threads: number,
  encodeHere: (request: EncodeRequest) => Promise<BadInput | null>,
): Promise<BadInput | null> {
  const { vectors, count, stages, beam, codes, residuals } = request;
  const { dim } = codebooks.spec;
  const parts: Promise<BadInput | null>[] = [];
  for (let first = 0; first < count; first += rows) {
    const number = Math.min(rows, count - first);
    const part = {
      vectors: vectors.subarray(first * dim, (first + number) * dim),
      count: number,
      stages,
      beam,
      codes: codes.subarray(first * stages, (first + number) * stages),
      ...(residuals && { residuals: residuals.subarray(first * dim, (first + number) * dim) }),
    };
    parts.push(
      pool.run(codebooks, part, threads).then(
        (result) => {
          part.codes.set(result.codes);
          if (result.residuals !== undefined) part.residuals?.set(result.residuals);
          return result.bad && { ...result.bad, row: first + result.bad.row };
        },
        async () => {
          const bad = await encodeHere(part);
          return bad && { ...bad, row: first + bad.row };
        },
      ),
    );
  }
  // All of them settle before the call does; the first bad row is in the first part that has one.
  return (await Promise.all(parts)).find((bad) => bad !== null) ?? null;
}
