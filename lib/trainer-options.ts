// The options of CodebookTrainer, their defaults and checks.

import { checkInteger, checkNumber, checkRequiredOptions, checkSeed, checkSignal, checkWorkers } from "./check.js";
import type { DeadBelow } from "./dead-codewords.js";
import type { DeviceVectors } from "./device/device-arrays.js";
import { invalidArgument } from "./errors.js";
import type { AverageForm, Decay } from "./moving-average.js";
import { checkOptionNames, type OptionNames } from "./option-names.js";
import { type BackendChoiceOptions, type FromCodebooksOptions, fromCodebooksNames } from "./quantizer-options.js";
import type { RowOptions } from "./row-options.js";
import type { TrainOptions, TrainProgress } from "./train.js";

/** How a trainer learns: what decides its bytes, apart from codebooks and batches. */
export interface LearningOptions {
  /**
   * How codewords follow the rows that they serve, by default "encodec": averages of sums and of counts, with Laplace smoothing.
   * "simple": c ← γ·c + (1−γ)·(mean of the batch's rows).
   */
  readonly average?: AverageForm;
  /** γ in [0, 1], or a straight line { from, to, steps } and then `to`. Default 0.99. */
  readonly decay?: Decay;
  /** ε > 0 of the Laplace smoothing. Default 1e-5. */
  readonly epsilon?: number;
  /** When a codeword is dead, by its averaged usage: under { count } rows per step, or under { ratio } of the mean. Default { ratio: 0.03 }. */
  readonly deadBelow?: DeadBelow;
  /** Whether dead codewords start again from rows of the batch. Default true. */
  readonly reseed?: boolean;
  /** β ≥ 0 of the commitment loss. Default 0.25. */
  readonly beta?: number;
  /** Quantize dropout: a row counts, with this probability, in a random number of first stages, from `minStages` (default 1) to all. */
  readonly dropout?: { readonly probability: number; readonly minStages?: number };
  /** Seed of every random choice: the same options, batches and seed give the same bytes on every backend. Default 0. */
  readonly seed?: number;
}

export interface TrainerGroupOptions {
  /**
   * The product form: how many groups of as many dimensions each, or the dimensions of each group, which are neighbours. Sizes, stages
   * and all else are those of each group. Default: no groups.
   */
  readonly groups?: number | readonly number[];
}

export interface StartTrainerOptions
  extends LearningOptions,
    TrainerGroupOptions,
    BackendChoiceOptions,
    Pick<
      TrainOptions,
      | "dim"
      | "codebookSize"
      | "stages"
      | "metric"
      | "weights"
      | "init"
      | "sampleSize"
      | "shrinkage"
      | "minClusterSize"
      | "workers"
      | "signal"
      | "metadata"
    > {
  /** Iterations of k-means a stage at most. Default 10. */
  readonly iterations?: number;
  /** Called after every iteration of k-means; with `groups` it tells which group, from 0, and errors are those of the group. */
  readonly onProgress?: (progress: StartProgress) => void;
}

export interface StartProgress extends TrainProgress {
  readonly group?: number;
  readonly groups?: number;
}

export interface TrainerFromCodebooksOptions extends LearningOptions, TrainerGroupOptions, FromCodebooksOptions {}

export const trainerFromCodebooksNames: OptionNames<TrainerFromCodebooksOptions> = {
  ...fromCodebooksNames,
  average: true,
  decay: true,
  epsilon: true,
  deadBelow: true,
  reseed: true,
  beta: true,
  dropout: true,
  seed: true,
  groups: true,
};

export const startTrainerNames: OptionNames<StartTrainerOptions> = {
  ...trainerFromCodebooksNames,
  codebookSize: true,
  stages: true,
  init: true,
  iterations: true,
  sampleSize: true,
  shrinkage: true,
  minClusterSize: true,
  workers: true,
  onProgress: true,
  signal: true,
};

export interface StepOptions extends RowOptions {
  /** Whether the result has the reconstruction of the batch. Default false. */
  readonly reconstruct?: boolean;
  /**
   * Worker threads that share the rows, each with a backend of its own and its part of the trainer's threads; they start with the first
   * step and end when idle. The bytes do not depend on it. Default 1: this thread, whose backend may use threads of its own.
   */
  readonly workers?: number;
  /** Aborts the step, which then has changed nothing. */
  readonly signal?: AbortSignal;
}

