// Copies of rows for the time of a call: native threads never touch memory that the caller may detach, shrink or free meanwhile.

import { invalidArgument } from "./errors.js";

type Matrix = Float32Array | Uint16Array | Uint32Array;

/** A copy of rows of matrix[…][width]. */
export function stageRows<Rows extends Matrix>(
  name: string,
  matrix: Rows,
  firstRow: number,
  rows: number,
  width: number,
): Rows {
  checkLeftAlone(name, matrix, (firstRow + rows) * width);
  return matrix.slice(firstRow * width, (firstRow + rows) * width) as Rows;
}

/** Memory that stands for parts of a matrix while chunks read or write them; chunks use it again. */
export class StagedRows {
  private readonly spare: Float32Array[] = [];

  /** @param matrix the caller's matrix[…][width] */
  constructor(
    private readonly name: string,
    private readonly matrix: Float32Array,
    private readonly width: number,
  ) {}

  /** Room for rows[rows][width]. A later chunk must not ask for more than an earlier one. */
  take(rows: number): Float32Array {
    return this.spare.pop() ?? new Float32Array(rows * this.width);
  }

  /** A copy of rows of the matrix, to be given back by `release`. */
  copy(firstRow: number, rows: number): Float32Array {
    checkLeftAlone(this.name, this.matrix, (firstRow + rows) * this.width);
    const staged = this.take(rows).subarray(0, rows * this.width);
    staged.set(this.matrix.subarray(firstRow * this.width, (firstRow + rows) * this.width));
    return staged;
  }

  release(staged: Float32Array): void {
    this.spare.push(staged);
  }

  /** Copies staged[rows][width] to its rows of the matrix and takes the room back. */
  put(staged: Float32Array, firstRow: number, rows: number): void {
    checkLeftAlone(this.name, this.matrix, (firstRow + rows) * this.width);
    this.matrix.set(staged.subarray(0, rows * this.width), firstRow * this.width);
    this.release(staged);
  }
}

/** Detached memory makes the view empty; it may also have been a resizable buffer that shrank. */
export function checkLeftAlone(name: string, matrix: Matrix, length: number): void {
  if (matrix.length >= length) return;
  throw invalidArgument(name, "an array left alone during the call", "one that was detached or resized");
}
