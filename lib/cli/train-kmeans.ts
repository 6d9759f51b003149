// Training by k-means with progress: what `rvq train` and `rvq demo` do unless asked otherwise.

import type { AudioTraining } from "../audio/recipe.js";
import { ResidualQuantizer } from "../index.js";
import { openBackend } from "../open-backend.js";
import { type TrainOptions, trainCodebooks } from "../train.js";
import type { CommandContext } from "./context.js";
import { linesBelow, startProgress } from "./progress.js";
import { decibels, type StageState, stageLines } from "./stage-lines.js";

export interface KmeansRun {
  readonly dim: number;
  readonly training: AudioTraining;
  readonly metadata: Record<string, unknown>;
  /** Whether vectors[N][dim] stay what they are; otherwise they take no second copy, and hold residuals in the end. */
  readonly keepVectors: boolean;
}

export interface KmeansResult {
  readonly quantizer: ResidualQuantizer;
  /** Of the last iteration. */
  readonly snrDb: number;
  /** mse[stage][iteration] and perplexity[stage][iteration], by the assignment of the iteration. */
  readonly mse: readonly (readonly number[])[];
  readonly perplexity: readonly (readonly number[])[];
}

export async function trainByKmeans(
  { stderr, signal, backend }: CommandContext,
  vectors: Float32Array,
  { dim, training, metadata, keepVectors }: KmeansRun,
): Promise<KmeansResult> {
  const { stages, codebookSize: numCodewords } = training;
  const states = new Array<StageState>(stages).fill({ numCodewords });
  const mse = Array.from({ length: stages }, (): number[] => []);
  const perplexity = mse.map((): number[] => []);
  const progress = startProgress(stderr, "training", stages, stages);
  let snrDb = Number.NaN;
  try {
    const options: TrainOptions = {
      dim,
      ...training,
      signal,
      onProgress: (at) => {
        snrDb = at.snrDb;
        mse[at.stage].push(at.mse);
        perplexity[at.stage].push(at.perplexity);
        states[at.stage] = { mse: at.mse, snrDb, perplexity: at.perplexity, numCodewords };
        const reached = `${decibels(at.snrDb)} · perplexity ${at.perplexity.toFixed(1)}`;
        const note = `codebook ${at.stage + 1}/${at.stages} · ${reached}`;
        progress.update(at.stage + (at.iteration + 1) / at.iterations, note, stageLines(states, linesBelow(stderr)));
      },
    };
    // What `ResidualQuantizer.train` does, but for its copy of the vectors: they take most of the memory.
    const engine = openBackend(backend.backend, backend.threads, backend.device);
    const { codebooks } = await trainCodebooks(engine, vectors, options, keepVectors ? "copy" : "overwrite");
    const quantizer = ResidualQuantizer.fromCodebooks(codebooks, { dim, ...backend, metadata });
    progress.update(stages);
    return { quantizer, snrDb, mse, perplexity };
  } finally {
    progress.stop();
  }
}
