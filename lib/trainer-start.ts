// What a trainer starts from: codebooks by k-means on the first batches, or codebooks that are given.

import type { Backend } from "./backend.js";
import {
  checkCodebooks,
  checkInteger,
  checkMetadata,
  checkMetric,
  checkOptions,
  checkVectors,
  checkWeights,
  limits,
} from "./check.js";
import { invalidArgument } from "./errors.js";
import { emptyState, type StageState, standFor } from "./moving-average.js";
import { openBackend } from "./open-backend.js";
import { Random } from "./random.js";
import { walkStages } from "./stage-walk.js";
import { runInSlices } from "./time-slice.js";
import { trainCodebooks } from "./train.js";
import type { Checkpoint } from "./trainer-file.js";
import {
  checkLearning,
  checkTrainerSeed,
  type StartTrainerOptions,
  type TrainerFromCodebooksOptions,
} from "./trainer-options.js";

export interface Start {
  readonly checkpoint: Checkpoint;
  readonly engine: Backend;
}

/** `CodebookTrainer.start`. */
export async function startByKmeans(firstBatches: unknown, options: StartTrainerOptions): Promise<Start> {
  checkOptions("options", options ?? null);
  const dim = checkInteger("dim", options.dim, 1, limits.dim);
  const metadata = checkMetadata(options.metadata);
  const random = firstRandom(checkTrainerSeed(options));
  checkLearning(options, limits.stages);
  const batches: readonly unknown[] = Array.isArray(firstBatches) ? firstBatches : [firstBatches];
  const vectors = concatenate(batches, dim);
  const engine = openBackend(options.backend, options.threads, options.device);
  const spec = await trainCodebooks(engine, vectors, { ...options, iterations: options.iterations ?? 10 });

  const rule = checkLearning(options, spec.codebooks.length);
  const stages: StageState[] = [];
  // Training has checked the vectors.
  const refuse = () => invalidArgument("firstBatches", "finite numbers", "others");
  const walk = { stagesOfRow: null, measure: false, signal: options.signal, refuse };
  await walkStages(engine, spec, vectors, walk, async ({ stage, counted }) => {
    const codebook = spec.codebooks[stage];
    const counts = new Float64Array(codebook.length / dim + 1);
    for (const code of counted) counts[code]++;
    const state = { ...emptyState(counts.length - 1, dim), codebook };
    // A codeword that serves no row stands for one: for none, the first row would carry it off.
    const usage = counts.slice(0, -1).map((count) => Math.max(1, count) / batches.length);
    await runInSlices(standFor(state, usage, rule.average));
    stages.push(state);
  });
  const { metric, weights } = spec;
  const checkpoint = { model: { dim, metric, weights, rule }, state: { steps: 0, random, stages }, metadata };
  return { checkpoint, engine };
}

/** `CodebookTrainer.fromCodebooks`. */
export function startFromCodebooks(codebooksArgument: unknown, options: TrainerFromCodebooksOptions): Start {
  checkOptions("options", options ?? null);
  const dim = checkInteger("dim", options.dim, 1, limits.dim);
  const metric = checkMetric(options.metric ?? "l2");
  const weights = checkWeights(options.weights, dim, metric);
  const codebooks = checkCodebooks(codebooksArgument, dim, metric);
  const rule = checkLearning(options, codebooks.length);
  const metadata = checkMetadata(options.metadata);
  const random = firstRandom(checkTrainerSeed(options));
  const stages = codebooks.map((codebook) => ({ ...emptyState(codebook.length / dim, dim), codebook }));
  const checkpoint = { model: { dim, metric, weights, rule }, state: { steps: 0, random, stages }, metadata };
  return { checkpoint, engine: openBackend(options.backend, options.threads, options.device) };
}

/** A stream apart from that of k-means with the same seed. */
function firstRandom(seed: number): number[] {
  return new Random(new Random(seed).below(2 ** 53)).toState();
}

/** One copy of all batches. */
function concatenate(batches: readonly unknown[], dim: number): Float32Array {
  const checked = Array.from(batches, (batch, i) => checkVectors(`firstBatches[${i}]`, batch, dim));
  const all = new Float32Array(checked.reduce((sum, batch) => sum + batch.length, 0));
  let next = 0;
  for (const batch of checked) {
    all.set(batch, next);
    next += batch.length;
  }
  return all;
}
