// Copies rows of a matrix.

import { inSlices } from "./time-slice.js";

/** to[toRow] = from[row], both […][dim]. */
export function copyRow(from: Float32Array, row: number, to: Float32Array, toRow: number, dim: number): void {
  to.set(from.subarray(row * dim, (row + 1) * dim), toRow * dim);
}

/** gathered[i] = vectors[rows[i]], [rows.length][dim]. */
export async function gatherRows(vectors: Float32Array, rows: Uint32Array, dim: number): Promise<Float32Array> {
  const gathered = new Float32Array(rows.length * dim);
  await inSlices(gathered.length, dim, (from, to) => {
    for (let i = from / dim; i < to / dim; i++) copyRow(vectors, rows[i], gathered, i, dim);
  });
  return gathered;
}
