// Dead codewords: which they are, and how they start again from the rows of a batch so that the next step does not undo it.

import { isZeroRow } from "./check.js";
import { type AverageForm, type StageState, setAverage, sum } from "./moving-average.js";
import { ProportionalDraw } from "./proportional-draw.js";
import type { Random } from "./random.js";
import type { StageOfRows } from "./stage-walk.js";
import { StepMeter, type Steps } from "./time-slice.js";

/** A codeword is dead when its usage (rows per step, averaged) is under either. */
export interface DeadBelow {
  /** Rows per step, or the sum of their weights. Depends on the batch size. */
  readonly count?: number;
  /** A part of the mean usage of the stage's codewords. */
  readonly ratio?: number;
}

export function deadCodewords(usage: Float64Array, { count = 0, ratio = 0 }: DeadBelow): number[] {
  const threshold = Math.max(count, ratio * (sum(usage) / usage.length));
  const dead: number[] = [];
  for (let k = 0; k < usage.length; k++) if (usage[k] < threshold) dead.push(k);
  return dead;
}

/**
 * Starts dead codewords again, each on the way to a row of its own; how many that were. The row is any that counts in the stage
 * and that the codebook does not meet exactly, drawn in proportion to the row weights; where there are fewer such rows, codewords wait.
 *
 * As in k-means, the new codeword lies between the row's codeword and the row, at sqrt(K/N) of the way for N rows: on the row itself
 * it would, in many dimensions, attract no other. Codeword, usage (the mean of all) and average are set together: so it
 * stays where it is until rows move it, and does not die at once.
 */
export function* reseedSteps(
  state: StageState,
  dead: readonly number[],
  rows: StageOfRows,
  weights: Float32Array | null,
  form: AverageForm,
  random: Random,
): Steps<number> {
  if (dead.length === 0) return 0;
  const { usage, codebook } = state;
  const { residuals, codes, counted, distances } = rows;
  const dim = codebook.length / usage.length;
  const meter = new StepMeter();
  const eligible = new Float64Array(codes.length);
  let rowsThatCount = 0;
  for (let n = 0; n < codes.length; n++) {
    if (counted[n] === codes[n]) rowsThatCount++;
    if (counted[n] === codes[n] && distances[n] > 0) eligible[n] = weights === null ? 1 : weights[n];
    if (meter.add(16)) yield;
  }
  const draw = new ProportionalDraw(eligible);
  const mean = sum(usage) / usage.length;
  const moved = codebook.slice();
  const step = Math.min(1, Math.sqrt(usage.length / rowsThatCount));
  let reseeded = 0;
  for (const k of dead) {
    if (draw.total() === 0) break;
    const row = draw.draw(random);
    draw.remove(row);
    for (let i = 0; i < dim; i++) {
      const from = moved[codes[row] * dim + i];
      codebook[k * dim + i] = from + step * (residuals[row * dim + i] - from);
    }
    // With the cosine metric a codeword needs a direction, which the row has.
    if (isZeroRow(codebook, k * dim, dim)) codebook.set(residuals.subarray(row * dim, (row + 1) * dim), k * dim);
    usage[k] = mean;
    setAverage(state, k, dim, form);
    reseeded++;
    if (meter.add(2 * dim + codes.length / 256 + 1024)) yield;
  }
  return reseeded;
}
