// One step of codebook learning: encodes a batch, measures it, and works out the state after it without touching the one before.

import type { CodebookSpec, Metric } from "./backend.js";
import { allFinite } from "./bad-input.js";
import type { Codes } from "./check.js";
import { newCodeArray } from "./code-array.js";
import { deadCodewords, reseed } from "./dead-codewords.js";
import { invalidArgument } from "./errors.js";
import { decayAt, type StageState } from "./moving-average.js";
import { Random } from "./random.js";
import type { CheckedRows } from "./row-options.js";
import { stageGrids } from "./stage-sums.js";
import { type Usage, usageOfCounts } from "./statistics.js";
import type { StepRows } from "./step-rows.js";
import { inSlices } from "./time-slice.js";
import type { CheckedStep, LearningRule } from "./trainer-options.js";

export interface TrainerState {
  /** Steps done. */
  readonly steps: number;
  /** Of the generator of lib/random.ts. */
  readonly random: readonly number[];
  readonly stages: readonly StageState[];
}

/** What does not change from step to step. */
export interface TrainerModel {
  readonly dim: number;
  readonly metric: Metric;
  /** weights[D] of the metric, or null. */
  readonly weights: Float32Array | null;
  readonly rule: LearningRule;
}

/** A trainer, or one group of a product form. */
export interface TrainerPart {
  readonly model: TrainerModel;
  /** After the last step that is done. */
  readonly state: TrainerState;
}

/** One stage in a step, over the rows that count in it, by the codebooks before the update. Means are NaN where none does. */
export interface StageReport {
  /** Mean over rows of the squared (with weights of the metric: weighted squared) distance of the residual to its codeword. */
  readonly distortion: number;
  /** Mean squared error per element after this stage, without weights of the metric. */
  readonly mse: number;
  /** Counts (or sums of row weights), perplexity and fraction used in this batch. */
  readonly usage: Usage;
  /** Codewords whose averaged usage is under `deadBelow` after the update. */
  readonly dead: number;
  /** How many of them started again. */
  readonly reseeded: number;
}

export interface StepResult {
  /** Steps done, this one included. A batch without a row that counts changes nothing, and is no step. */
  readonly step: number;
  /** Rows that counted. */
  readonly rows: number;
  /** By the codebooks before the update, in all stages; 0 in rows that are left out. */
  readonly codes: Codes;
  /** stagesOfRow[N]: in how many stages each row counts, 0 in rows that are left out; null without dropout. */
  readonly stagesOfRow: Uint16Array | null;
  /** reconstruction[N][D] by each row's own number of stages, zero in rows that are left out; null unless asked for. */
  readonly reconstruction: Float32Array | null;
  /** One for each column of the codes: with groups stage by stage, group by group. */
  readonly stages: readonly StageReport[];
  /** β·‖x − x̂‖², the mean over the elements of the rows that count, x̂ by each row's own number of stages. */
  readonly commitmentLoss: number;
}

/** What a step of a part has come to. */
export interface StepDone {
  readonly next: TrainerState;
  readonly result: StepResult;
  /** In how many stages each of the rows that count does; null: in all. */
  readonly stagesOfRow: Uint16Array | null;
}

/** What the rows of a step are encoded by: the codebooks as they are. */
export function specOf({ model, state }: TrainerPart): CodebookSpec {
  const { dim, metric, weights } = model;
  return { dim, metric, weights, codebooks: state.stages.map(({ codebook }) => codebook) };
}

/**
 * The result of a step of a part on the rows of a batch that count, and the state after it, in the memory of `spare`; where no row
 * counts it is the same state. `given` says in how many stages each of the rows counts; undefined: the step draws it. Where it fails,
 * only `spare` has been written to.
 */
