// Copies one row of a matrix into another.

/** to[toRow] = from[row], both […][dim]. */
export function copyRow(from: Float32Array, row: number, to: Float32Array, toRow: number, dim: number): void {
  to.set(from.subarray(row * dim, (row + 1) * dim), toRow * dim);
}