/** `LearningOptions` after checking, without the seed; JSON. */
export interface LearningRule {
  readonly average: AverageForm;
  readonly decay: Decay;
  readonly epsilon: number;
  readonly deadBelow: DeadBelow;
  readonly reseed: boolean;
  readonly beta: number;
  readonly dropout: { readonly probability: number; readonly minStages: number };
}

export function checkLearning(options: LearningOptions, stages: number): LearningRule {
  const average = options.average ?? "encodec";
  if (average !== "encodec" && average !== "simple") throw invalidArgument("average", '"encodec" or "simple"', average);
  const epsilon = checkNumber("epsilon", options.epsilon ?? 1e-5, Number.MIN_VALUE, "a finite number > 0");
  const reseed = checkBoolean("reseed", options.reseed ?? true);
  const beta = checkNumber("beta", options.beta ?? 0.25, 0, "a finite number ≥ 0");
  const { decay, deadBelow, dropout } = options;
  return {
    average,
    decay: checkDecay(decay ?? 0.99),
    epsilon,
    deadBelow: checkDeadBelow(deadBelow ?? { ratio: 0.03 }),
    reseed,
    beta,
    dropout: checkDropout(dropout ?? { probability: 0 }, stages),
  };
}

export function checkTrainerSeed(options: LearningOptions): number {
  return checkSeed(options.seed ?? 0);
}

export interface CheckedStep {
  readonly reconstruct: boolean;
  readonly workers: number;
  readonly signal: AbortSignal | undefined;
}

export function checkStep(options: StepOptions): CheckedStep {
  const reconstruct = checkBoolean("reconstruct", options.reconstruct ?? false);
  const signal = checkSignal("signal", options.signal);
  const workers = checkWorkers(options.workers);
  signal?.throwIfAborted();
  return { reconstruct, workers, signal };
}

/** A step on vectors of a device takes no options that need the rows on the host. */
export function checkDeviceBatch(
  batch: DeviceVectors,
  { mask, weights, workers }: StepOptions,
  dim: number,
  groups: readonly number[] | null,
): void {
  if (batch.dim !== dim) throw invalidArgument("batch.dim", `dim ${dim}`, batch.dim);
  const remedy = "with a batch on a device; download() gives one that is not";
  if (groups !== null) throw invalidArgument("groups", `none ${remedy}`, groups);
  if (mask !== undefined) throw invalidArgument("mask", `none ${remedy}`, mask);
  if (weights !== undefined) throw invalidArgument("weights", `none ${remedy}`, weights);
  if (workers !== undefined && workers !== 1) throw invalidArgument("workers", `1 ${remedy}`, workers);
}

function checkDecay(value: unknown): Decay {
  if (typeof value === "number") return checkFraction("decay", value);
  if (typeof value !== "object" || value === null) {
    throw invalidArgument("decay", "a number from 0 to 1 or { from, to, steps }", value);
  }
  const { from, to, steps } = value as Record<string, unknown>;
  return {
    from: checkFraction("decay.from", from),
    to: checkFraction("decay.to", to),
    steps: checkInteger("decay.steps", steps, 1, Number.MAX_SAFE_INTEGER),
  };
}

const deadBelowNames: OptionNames<DeadBelow> = { count: true, ratio: true };

function checkDeadBelow(value: unknown): DeadBelow {
  checkRequiredOptions("deadBelow", value);
  checkOptionNames(value as DeadBelow, deadBelowNames, "deadBelow");
  const { count = 0, ratio = 0 } = value as DeadBelow;
  return {
    count: checkNumber("deadBelow.count", count, 0, "a finite number ≥ 0"),
    ratio: checkFraction("deadBelow.ratio", ratio),
  };
}

function checkDropout(value: unknown, stages: number): LearningRule["dropout"] {
  checkRequiredOptions("dropout", value);
  const { probability, minStages } = value as NonNullable<LearningOptions["dropout"]>;
  return {
    probability: checkFraction("dropout.probability", probability),
    minStages: checkInteger("dropout.minStages", minStages ?? 1, 1, stages),
  };
}

function checkFraction(name: string, value: unknown): number {
  if (typeof value !== "number" || !(value >= 0 && value <= 1))
    throw invalidArgument(name, "a number from 0 to 1", value);
  return value;
}

function checkBoolean(name: string, value: unknown): boolean {
  if (typeof value !== "boolean") throw invalidArgument(name, "true or false", value);
  return value;
}
