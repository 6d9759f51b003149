// Dead codewords: which they are, and how they start again from the rows of a batch so that the next step does not undo it.

import { isZeroRow } from "./check.js";
import { type AverageForm, type StageState, setAverage, sum } from "./moving-average.js";
import { ProportionalDraw } from "./proportional-draw.js";
import type { Random } from "./random.js";
import type { MeasuredRows, PickedRows, StepStage } from "./step-rows.js";
import { runInSlices, StepMeter, type Steps } from "./time-slice.js";

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
export async function reseed(
  state: StageState,
  dead: readonly number[],
  rows: StepStage,
  weights: Float32Array | null,
  form: AverageForm,
  random: Random,
): Promise<number> {
  if (dead.length === 0) return 0;
  const { drawn, rowsThatCount } = await runInSlices(drawSteps(dead.length, await rows.measured(), weights, random));
  if (drawn.length === 0) return 0;
  const share = Math.min(1, Math.sqrt(state.usage.length / rowsThatCount));
  await runInSlices(placeSteps(state, dead, await rows.pick(drawn), share, form));
  return drawn.length;
}

/** At most `wanted` rows, all different. */
function* drawSteps(
  wanted: number,
  { distances, counts }: MeasuredRows,
  weights: Float32Array | null,
  random: Random,
): Steps<{ drawn: Uint32Array; rowsThatCount: number }> {
  const meter = new StepMeter();
  const eligible = new Float64Array(distances.length);
  let rowsThatCount = 0;
  for (let n = 0; n < eligible.length; n++) {
    if (counts(n)) {
      rowsThatCount++;
      if (distances[n] > 0) eligible[n] = weights === null ? 1 : weights[n];
    }
    if (meter.add(16)) yield;
  }
  const draw = new ProportionalDraw(eligible);
  const drawn: number[] = [];
  while (drawn.length < wanted && draw.total() !== 0) {
    const row = draw.draw(random);
    draw.remove(row);
    drawn.push(row);
    if (meter.add(eligible.length / 256 + 1024)) yield;
  }
  return { drawn: Uint32Array.from(drawn), rowsThatCount };
}

/** Puts the first of the dead codewords at `share` of the way from each row's codeword to the row. */
function* placeSteps(
  state: StageState,
  dead: readonly number[],
  { codes, residuals }: PickedRows,
  share: number,
  form: AverageForm,
): Steps<void> {
  const { usage, codebook } = state;
  const dim = codebook.length / usage.length;
  const mean = sum(usage) / usage.length;
  const moved = codebook.slice();
  const meter = new StepMeter();
  for (const [place, code] of codes.entries()) {
    const k = dead[place];
    const row = residuals.subarray(place * dim, (place + 1) * dim);
    for (let i = 0; i < dim; i++) {
      const from = moved[code * dim + i];
      codebook[k * dim + i] = from + share * (row[i] - from);
    }
    // With the cosine metric a codeword needs a direction, which the row has.
    if (isZeroRow(codebook, k * dim, dim)) codebook.set(row, k * dim);
    usage[k] = mean;
    setAverage(state, k, dim, form);
    if (meter.add(2 * dim)) yield;
  }
}
