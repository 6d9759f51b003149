// Copies of rows for the time of a call: native threads never touch memory that the caller may detach, shrink or free meanwhile.

import type { CodeArray, StagingMemory } from "./backend.js";
import { invalidArgument } from "./errors.js";

type Matrix = Float32Array | CodeArray;

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

/** Memory that stands for parts of a matrix while chunks read or write them; chunks use it again. To be closed after the last one. */
export class StagedRows<Rows extends Matrix> {
  private readonly spare: Rows[] = [];
  /** What `memory` has lent. */
  private readonly lent = new Set<ArrayBufferLike>();

  /**
   * @param matrix the caller's matrix[…][width]
   * @param memory the backend's own, where it has some
   */
  constructor(
    private readonly name: string,
    private readonly matrix: Rows,
    private readonly width: number,
    private readonly memory: StagingMemory | undefined,
  ) {}

  /** Room for rows[rows][width]. A later chunk must not ask for more than an earlier one. */
  take(rows: number): Rows {
    const length = rows * this.width;
    const lent = this.memory?.take(length * this.matrix.BYTES_PER_ELEMENT) ?? null;
    if (lent === null) return this.spare.pop() ?? (new (this.kind())(length) as Rows);
    this.lent.add(lent);
    return new (this.kind())(lent, 0, length) as Rows;
  }

  /** A copy of rows of the matrix, to be given back by `release`. */
  copy(firstRow: number, rows: number): Rows {
    checkLeftAlone(this.name, this.matrix, (firstRow + rows) * this.width);
    const staged = this.take(rows).subarray(0, rows * this.width) as Rows;
    this.move(this.ofMatrix(firstRow, rows), staged);
    return staged;
  }

  /** Of a chunk that has settled. */
  release(staged: Rows): void {
    if (this.lent.delete(staged.buffer)) this.memory?.giveBack(staged.buffer as ArrayBuffer);
    else this.spare.push(staged);
  }

  /** Copies staged[rows][width] to its rows of the matrix and takes the room back. */
  put(staged: Rows, firstRow: number, rows: number): void {
    checkLeftAlone(this.name, this.matrix, (firstRow + rows) * this.width);
    this.move(staged.subarray(0, rows * this.width) as Rows, this.ofMatrix(firstRow, rows));
    this.release(staged);
  }

  /** Gives back what chunks that failed have left, once all have settled. */
  close(): void {
    for (const room of this.lent) this.memory?.giveBack(room as ArrayBuffer);
    this.lent.clear();
  }

  private ofMatrix(firstRow: number, rows: number): Rows {
    return this.matrix.subarray(firstRow * this.width, (firstRow + rows) * this.width) as Rows;
  }

  private move(source: Rows, target: Rows): void {
    if (this.memory === undefined) target.set(source);
    else this.memory.copy(source, target);
  }

  private kind() {
    if (this.matrix instanceof Float32Array) return Float32Array;
    return this.matrix instanceof Uint16Array ? Uint16Array : Uint32Array;
  }
}

/**
 * Detached memory makes the view empty; it may also have been a resizable buffer that shrank. The buffer is asked too: compiled code
 * that has seen views of resizable buffers may find a detached view as long as it was (V8 11.3, Node 20).
 */
export function checkLeftAlone(name: string, matrix: Matrix, length: number): void {
  if (matrix.length >= length && matrix.buffer.byteLength >= length * matrix.BYTES_PER_ELEMENT) return;
  throw invalidArgument(name, "an array left alone during the call", "one that was detached or resized");
}