export async function computeStep(
  part: TrainerPart,
  spare: readonly StageState[],
  rows: StepRows,
  checkedRows: CheckedRows,
  { reconstruct, signal }: CheckedStep,
  given?: Uint16Array | null,
): Promise<StepDone> {
  const { model, state } = part;
  const { dim, metric, rule } = model;
  const spec = specOf(part);
  const { codebooks } = spec;
  const sizes = codebooks.map((codebook) => codebook.length / dim);
  const numStages = codebooks.length;
  const data = newCodeArray(checkedRows.count * numStages, sizes);
  const random = Random.fromState(state.random);
  const draws = given === undefined && rule.dropout.probability > 0;
  const stagesOfRow = draws ? drawStages(rows.range.rows, numStages, rule, random) : (given ?? null);
  const grids = await stageGrids("batch", rows.range, spec, rows.codewordMagnitudes);
  const average = { form: rule.average, epsilon: rule.epsilon, metric };
  const update = { before: state.stages, after: spare, decay: decayAt(rule.decay, state.steps), average };
  const reports: StageReport[] = [];
  let lastErrors = 0;
  await rows.walk({ grids, stagesOfRow, update, signal, codes: data }, async (stageRows) => {
    const { stage, errors, masses } = stageRows;
    const after = spare[stage];
    const dead = deadCodewords(after.usage, rule.deadBelow);
    const wanted = rule.reseed ? dead : [];
    const reseeded = await reseed(after, wanted, stageRows, rows.weights, rule.average, random);
    if (!(await allFinite(after.codebook))) {
      throw invalidArgument("batch", "magnitudes whose averages float32 can hold", `an overflow in stage ${stage}`);
    }
    reports.push({
      distortion: errors.weighted / errors.mass,
      mse: errors.plain / (errors.mass * dim),
      usage: usageOfCounts(masses),
      dead: dead.length,
      reseeded,
    });
    lastErrors += errors.last;
    return reseeded > 0;
  });

  const idle = rows.range.rows === 0;
  const codes = { count: checkedRows.count, stages: numStages, data };
  const stagesOfAll = stagesOfRow === null ? null : scatterStages(stagesOfRow, rows, checkedRows.count);
  const next = idle ? state : { steps: state.steps + 1, random: random.toState(), stages: spare };
  const result = {
    step: next.steps,
    rows: rows.range.rows,
    codes,
    stagesOfRow: stagesOfAll,
    reconstruction: reconstruct ? await reconstructRows(codes, codebooks, dim, rows, stagesOfRow) : null,
    stages: reports,
    commitmentLoss: idle ? 0 : (rule.beta * lastErrors) / (dim * checkedRows.totalWeight),
  };
  return { next, result, stagesOfRow };
}

/** How many stages each of `count` rows counts in, drawn in row order. */
function drawStages(count: number, stages: number, { dropout }: LearningRule, random: Random): Uint16Array {
  const { probability, minStages } = dropout;
  const drawn = new Uint16Array(count);
  for (let n = 0; n < count; n++) {
    drawn[n] = random.fraction() < probability ? minStages + random.below(stages - minStages + 1) : stages;
  }
  return drawn;
}

function scatterStages(stagesOfRow: Uint16Array, { rows }: StepRows, count: number): Uint16Array {
  if (rows === null) return stagesOfRow;
  const all = new Uint16Array(count);
  for (let n = 0; n < rows.length; n++) all[rows[n]] = stagesOfRow[n];
  return all;
}

/** Sums of codewords in stage order, each element rounded to float32, as in `decode`. */
async function reconstructRows(
  { count, stages, data }: Codes,
  codebooks: readonly Float32Array[],
  dim: number,
  { rows, range }: StepRows,
  stagesOfRow: Uint16Array | null,
): Promise<Float32Array> {
  const out = new Float32Array(count * dim);
  await inSlices(range.rows * stages * dim, stages * dim, (from, to) => {
    for (let m = from / (stages * dim); m < to / (stages * dim); m++) {
      const n = rows === null ? m : rows[m];
      const used = stagesOfRow === null ? stages : stagesOfRow[m];
      for (let stage = 0; stage < used; stage++) {
        const codebook = codebooks[stage];
        const start = data[n * stages + stage] * dim;
        for (let i = 0; i < dim; i++) out[n * dim + i] += codebook[start + i];
      }
    }
  });
  return out;
}
