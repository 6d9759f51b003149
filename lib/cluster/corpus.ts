// A corpus: the rows of files, numbered through, cut into ranges for jobs.

import { checkInteger } from "../check.js";
import { invalidArgument } from "../errors.js";
import { checkFileName, type SharedFolders, type Side } from "./folders.js";
import { RowReader, type Segment } from "./row-file.js";

/** What a job reads. */
export interface JobInput {
  readonly side: Side;
  readonly dim: number;
  readonly segments: readonly Segment[];
}

interface CorpusFile {
  readonly file: string;
  readonly rows: number;
  /** Changes when the file does. */
  readonly version: string;
}

/** Random draws name rows by 32 bits. */
const mostRows = 2 ** 32;

export class Corpus {
  readonly rows: number;

  constructor(
    readonly side: Side,
    readonly dim: number,
    readonly files: readonly CorpusFile[],
  ) {
    this.rows = files.reduce((sum, { rows }) => sum + rows, 0);
  }

  /** @throws RvqError INVALID_ARGUMENT, IO */
  static async open(folders: SharedFolders, names: unknown, dim: number): Promise<Corpus> {
    if (!Array.isArray(names) || names.length === 0) throw invalidArgument("inputs", "at least one file name", names);
    const files: CorpusFile[] = [];
    for (const [i, given] of names.entries()) {
      const file = checkFileName(`inputs[${i}]`, given);
      // One after the other: there may be more files than a process may have open.
      const reader = new RowReader(folders, "inputs", dim);
      try {
        files.push({ file, ...(await reader.facts(file)) });
      } finally {
        await reader.close();
      }
    }
    const corpus = new Corpus("inputs", dim, files);
    checkInteger("rows of the inputs", corpus.rows, 1, mostRows);
    return corpus;
  }

  /** The rows from `firstRow` on, whichever files they lie in. */
  slice(firstRow: number, rows: number): JobInput {
    const { side, dim } = this;
    const segments: Segment[] = [];
    let start = 0;
    for (const { file, rows: inFile } of this.files) {
      const from = Math.max(firstRow, start);
      const to = Math.min(firstRow + rows, start + inFile);
      if (to > from) segments.push({ file, firstRow: from - start, rows: to - from });
      start += inFile;
    }
    return { side, dim, segments };
  }

  /** Consecutive ranges of at most `rows` rows. */
  cut(rows: number): { firstRow: number; rows: number }[] {
    const ranges: { firstRow: number; rows: number }[] = [];
    for (let firstRow = 0; firstRow < this.rows; firstRow += rows) {
      ranges.push({ firstRow, rows: Math.min(rows, this.rows - firstRow) });
    }
    return ranges;
  }

  /** Copies of rows in the order of the list; null: all. */
  async gather(folders: SharedFolders, rows: Uint32Array | null): Promise<Float32Array> {
    const reader = new RowReader(folders, this.side, this.dim);
    try {
      if (rows === null) return await reader.read(this.slice(0, this.rows).segments, false);
      const gathered = new Float32Array(rows.length * this.dim);
      for (let i = 0; i < rows.length; ) {
        let end = i + 1;
        while (end < rows.length && rows[end] === rows[end - 1] + 1) end++;
        gathered.set(await reader.read(this.slice(rows[i], end - i).segments, false), i * this.dim);
        i = end;
      }
      return gathered;
    } finally {
      await reader.close();
    }
  }
}
