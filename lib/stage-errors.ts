// The errors of a stage in a step of learning, summed in an order that many threads can keep to.

import { inSlices } from "./time-slice.js";

/** Rows whose terms are added up one after the other, from zero; then the sums of all blocks are, in order. */
const rowsOfABlock = 256;

/** float64 sums over the rows that count in the stage. */
export interface StageErrors {
  /** Σ of row weights. */
  readonly mass: number;
  /** Σ of weights times distances, by the metric. */
  readonly weighted: number;
  /** The same without weights of the metric. */
  readonly plain: number;
  /** The part of `plain` of rows whose last stage this is. */
  readonly last: number;
}

export interface MeasuredStage {
  readonly stage: number;
  /** distances[M] = d64(residual, codeword), with the weights of the metric. */
  readonly distances: Float64Array;
  /** The same without weights. */
  readonly plainDistances: Float64Array;
}

/**
 * @param rowWeights weights[M] of rows; null: each counts as 1
 * @param stagesOfRow stagesOfRow[M]: a row counts in so many stages; null: in all
 */
export async function stageErrors(
  { stage, distances, plainDistances }: MeasuredStage,
  rowWeights: Float32Array | null,
  stagesOfRow: Uint16Array | null,
  numStages: number,
): Promise<StageErrors> {
  const total = { mass: 0, weighted: 0, plain: 0, last: 0 };
  const addBlock = (from: number, to: number) => {
    let mass = 0;
    let weighted = 0;
    let plain = 0;
    let last = 0;
    for (let n = from; n < to; n++) {
      const stages = stagesOfRow === null ? numStages : stagesOfRow[n];
      if (stages <= stage) continue;
      const weight = rowWeights === null ? 1 : rowWeights[n];
      mass += weight;
      weighted += weight * distances[n];
      plain += weight * plainDistances[n];
      if (stages === stage + 1) last += weight * plainDistances[n];
    }
    total.mass += mass;
    total.weighted += weighted;
    total.plain += plain;
    total.last += last;
  };
  await inSlices(distances.length, rowsOfABlock, (from, to) => {
    for (let first = from; first < to; first += rowsOfABlock) addBlock(first, Math.min(first + rowsOfABlock, to));
  });
  return total;
}
