// The codes of an index, column by column, and the loops that add up what the tables hold for them.

import { allocate, type Codes } from "../check.js";
import { inPieces, type Steps } from "../time-slice.js";

/** Codes of count vectors. Four stages of bytes are one column of words, which is read in a quarter of the loads. */
export interface CodeColumns {
  readonly count: number;
  readonly stages: number;
  /** words[n] = the codes of stages 4g … 4g + 3 of vector n, the first in the lowest byte; none where a code may be above 255. */
  readonly quads: readonly Int32Array[];
  /** column[n] = the code of vector n in one of the stages after those. */
  readonly singles: readonly CodeColumn[];
}

type CodeColumn = Uint8Array | Uint16Array | Uint32Array;

/** A query's tables in the form of the columns. */
export interface CodeTables {
  /** stages[s][K_s]: views of the others. */
  readonly stages: readonly Float64Array[];
  /** quads[g][4 · 256] */
  readonly quads: readonly Float64Array[];
  readonly singles: readonly Float64Array[];
}

const codesOfByte = 256;

export function* codeColumns({ count, stages, data }: Codes, codebookSizes: readonly number[]): Steps<CodeColumns> {
  const numQuads = quadsOf(codebookSizes.slice(0, stages));
  const most = Math.max(...codebookSizes.slice(0, stages));
  const newColumn = (length: number): CodeColumn => {
    if (most <= codesOfByte) return new Uint8Array(length);
    return most <= 65_536 ? new Uint16Array(length) : new Uint32Array(length);
  };
  const what = "the codes of an index";
  const quads = Array.from({ length: numQuads }, () => allocate(what, count, (length) => new Int32Array(length)));
  const singles = Array.from({ length: stages - 4 * numQuads }, () => allocate(what, count, newColumn));
  yield* inPieces(count * stages, stages, (from, to) => {
    for (const [quad, words] of quads.entries()) {
      let row = from / stages;
      for (let i = from + 4 * quad; i < to; i += stages) {
        words[row++] = data[i] | (data[i + 1] << 8) | (data[i + 2] << 16) | (data[i + 3] << 24);
      }
    }
    for (const [single, column] of singles.entries()) {
      let row = from / stages;
      for (let i = from + 4 * numQuads + single; i < to; i += stages) column[row++] = data[i];
    }
  });
  return { count, stages, quads, singles };
}

/** Tables of zeros for codebooks of these sizes. */
export function codeTables(codebookSizes: readonly number[]): CodeTables {
  const numQuads = quadsOf(codebookSizes);
  const quads = Array.from({ length: numQuads }, () => new Float64Array(4 * codesOfByte));
  const singles = codebookSizes.slice(4 * numQuads).map((size) => new Float64Array(size));
  const inQuads = codebookSizes.slice(0, 4 * numQuads).map((size, stage) => {
    const start = (stage % 4) * codesOfByte;
    return quads[Math.floor(stage / 4)].subarray(start, start + size);
  });
  return { stages: [...inQuads, ...singles], quads, singles };
}

function quadsOf(codebookSizes: readonly number[]): number {
  return Math.max(...codebookSizes) <= codesOfByte ? Math.floor(codebookSizes.length / 4) : 0;
}

/** sums[i] += the table of stage 0 at the code of vector first + i, then that of stage 1, …: each sum in stage order. */
export function addTables(columns: CodeColumns, first: number, tables: CodeTables, sums: Float64Array): void {
  for (let quad = 0; quad < columns.quads.length; quad++) addQuad(columns.quads[quad], first, tables.quads[quad], sums);
  const { singles } = columns;
  const ofSingles = tables.singles;
  let s = 0;
  for (; s + 4 <= singles.length; s += 4) addFour(singles, s, first, ofSingles, sums);
  for (; s < singles.length; s++) {
    const column = singles[s];
    if (column instanceof Uint8Array) addOneOfBytes(column, first, ofSingles[s], sums);
    else addOne(column, first, ofSingles[s], sums);
  }
}

function addQuad(words: Int32Array, first: number, table: Float64Array, sums: Float64Array): void {
  for (let i = 0; i < sums.length; i++) {
    const word = words[first + i];
    sums[i] =
      sums[i] +
      table[word & 255] +
      table[256 + ((word >>> 8) & 255)] +
      table[512 + ((word >>> 16) & 255)] +
      table[768 + (word >>> 24)];
  }
}

/** Four columns of codes above 255, from column s on. */
function addFour(
  columns: readonly CodeColumn[],
  s: number,
  first: number,
  tables: readonly Float64Array[],
  sums: Float64Array,
): void {
  const [a, b, c, d] = [columns[s], columns[s + 1], columns[s + 2], columns[s + 3]];
  const [tableA, tableB, tableC, tableD] = [tables[s], tables[s + 1], tables[s + 2], tables[s + 3]];
  for (let i = 0; i < sums.length; i++) {
    const n = first + i;
    sums[i] = sums[i] + tableA[a[n]] + tableB[b[n]] + tableC[c[n]] + tableD[d[n]];
  }
}

// A copy for bytes keeps the compiler from having to ask which type of array it is.

function addOneOfBytes(column: Uint8Array, first: number, table: Float64Array, sums: Float64Array): void {
  for (let i = 0; i < sums.length; i++) sums[i] += table[column[first + i]];
}

function addOne(column: CodeColumn, first: number, table: Float64Array, sums: Float64Array): void {
  for (let i = 0; i < sums.length; i++) sums[i] += table[column[first + i]];
}
