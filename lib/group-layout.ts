// Where the dimensions and the codes of each group of a product form lie among those of all.

import type { CodeArray, Metric } from "./backend.js";
import { firstBadInput } from "./bad-input.js";
import { badInput, type Codes, checkCodes } from "./check.js";
import { newCodeArray } from "./code-array.js";
import { type ColumnGroup, neighbouringColumns, putColumns, takeColumns } from "./column-groups.js";
import { invalidArgument } from "./errors.js";
import { inSlices } from "./time-slice.js";

/** Codes have a column for each stage and group: codes[n][stage · G + group]. */
export class GroupLayout {
  readonly dim: number;
  readonly stages: number;
  /** Of every column of the codes. */
  readonly codebookSizes: readonly number[];
  /** Of the dimensions of each group. */
  readonly columns: readonly ColumnGroup[];

  /**
   * @param groups groups[G]: dimensions of each group
   * @param sizes sizes[G][S]: codebook sizes of each group
   */
  constructor(
    readonly groups: readonly number[],
    private readonly sizes: readonly (readonly number[])[],
  ) {
    this.columns = neighbouringColumns(groups);
    this.dim = groups.reduce((sum, width) => sum + width, 0);
    this.stages = sizes[0].length;
    this.codebookSizes = Array.from({ length: this.stages }, (_, stage) => sizes.map((own) => own[stage])).flat();
  }

  /** The group's dimensions of vectors[rows][dim]. */
  vectorsOf(vectors: Float32Array, group: number): Float32Array {
    const part = new Float32Array((vectors.length / this.dim) * this.groups[group]);
    takeColumns(vectors, this.dim, this.columns[group], part);
    return part;
  }

  putVectors(part: Float32Array, group: number, into: Float32Array): void {
    putColumns(part, into, this.dim, this.columns[group]);
  }

  /** The group's codes of data[count][stages · G]. */
  codesOf(data: CodeArray, stages: number, group: number): Codes {
    const count = data.length / (stages * this.groups.length);
    const part = newCodeArray(count * stages, this.sizes[group]);
    takeColumns(data, stages * this.groups.length, this.codeColumns(group, stages), part);
    return { count, stages, data: part };
  }

  putCodes({ data, stages }: Codes, group: number, into: CodeArray): void {
    putColumns(data, into, stages * this.groups.length, this.codeColumns(group, stages));
  }

  /** Codes with whole stages of all groups, and how many those are. */
  checkCodes(value: unknown): Codes & { readonly wholeStages: number } {
    const codes = checkCodes("codes", value, this.codebookSizes.length);
    const wholeStages = codes.stages / this.groups.length;
    if (!Number.isInteger(wholeStages)) {
      throw invalidArgument("codes.stages", `a multiple of the ${this.groups.length} groups`, codes.stages);
    }
    return { ...codes, wholeStages };
  }

  private codeColumns(group: number, stages: number): ColumnGroup {
    return { from: group, step: this.groups.length, width: stages };
  }
}

/** @throws RvqError for the first row that is not finite, or where, with the cosine metric, a group has no direction */
export function checkGroupedContent(
  name: string,
  vectors: Float32Array,
  groups: readonly ColumnGroup[],
  metric: Metric,
  firstRow: number,
): void {
  const dim = groups.reduce((sum, { width }) => sum + width, 0);
  const bad = firstBadInput(vectors, dim, false);
  if (bad !== null) throw badInput(name, bad, firstRow, vectors[bad.row * dim + bad.column]);
  if (metric !== "cosine") return;
  for (const [group, columns] of groups.entries()) {
    const part = new Float32Array((vectors.length / dim) * columns.width);
    takeColumns(vectors, dim, columns, part);
    const zero = firstBadInput(part, columns.width, true);
    if (zero !== null) throw badInput(`${name}, group ${group}`, zero, firstRow);
  }
}

/** The group's columns of vectors[…][dim], with turns of the event loop. */
export async function columnsInSlices(vectors: Float32Array, dim: number, group: ColumnGroup): Promise<Float32Array> {
  const part = new Float32Array((vectors.length / dim) * group.width);
  await inSlices(vectors.length, dim, (from, to) => {
    const into = part.subarray((from / dim) * group.width, (to / dim) * group.width);
    takeColumns(vectors.subarray(from, to), dim, group, into);
  });
  return part;
}
