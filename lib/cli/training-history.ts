// How a training by moving averages went, step by step: kept in checkpoints, drawn on the report page.

import { checkInteger } from "../check.js";
import { invalidArgument, RvqError } from "../errors.js";
import type { StepResult } from "../index.js";

/** As JSON; of every stage one number for each of `steps`. */
export interface HistoryRecord {
  /** Only steps that are multiples of this are kept. */
  readonly every: number;
  readonly steps: readonly number[];
  readonly stages: readonly StageHistory[];
}

export interface StageHistory {
  /** Mean squared error per element after the stage. */
  readonly mse: readonly number[];
  readonly perplexity: readonly number[];
  readonly dead: readonly number[];
}

/** More points than a chart has pixels would only make checkpoints large; with this many, every second one goes. */
const mostPoints = 400;

export class TrainingHistory {
  private constructor(private record: HistoryRecord) {}

  static empty(stages: number): TrainingHistory {
    const stage = { mse: [], perplexity: [], dead: [] };
    return new TrainingHistory({ every: 1, steps: [], stages: new Array<StageHistory>(stages).fill(stage) });
  }

  /** @throws RvqError INVALID_CHECKPOINT for what `toRecord` did not give */
  static fromRecord(name: string, value: unknown, stages: number): TrainingHistory {
    try {
      return new TrainingHistory(checkRecord(value, stages));
    } catch (cause) {
      const message = `${name}: expected the history that rvq train wrote, got another one (${(cause as Error).message})`;
      throw new RvqError("INVALID_CHECKPOINT", message, { cause });
    }
  }

  add({ step, stages: reports }: StepResult): void {
    const { every, steps, stages } = this.record;
    if (step % every !== 0) return;
    this.record = {
      every,
      steps: [...steps, step],
      stages: stages.map(({ mse, perplexity, dead }, stage) => ({
        mse: [...mse, rounded(reports[stage].mse)],
        perplexity: [...perplexity, rounded(reports[stage].usage.perplexity)],
        dead: [...dead, reports[stage].dead],
      })),
    };
    if (steps.length + 1 >= mostPoints) this.record = halved(this.record);
  }

  toRecord(): HistoryRecord {
    return this.record;
  }
}

function halved({ every, steps, stages }: HistoryRecord): HistoryRecord {
  const stays = (_: unknown, i: number) => steps[i] % (2 * every) === 0;
  return {
    every: 2 * every,
    steps: steps.filter(stays),
    stages: stages.map(({ mse, perplexity, dead }) => ({
      mse: mse.filter(stays),
      perplexity: perplexity.filter(stays),
      dead: dead.filter(stays),
    })),
  };
}

function checkRecord(value: unknown, stages: number): HistoryRecord {
  const { every, steps, stages: given } = (value ?? {}) as HistoryRecord;
  const points = checkNumbers("steps", steps, steps?.length);
  if (points.length >= mostPoints) throw invalidArgument("steps", `fewer than ${mostPoints}`, points.length);
  if (!Array.isArray(given) || given.length !== stages) throw invalidArgument("stages", `${stages} of them`, given);
  return {
    every: checkInteger("every", every, 1, Number.MAX_SAFE_INTEGER),
    steps: points,
    stages: given.map((stage: StageHistory | null) => ({
      mse: checkNumbers("mse", stage?.mse, points.length),
      perplexity: checkNumbers("perplexity", stage?.perplexity, points.length),
      dead: checkNumbers("dead", stage?.dead, points.length),
    })),
  };
}

function checkNumbers(name: string, value: unknown, length: number): number[] {
  if (Array.isArray(value) && value.length === length && value.every(Number.isFinite)) return value;
  throw invalidArgument(name, `${length} finite numbers`, value);
}

/** Enough digits for a chart. */
function rounded(value: number): number {
  return Number(value.toPrecision(6));
}
