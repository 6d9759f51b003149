// Matrices whose columns are divided into groups: which columns those are, and copies of a group's part to and fro.

import { checkInteger, limits, mapList } from "./check.js";
import { invalidArgument } from "./errors.js";

type Matrix = Float32Array | Uint16Array | Uint32Array;

/** Column places of a group in a row: from + step · i, for i below `width`. */
export interface ColumnGroup {
  readonly from: number;
  readonly step: number;
  readonly width: number;
}

/** The dimensions of every group, from their number or a list of their widths. */
export function checkGroups(value: unknown, dim: number): readonly number[] {
  if (!Array.isArray(value)) {
    const groups = checkInteger("groups", value, 1, Math.min(dim, limits.groups));
    if (dim % groups !== 0) throw invalidArgument("groups", `a divisor of dim ${dim}, or a list of widths`, groups);
    return new Array<number>(groups).fill(dim / groups);
  }
  checkInteger("groups.length", value.length, 1, limits.groups);
  // Array.from calls the function for holes too.
  const widths = mapList(value, (width, group) => checkInteger(`groups[${group}]`, width, 1, dim));
  const sum = widths.reduce((total, width) => total + width, 0);
  if (sum !== dim) throw invalidArgument("groups", `widths that add up to dim ${dim}`, sum);
  return widths;
}

/** Neighbouring columns of the given widths. */
export function neighbouringColumns(widths: readonly number[]): ColumnGroup[] {
  let end = 0;
  return widths.map((width) => {
    end += width;
    return { from: end - width, step: 1, width };
  });
}

/** to[rows][group.width] = the group's columns of from[rows][columns]. */
export function takeColumns(from: Matrix, columns: number, group: ColumnGroup, to: Matrix): void {
  for (let start = group.from, at = 0; at < to.length; start += columns) {
    for (let i = 0; i < group.width; i++) to[at++] = from[start + group.step * i];
  }
}

/** The reverse. */
export function putColumns(from: Matrix, to: Matrix, columns: number, group: ColumnGroup): void {
  for (let start = group.from, at = 0; at < from.length; start += columns) {
    for (let i = 0; i < group.width; i++) to[start + group.step * i] = from[at++];
  }
}
