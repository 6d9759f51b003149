// What a trainer starts from: codebooks by k-means on the first batches, or codebooks that are given.

import type { Backend } from "./backend.js";
import {
  checkCodebooks,
  checkInteger,
  checkMetadata,
  checkMetric,
  checkRequiredOptions,
  checkVectors,
  checkWeights,
  limits,
} from "./check.js";
import { type ColumnGroup, checkGroups, neighbouringColumns } from "./column-groups.js";
import { invalidArgument } from "./errors.js";
import { checkGroupedContent, columnsInSlices } from "./group-layout.js";
import { emptyState, type StageState, standFor } from "./moving-average.js";
import { openBackend } from "./open-backend.js";
import { checkOptionNames } from "./option-names.js";
import { Random } from "./random.js";
import { walkStages } from "./stage-walk.js";
import { inSlices, runInSlices } from "./time-slice.js";
import { type TrainOptions, trainCodebooks } from "./train.js";
import type { Checkpoint } from "./trainer-file.js";
import {
  checkLearning,
  checkTrainerSeed,
  type StartTrainerOptions,
  startTrainerNames,
  type TrainerFromCodebooksOptions,
  trainerFromCodebooksNames,
} from "./trainer-options.js";
import type { TrainerPart } from "./training-step.js";

export interface Start {
  readonly checkpoint: Checkpoint;
  readonly engine: Backend;
}

/** `CodebookTrainer.start`. */
export async function startByKmeans(firstBatches: unknown, options: StartTrainerOptions): Promise<Start> {
  checkRequiredOptions("options", options);
  checkOptionNames(options, startTrainerNames);
  const dim = checkInteger("dim", options.dim, 1, limits.dim);
  const groups = checkTrainerGroups(options.groups, dim);
  const metadata = checkMetadata(options.metadata);
  const seed = checkGroupSeed(options, groups);
  checkLearning(options, limits.stages);
  const batches: readonly unknown[] = Array.isArray(firstBatches) ? firstBatches : [firstBatches];
  const vectors = concatenate(batches, dim);
  const engine = openBackend(options.backend, options.threads, options.device);
  if (groups === null) {
    const parts = [await startPart(engine, vectors, batches.length, options, options, seed)];
    return { checkpoint: { groups, parts, metadata }, engine };
  }

  const metric = checkMetric(options.metric ?? "l2");
  const weights = checkWeights(options.weights, dim, metric);
  if (Array.isArray(options.init)) throw invalidArgument("init", "the name of a seeding with groups", options.init);
  const columns = neighbouringColumns(groups);
  await inSlices(vectors.length, dim, (from, to) =>
    checkGroupedContent("firstBatches", vectors.subarray(from, to), columns, metric, from / dim),
  );
  const { onProgress } = options;
  const parts: TrainerPart[] = [];
  for (const [group, { from, width }] of columns.entries()) {
    const training: TrainOptions = {
      ...options,
      dim: width,
      weights: weights?.slice(from, from + width),
      onProgress: (progress) => onProgress?.({ ...progress, group, groups: groups.length }),
    };
    const own = await columnsInSlices(vectors, dim, columns[group]);
    parts.push(await startPart(engine, own, batches.length, options, training, seed + group));
  }
  return { checkpoint: { groups, parts, metadata }, engine };
}

/** A trainer, or the part of a group, by k-means on the vectors of so many batches. */
async function startPart(
  engine: Backend,
  vectors: Float32Array,
  numBatches: number,
  options: StartTrainerOptions,
  training: TrainOptions,
  seed: number,
): Promise<TrainerPart> {
  const { dim } = training;
  const iterations = options.iterations ?? 10;
  const spec = await trainCodebooks(engine, vectors, { ...training, iterations, seed });
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
    const usage = counts.slice(0, -1).map((count) => Math.max(1, count) / numBatches);
    await runInSlices(standFor(state, usage, rule.average));
    stages.push(state);
  });
  const { metric, weights } = spec;
  return { model: { dim, metric, weights, rule }, state: { steps: 0, random: firstRandom(seed), stages } };
}

/** `CodebookTrainer.fromCodebooks`. */
export function startFromCodebooks(codebooksArgument: unknown, options: TrainerFromCodebooksOptions): Start {
  checkRequiredOptions("options", options);
  checkOptionNames(options, trainerFromCodebooksNames);
  const dim = checkInteger("dim", options.dim, 1, limits.dim);
  const groups = checkTrainerGroups(options.groups, dim);
  const metric = checkMetric(options.metric ?? "l2");
  const weights = checkWeights(options.weights, dim, metric);
  const columns = neighbouringColumns(groups ?? [dim]);
  const codebooks =
    groups === null ? [checkCodebooks(codebooksArgument, dim, metric)] : perGroup(codebooksArgument, columns, metric);
  const rule = checkLearning(options, codebooks[0].length);
  const metadata = checkMetadata(options.metadata);
  const seed = checkGroupSeed(options, groups);
  const parts = columns.map(({ from, width }, group): TrainerPart => {
    const own = weights?.slice(from, from + width) ?? null;
    const stages = codebooks[group].map((codebook) => ({ ...emptyState(codebook.length / width, width), codebook }));
    const state = { steps: 0, random: firstRandom(seed + group), stages };
    return { model: { dim: width, metric, weights: own, rule }, state };
  });
  return {
    checkpoint: { groups, parts, metadata },
    engine: openBackend(options.backend, options.threads, options.device),
  };
}

function perGroup(codebooks: unknown, columns: readonly ColumnGroup[], metric: "l2" | "cosine"): Float32Array[][] {
  if (!Array.isArray(codebooks) || codebooks.length !== columns.length) {
    throw invalidArgument("codebooks", `an array of ${columns.length}, one list of codebooks a group`, codebooks);
  }
  const checked = columns.map(({ width }, group) =>
    checkCodebooks(codebooks[group], width, metric, `codebooks[${group}]`),
  );
  const other = checked.findIndex((own) => own.length !== checked[0].length);
  if (other >= 0) {
    const expected = `${checked[0].length} stages, as in group 0`;
    throw invalidArgument(`codebooks[${other}]`, expected, checked[other].length);
  }
  return checked;
}

function checkTrainerGroups(value: unknown, dim: number): readonly number[] | null {
  return value === undefined ? null : checkGroups(value, dim);
}

/** The seed of the first group; those of the others follow it. */
function checkGroupSeed(options: { readonly seed?: number }, groups: readonly number[] | null): number {
  const seed = checkTrainerSeed(options);
  return groups === null ? seed : checkInteger("seed", seed, 0, Number.MAX_SAFE_INTEGER - limits.groups);
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
