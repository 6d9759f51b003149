// How the stages stand in training, as lines for the terminal: live below the bar, in a word for a log, and as a table in the end.

import { textTable } from "./table.js";

/** One stage; what is not known (yet) is undefined. */
export interface StageState {
  /** Mean squared error per element after the stage. */
  readonly mse?: number;
  readonly snrDb?: number;
  readonly perplexity?: number;
  readonly dead?: number;
  readonly numCodewords: number;
}

/** One line a stage, in at most `most` lines: the last one then sums up the stages that have none. */
export function stageLines(stages: readonly StageState[], most: number): string[] {
  const width = String(stages.length).length;
  const line = (stage: StageState, i: number) => `  codebook ${String(i + 1).padStart(width)}  ${stageText(stage)}`;
  if (stages.length <= most) return stages.map(line);
  const rest = stages.slice(most - 1);
  return [...stages.slice(0, most - 1).map(line), `  codebooks ${most} to ${stages.length}: ${summary(rest)}`];
}

/** All stages in a few words. */
export function summary(stages: readonly StageState[]): string {
  const perplexities = stages.flatMap(({ perplexity }) => perplexity ?? []);
  const dead = stages.flatMap((stage) => stage.dead ?? []);
  const mse = stages.findLast((stage) => stage.mse !== undefined)?.mse;
  const parts: string[] = [];
  if (mse !== undefined) parts.push(`mse ${shown(mse)}`);
  if (perplexities.length > 0) {
    parts.push(`perplexity ${Math.min(...perplexities).toFixed(1)} to ${Math.max(...perplexities).toFixed(1)}`);
  }
  if (dead.length > 0) parts.push(`${dead.reduce((sum, number) => sum + number, 0)} dead`);
  return parts.length === 0 ? "waiting" : parts.join(" · ");
}

export interface MeasuredStage {
  readonly mse: number;
  readonly snrDb: number;
  readonly perplexity: number;
  /** counts[K] */
  readonly counts: Float64Array;
}

export function stageTable(stages: readonly MeasuredStage[]): string {
  const rows = stages.map(({ mse, snrDb, perplexity, counts }, stage) => {
    const used = counts.reduce((sum, count) => sum + Number(count > 0), 0);
    return [String(stage + 1), shown(mse), shownDb(snrDb), perplexity.toFixed(1), `${used} of ${counts.length}`];
  });
  const heading = ["codebook", "mse", "SNR dB", "perplexity", "in use"];
  return textTable([heading, ...rows], new Set([0, 1, 2, 3, 4]));
}

/** A signal-to-noise ratio; where there is no signal, or no noise, a dash. */
export function decibels(snrDb: number): string {
  return `${shownDb(snrDb)} dB`;
}

function shownDb(snrDb: number): string {
  return Number.isFinite(snrDb) ? snrDb.toFixed(2) : "–";
}

function stageText({ mse, snrDb, perplexity, dead, numCodewords }: StageState): string {
  if (mse === undefined) return "waiting";
  const parts = [`mse ${shown(mse)}`];
  if (snrDb !== undefined) parts.push(decibels(snrDb));
  if (perplexity !== undefined) parts.push(`perplexity ${perplexity.toFixed(1).padStart(7)} of ${numCodewords}`);
  if (dead !== undefined) parts.push(`${dead} dead`);
  return parts.join("  ");
}

function shown(mse: number): string {
  return mse.toExponential(3);
}
