// The rows of a batch that count, copied for training, and their range.

import type { BadInput } from "./backend.js";
import { firstBadInput } from "./bad-input.js";
import { allocate, badInput } from "./check.js";
import type { CheckedRows } from "./row-options.js";
import { raiseToMagnitudes, type VectorRange } from "./stage-sums.js";
import { checkLeftAlone } from "./staging.js";
import { inSlices } from "./time-slice.js";

export interface CountingRows {
  /** vectors[M][D], a copy. */
  readonly vectors: Float32Array;
  /** rows[M]: where each is in the batch; null: all rows of the batch count. */
  readonly rows: Uint32Array | null;
  /** weights[M]; null: each counts as 1. */
  readonly weights: Float32Array | null;
  readonly range: VectorRange;
  /** The error for what a search refuses in `vectors`, or in a part of them that has a name. */
  readonly refuse: (bad: BadInput, part?: string) => Error;
}

/** Copies the rows of batch[N][D], called `name`, that count; the caller leaves it alone until the promise settles. */
export async function gatherCounting(
  name: string,
  batch: Float32Array,
  dim: number,
  checked: CheckedRows,
): Promise<CountingRows> {
  const { count, counting } = checked;
  const vectors = allocate("a copy of the batch", counting * dim, (length) => new Float32Array(length));
  const magnitudes = new Float32Array(dim);
  const rows = counting === count ? null : new Uint32Array(counting);
  const weights = checked.weighted ? new Float32Array(counting) : null;
  let maxWeight = 0;
  let next = 0;
  await inSlices(count * dim, dim, (from, to) => {
    checkLeftAlone(name, batch, to);
    const start = next;
    if (rows === null) vectors.set(batch.subarray(from, to), from);
    for (let n = from / dim; n < to / dim; n++) {
      const weight = checked.weightOf(n);
      if (weight === 0) continue;
      if (rows !== null) {
        rows[next] = n;
        vectors.set(batch.subarray(n * dim, (n + 1) * dim), next * dim);
      }
      if (weights !== null) weights[next] = weight;
      if (weight > maxWeight) maxWeight = weight;
      next++;
    }
    raiseToMagnitudes(magnitudes, vectors, start * dim, next * dim);
  });
  const overflown = magnitudes.includes(Infinity) ? firstBadInput(vectors, dim, false) : null;
  const range = { rows: counting, magnitudes: [...magnitudes], maxWeight: weights === null ? null : maxWeight };
  const refuse = (bad: BadInput, part?: string) => {
    const value = vectors[bad.row * dim + bad.column];
    return badInput(
      part === undefined ? name : `${name}, ${part}`,
      { ...bad, row: rows === null ? bad.row : rows[bad.row] },
      0,
      value,
    );
  };
  if (overflown !== null) throw refuse(overflown);
  return { vectors, rows, weights, range, refuse };
}
