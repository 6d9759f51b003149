// The codes of an index, one column a stage, and the loops that add up what the tables hold for them.

import { allocate, type Codes } from "../check.js";
import { inPieces, type Steps } from "../time-slice.js";

/** column[n] = the code of vector n in a stage. */
export type CodeColumn = Uint8Array | Uint16Array | Uint32Array;

/** columns[S][N] of codes[N][S]; the narrowest type that holds all codes, one for all columns: half the memory is half the traffic. */
export function* codeColumns({ count, stages, data }: Codes, codebookSizes: readonly number[]): Steps<CodeColumn[]> {
  const most = Math.max(...codebookSizes);
  const columns = Array.from({ length: stages }, () =>
    allocate("the codes of an index", count, (length): CodeColumn => {
      if (most <= 256) return new Uint8Array(length);
      return most <= 65_536 ? new Uint16Array(length) : new Uint32Array(length);
    }),
  );
  yield* inPieces(count * stages, stages, (from, to) => {
    for (const [stage, column] of columns.entries()) {
      let row = from / stages;
      for (let i = from + stage; i < to; i += stages) column[row++] = data[i];
    }
  });
  return columns;
}

/** sums[i] += tables[0][columns[0][first + i]], then the same of stage 1, …; the additions of each i in stage order. */
export function addTables(
  columns: readonly CodeColumn[],
  first: number,
  tables: readonly Float64Array[],
  sums: Float64Array,
): void {
  let s = 0;
  for (; s + 4 <= columns.length; s += 4) {
    const a = columns[s];
    const b = columns[s + 1];
    const c = columns[s + 2];
    const d = columns[s + 3];
    if (a instanceof Uint8Array) {
      const [b8, c8, d8] = [b as Uint8Array, c as Uint8Array, d as Uint8Array];
      addFourOfBytes(a, b8, c8, d8, first, tables[s], tables[s + 1], tables[s + 2], tables[s + 3], sums);
    } else addFour(a, b, c, d, first, tables[s], tables[s + 1], tables[s + 2], tables[s + 3], sums);
  }
  for (; s < columns.length; s++) {
    const column = columns[s];
    if (column instanceof Uint8Array) addOneOfBytes(column, first, tables[s], sums);
    else addOne(column, first, tables[s], sums);
  }
}

// A copy of each loop for bytes keeps the compiler from having to ask which type of array it is.

function addFourOfBytes(
  a: Uint8Array,
  b: Uint8Array,
  c: Uint8Array,
  d: Uint8Array,
  first: number,
  tableA: Float64Array,
  tableB: Float64Array,
  tableC: Float64Array,
  tableD: Float64Array,
  sums: Float64Array,
): void {
  for (let i = 0; i < sums.length; i++) {
    const n = first + i;
    sums[i] = sums[i] + tableA[a[n]] + tableB[b[n]] + tableC[c[n]] + tableD[d[n]];
  }
}

function addFour(
  a: CodeColumn,
  b: CodeColumn,
  c: CodeColumn,
  d: CodeColumn,
  first: number,
  tableA: Float64Array,
  tableB: Float64Array,
  tableC: Float64Array,
  tableD: Float64Array,
  sums: Float64Array,
): void {
  for (let i = 0; i < sums.length; i++) {
    const n = first + i;
    sums[i] = sums[i] + tableA[a[n]] + tableB[b[n]] + tableC[c[n]] + tableD[d[n]];
  }
}

function addOneOfBytes(column: Uint8Array, first: number, table: Float64Array, sums: Float64Array): void {
  for (let i = 0; i < sums.length; i++) sums[i] += table[column[first + i]];
}

function addOne(column: CodeColumn, first: number, table: Float64Array, sums: Float64Array): void {
  for (let i = 0; i < sums.length; i++) sums[i] += table[column[first + i]];
}
