// Which rows of a batch count in training and in losses, and how much: masks and row weights.

import { types } from "node:util";
import { checkBytes, checkFloat32 } from "./check.js";
import { invalidArgument } from "./errors.js";

export interface RowOptions {
  /** mask[N]: rows whose entry is 0 are left out. Nothing looks at them: they may hold anything, padding and NaN too. */
  readonly mask?: Uint8Array;
  /** weights[N], finite and ≥ 0: a row counts as so many. Rows of weight 0 are left out as masked ones are. */
  readonly weights?: Float32Array;
}

/** Rows after checking; `mask` and `weights` are copies. */
export class CheckedRows {
  /** Σ of the weights of all rows that count, in row order. */
  readonly totalWeight: number;
  /** How many rows count. */
  readonly counting: number;

  constructor(
    readonly count: number,
    private readonly mask: Uint8Array | null,
    private readonly weights: Float32Array | null,
  ) {
    let total = 0;
    let counting = 0;
    if (mask === null && weights === null) total = counting = count;
    else {
      for (let n = 0; n < count; n++) {
        const weight = this.weightOf(n);
        if (weight === 0) continue;
        total += weight;
        counting++;
      }
    }
    this.totalWeight = total;
    this.counting = counting;
  }

  /** Whether rows have weights other than 0 and 1. */
  get weighted(): boolean {
    return this.weights !== null;
  }

  /** 0: the row is left out. */
  weightOf(row: number): number {
    if (this.mask !== null && this.mask[row] === 0) return 0;
    return this.weights === null ? 1 : this.weights[row];
  }
}

/** @throws RvqError INVALID_ARGUMENT */
export function checkRows(options: RowOptions, count: number): CheckedRows {
  const mask = options.mask === undefined ? null : checkRowArray("mask", checkMask(options.mask), count);
  const weights =
    options.weights === undefined ? null : checkRowArray("weights", checkFloat32("weights", options.weights), count);
  const bad = weights?.findIndex((weight) => !(weight >= 0 && weight < Infinity)) ?? -1;
  if (weights !== null && bad >= 0) {
    throw invalidArgument(`weights[${bad}]`, "a finite number that is not negative", weights[bad]);
  }
  return new CheckedRows(count, mask, weights);
}

function checkMask(value: unknown): Uint8Array {
  if (!types.isUint8Array(value)) throw invalidArgument("mask", "a Uint8Array, 0 for rows to leave out", value);
  return checkBytes("mask", value);
}

function checkRowArray<Rows extends Uint8Array | Float32Array>(name: string, rows: Rows, count: number): Rows {
  if (rows.length !== count) throw invalidArgument(name, `${count} elements, one a row`, rows.length);
  return rows.slice() as Rows;
}
