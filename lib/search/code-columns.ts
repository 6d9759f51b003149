// The codes of an index, column by column, and the loops that add up what the tables hold for them.

import type { CodeColumns } from "../backend.js";
import { allocate, type Codes } from "../check.js";
import { inPieces, type Steps } from "../time-slice.js";

type CodeColumn = CodeColumns["singles"];

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
  const newColumns = (length: number): CodeColumn => {
    if (most <= codesOfByte) return new Uint8Array(length);
    return most <= 65_536 ? new Uint16Array(length) : new Uint32Array(length);
  };
  const what = "the codes of an index";
  const words = allocate(what, numQuads * count, (length) => new Int32Array(length));
  const singles = allocate(what, (stages - 4 * numQuads) * count, newColumns);
  yield* inPieces(count * stages, stages, (from, to) => {
    for (let quad = 0; quad < numQuads; quad++) {
      let next = quad * count + from / stages;
      for (let i = from + 4 * quad; i < to; i += stages) {
        words[next++] = data[i] | (data[i + 1] << 8) | (data[i + 2] << 16) | (data[i + 3] << 24);
      }
    }
    for (let stage = 4 * numQuads; stage < stages; stage++) {
      let next = (stage - 4 * numQuads) * count + from / stages;
      for (let i = from + stage; i < to; i += stages) singles[next++] = data[i];
    }
  });
  return { vectors: count, stages, words, singles };
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
  const { vectors, words, singles } = columns;
  for (let quad = 0; quad < tables.quads.length; quad++)
    addQuad(words, quad * vectors + first, tables.quads[quad], sums);
  for (let s = 0; s < tables.singles.length; s++) {
    const start = s * vectors + first;
    if (singles instanceof Uint8Array) addOneOfBytes(singles, start, tables.singles[s], sums);
    else addOne(singles, start, tables.singles[s], sums);
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

// A copy for bytes keeps the compiler from having to ask which type of array it is.

function addOneOfBytes(column: Uint8Array, first: number, table: Float64Array, sums: Float64Array): void {
  for (let i = 0; i < sums.length; i++) sums[i] += table[column[first + i]];
}

function addOne(column: CodeColumn, first: number, table: Float64Array, sums: Float64Array): void {
  for (let i = 0; i < sums.length; i++) sums[i] += table[column[first + i]];
}
