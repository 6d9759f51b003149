// `rvq train --learn ema`: k-means on the first batches, then steps of moving averages, with checkpoints to go on from.

import { CodebookTrainer, RvqError } from "../index.js";
import { type CommandContext, printLine } from "./context.js";
import { linesBelow, startProgress } from "./progress.js";
import { decibels, type StageState, stageLines, summary } from "./stage-lines.js";
import { TrainingBatches } from "./training-batches.js";
import { type ReadCheckpoint, type TrainingCheckpoint, vectorsHash, writeCheckpoint } from "./training-checkpoint.js";
import { TrainingHistory } from "./training-history.js";
import type { EmaPlan, TrainingPlan } from "./training-plan.js";

export interface EmaRun {
  readonly plan: TrainingPlan & { readonly ema: EmaPlan };
  readonly metadata: Record<string, unknown>;
  /** Where to go on from. */
  readonly resumed: ReadCheckpoint | null;
  readonly checkpoint: { readonly path: string; readonly every: number; readonly resumeCommand: string } | null;
}

/** k-means starts from batches of so many vectors in all, and of at least so many a codeword. */
const startVectors = 65_536;
const startVectorsPerCodeword = 64;

/**
 * Trains on vectors[N][dim] to the end of the plan. When aborted it writes a checkpoint, says how to go on, and throws the signal's
 * reason.
 * @throws RvqError INVALID_ARGUMENT for other vectors than those of the checkpoint; NOT_FINITE, IO
 */
export async function trainByAverages(
  context: CommandContext,
  vectors: Float32Array,
  dim: number,
  run: EmaRun,
): Promise<TrainingCheckpoint> {
  const { plan, resumed, checkpoint } = run;
  const { signal, stderr } = context;
  const vectorsSha256 = await vectorsHash(vectors, dim, signal);
  if (resumed !== null && resumed.vectorsSha256 !== vectorsSha256) {
    const message = `expected the training data of the checkpoint (SHA-256 ${resumed.vectorsSha256.slice(0, 16)})`;
    throw new RvqError("INVALID_ARGUMENT", `${message}, got other data (${vectorsSha256.slice(0, 16)})`);
  }
  const batches = new TrainingBatches(vectors, { dim, batch: plan.ema.batch, seed: plan.training.seed });
  const trainer = resumed?.trainer ?? (await start(context, batches, dim, run));
  const training = { trainer, history: resumed?.history ?? TrainingHistory.empty(trainer.stages), vectorsSha256 };
  // The first one before hours of work: a path that cannot be written should not cost them.
  if (checkpoint !== null) await writeCheckpoint(checkpoint.path, training);
  try {
    await trainSteps(context, batches, training, run);
  } catch (error) {
    if (signal.aborted) await sayHowToGoOn(stderr, training, run, batches);
    throw error;
  }
  return training;
}

async function start(
  { stderr, signal, backend }: CommandContext,
  batches: TrainingBatches,
  dim: number,
  { plan, metadata }: EmaRun,
): Promise<CodebookTrainer> {
  const { training, ema } = plan;
  const wanted = Math.max(startVectors, startVectorsPerCodeword * training.codebookSize);
  const first: Float32Array[] = [];
  for (let step = 0, rows = 0; step < batches.perEpoch && rows < wanted; step++) {
    first.push(batches.at(step));
    rows += first[step].length / dim;
  }
  const progress = startProgress(stderr, "k-means", training.stages);
  try {
    return await CodebookTrainer.start(first, {
      dim,
      ...training,
      decay: ema.decay,
      metadata,
      signal,
      ...backend,
      onProgress: ({ stage, stages, iteration, iterations, snrDb }) => {
        const note = `codebook ${stage + 1}/${stages} · ${decibels(snrDb)}`;
        progress.update(stage + (iteration + 1) / iterations, note);
      },
    });
  } finally {
    progress.stop();
  }
}

async function trainSteps(
  { stderr, signal }: CommandContext,
  batches: TrainingBatches,
  training: TrainingCheckpoint,
  { plan, checkpoint }: EmaRun,
): Promise<void> {
  const { trainer, history } = training;
  const steps = totalSteps(batches, plan.ema);
  const progress = startProgress(stderr, "training", steps, trainer.stages);
  try {
    while (trainer.steps < steps) {
      const result = await trainer.step(batches.at(trainer.steps), { signal });
      history.add(result);
      const states: StageState[] = result.stages.map(({ mse, usage, dead }) => {
        return { mse, perplexity: usage.perplexity, dead, numCodewords: usage.counts.length };
      });
      const at = `step ${result.step}/${steps}`;
      // A terminal has room for the stages below the bar, and little beside it.
      const note = stderr.isTTY ? at : `${at} · ${summary(states)}`;
      progress.update(result.step, note, stageLines(states, linesBelow(stderr)));
      const due = checkpoint !== null && (result.step % checkpoint.every === 0 || result.step === steps);
      if (due) await writeCheckpoint(checkpoint.path, training);
    }
  } finally {
    progress.stop();
  }
}

async function sayHowToGoOn(
  stderr: CommandContext["stderr"],
  training: TrainingCheckpoint,
  { plan, checkpoint }: EmaRun,
  batches: TrainingBatches,
): Promise<void> {
  const done = `stopped after step ${training.trainer.steps} of ${totalSteps(batches, plan.ema)}`;
  if (checkpoint === null) {
    printLine(stderr, `${done}; nothing was kept: --checkpoint <file> would have.`);
    return;
  }
  try {
    await writeCheckpoint(checkpoint.path, training);
    printLine(stderr, `${done}; go on with: ${checkpoint.resumeCommand}`);
  } catch (error) {
    printLine(stderr, `${done}; ${(error as Error).message}`);
  }
}

function totalSteps(batches: TrainingBatches, { epochs }: EmaPlan): number {
  return epochs * batches.perEpoch;
}
