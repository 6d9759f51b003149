// The error of reconstructions of a ProjectedQuantizer from every number of stages.

import type { CodeArray } from "./backend.js";
import { firstBadInput } from "./bad-input.js";
import { squaredDistance } from "./canonical.js";
import { badInput, checkCodeRange } from "./check.js";
import { type Distortion, energyOfRows } from "./distortion.js";
import { runLater } from "./operations.js";
import type { PartRows, PreparedParts } from "./projected-parts.js";
import { stageRows } from "./staging.js";
import { nextSlice, sliceOver } from "./time-slice.js";

/** All vectors[count][dim] of a call and their codes[count][stages]. */
export interface CodedVectors {
  readonly vectors: Float32Array;
  readonly codes: CodeArray;
  readonly stages: number;
}

export interface MeasuredRows {
  /** vectors[rows][dim] */
  readonly vectors: Float32Array;
  /** distances[stages][rows]: d64 of each vector and its reconstruction from the first 1, 2, … stages. */
  readonly distances: readonly Float64Array[];
}

/** @throws RvqError NOT_FINITE, CODE_OUT_OF_RANGE */
export async function measurePrefixes(
  parts: PreparedParts,
  coded: CodedVectors,
  rows: PartRows,
): Promise<MeasuredRows> {
  const { dim, codebookSizes } = parts;
  const vectors = stageRows("vectors", coded.vectors, rows.firstRow, rows.rows, dim);
  const bad = firstBadInput(vectors, dim, false);
  if (bad !== null) throw badInput("vectors", bad, rows.firstRow, vectors[bad.row * dim + bad.column]);
  const codes = stageRows("codes.data", coded.codes, rows.firstRow, rows.rows, coded.stages);
  checkCodeRange("codes", codes, coded.stages, codebookSizes, rows.firstRow);
  const distances: Float64Array[] = [];
  const measure = (_: number, reconstructions: Float32Array) => {
    const ofRows = new Float64Array(rows.rows);
    for (let row = 0; row < ofRows.length; row++) {
      ofRows[row] = squaredDistance(vectors, row * dim, reconstructions, row * dim, dim, null, Infinity);
    }
    distances.push(ofRows);
  };
  await runLater(parts.prefixes(codes, coded.stages, rows, measure));
  if (sliceOver()) await nextSlice();
  return { vectors, distances };
}

/** Sums in row order in float64. */
export class PrefixErrors {
  private energy = 0;
  private readonly errors: Float64Array;

  constructor(
    private readonly dim: number,
    stages: number,
  ) {
    this.errors = new Float64Array(stages);
  }

  /** Adds rows, which come in order. */
  add({ vectors, distances }: MeasuredRows): void {
    this.energy = energyOfRows(vectors, this.dim, this.energy);
    for (const [stage, ofRows] of distances.entries()) {
      for (const distance of ofRows) this.errors[stage] += distance;
    }
  }

  /** Of `count` vectors in all. */
  result(count: number): Distortion[] {
    return Array.from(this.errors, (error, stage) => ({
      stages: stage + 1,
      distortion: error / count,
      mse: error / (count * this.dim),
      snrDb: 10 * Math.log10(this.energy / error),
    }));
  }
}
