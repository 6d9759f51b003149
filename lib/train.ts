// Trains residual codebooks: stage after stage, k-means on what the stages before left over.

import type { Backend, CodebookSpec, Metric } from "./backend.js";
import { firstBadInput } from "./bad-input.js";
import { roomOf } from "./balance.js";
import { balancedCodes, checkCapacity } from "./balanced-codes.js";
import {
  badInput,
  checkCodebooks,
  checkFunction,
  checkInteger,
  checkMetric,
  checkRequiredOptions,
  checkSeed,
  checkShrinkage,
  checkSignal,
  checkVectors,
  checkWeights,
  checkWorkers,
  limits,
  mapList,
} from "./check.js";
import { publishingProgress, traced, trainCalls } from "./diagnostics.js";
import { invalidArgument } from "./errors.js";
import { trainCodebook } from "./kmeans.js";
import { LearningRows } from "./learning-rows.js";
import type { BackendChoice } from "./open-backend.js";
import { checkBeam } from "./quantizer-options.js";
import { Random } from "./random.js";
import { type RefineProgress, refineCodebooks } from "./refine.js";
import { RowWorkers } from "./row-workers.js";
import { type Seeding, seedings } from "./seed-codebook.js";
import { checkLeftAlone } from "./staging.js";
import { inSlices } from "./time-slice.js";

export interface TrainOptions {
  /** D, the length of one vector. */
  readonly dim: number;
  /** K, the number of codewords of every stage, or one number a stage. Default 1024. */
  readonly codebookSize?: number | readonly number[];
  /** S, the number of stages. Default: 8, or as many as `codebookSize` lists. */
  readonly stages?: number;
  readonly metric?: Metric;
  /** weights[D] of the weighted l2 distance, finite and ≥ 0. */
  readonly weights?: Float32Array;
  /** Seed of every random choice: same data, options and seed give the same bytes on every backend. Default 0. */
  readonly seed?: number;
  /** Lloyd iterations a stage at most; a stage ends early when nothing changes. Default 20. */
  readonly iterations?: number;
  /**
   * How the first codewords are chosen, default "k-means++" ("greedy-k-means++" is better and takes 16 times as long); or the codewords to start from, one codebook [K][D] a stage (then the
   * default of `codebookSize` and `stages` is what they have): training goes on where an earlier one ended.
   */
  readonly init?: Seeding | readonly Float32Array[];
  /** k-means++ draws its codewords from a random sample of at most this many vectors. Default 65,536. */
  readonly sampleSize?: number;
  /**
   * λ ≥ 0: draws each codeword towards the mean of all vectors as if λ more of its vectors lay there, c = (Σx + λm)/(n + λ).
   * Helps codebooks to fit vectors they were not trained on. Default 0.
   */
  readonly shrinkage?: number;
  /**
   * Clusters with fewer vectors than this are re-seeded, all but the last sixth of the iterations long; at most half the mean
   * cluster size is asked for. One number or one a stage; 1 re-seeds only empty clusters. Default 2: a codeword that
   * serves a single vector of many is a codeword lost.
   */
  readonly minClusterSize?: number | readonly number[];
  /**
   * Balanced k-means: at most ceil(capacity · N/K) vectors a cluster, of each stage those that lose least by it moving to the next best
   * cluster with room (docs/training.md). One number ≥ 1 or one a stage; default Infinity, no limit. Each stage then learns from what
   * the balanced codes of the ones before leave over: those that `encodeBalanced` gives. Only with metric "l2", without refinements.
   */
  readonly capacity?: number | readonly number[];
  /**
   * How often all stages, once each has been trained, are refined together (`ResidualQuantizer.refine`, with this `shrinkage` and
   * `beam`). Default 0; with a beam of 2 and more 6.
   */
  readonly refinements?: number;
  /** The beam that the vectors are encoded with in refinements: that of later `encode` calls. Default 1. */
  readonly beam?: number;
  readonly backend?: BackendChoice;
  readonly threads?: number;
  readonly device?: number;
  /**
   * Worker threads that share the vectors in k-means, each with a backend of its own and its part of `threads`; they take a second copy
   * of the vectors. The bytes do not depend on it. Default 1: this thread, whose backend may use threads of its own.
   */
  readonly workers?: number;
  /** Called after every iteration. */
  readonly onProgress?: (progress: TrainProgress) => void;
  readonly signal?: AbortSignal;
  /** A JSON object that is stored with the model. */
  readonly metadata?: Record<string, unknown>;
}

export interface TrainProgress {
  /** The stage in training, from 0; `stages` while all of them are refined. */
  readonly stage: number;
  readonly stages: number;
  /** The iteration just done, from 0; a stage may end before `iterations` of them. */
  readonly iteration: number;
  readonly iterations: number;
  /** Mean squared error per element over the training vectors after this stage, by the assignment just made. */
  readonly mse: number;
  /** 10·log10 of the vectors' energy over the error's. */
  readonly snrDb: number;
  /** Perplexity of the assignment just made, 1 … K; NaN while all stages are refined. */
  readonly perplexity: number;
}

/**
 * Codebooks for vectors[N][D]; the caller leaves them alone until the first progress report. With "overwrite" they are not copied,
 * and may hold residuals in the end: the caller leaves them alone for good, or native threads may read memory that is gone.
 * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, ZERO_VECTOR; the signal's reason when aborted
 */
export async function trainCodebooks(
  backend: Backend,
  vectorsArgument: unknown,
  options: TrainOptions,
  ownership: "copy" | "overwrite" = "copy",
): Promise<CodebookSpec> {
  const checked = checkTrainOptions(options);
  const { dim, sizes } = checked;
  const given = checkVectors("vectors", vectorsArgument, dim);
  if (given.length === 0) throw invalidArgument("vectors", "at least one vector", given.length);
  const shape = { dim, vectors: given.length / dim, stages: sizes.length };
  const event = () => ({ method: "train", backend: backend.name, sync: false, ...shape }) as const;
  return traced(trainCalls, event, () =>
    trainStages(backend, given, { ...checked, threads: options.threads }, ownership),
  );
}

/** vectors[N][dim], N ≥ 1, of which the content is not checked yet. */
async function trainStages(
  backend: Backend,
  given: Float32Array,
  options: ReturnType<typeof checkTrainOptions> & { readonly threads: number | undefined },
  ownership: "copy" | "overwrite",
): Promise<CodebookSpec> {
  const {
    dim,
    sizes,
    metric,
    weights,
    seed,
    inits,
    minClusterSizes,
    capacities,
    refinements,
    beam,
    onProgress: told,
    numWorkers,
    ...kmeans
  } = options;
  const { signal } = kmeans;
  const onProgress = publishingProgress(told);
  const random = new Random(seed);
  const residuals = ownership === "copy" ? new Float32Array(given.length) : given;
  const energy = await copyChecked(given, residuals, dim, metric === "cosine");
  // By the end the vectors may be gone: the caller's, or overwritten by residuals.
  const vectors = refinements === 0 ? null : residuals.slice();
  const { sampleSize } = kmeans;
  const measuresAll = inits.some((init) => init === "greedy-k-means++") && residuals.length / dim <= sampleSize;
  const onDevice = metric === "l2" && numWorkers === 1 && capacities.every((capacity) => capacity === Infinity);
  const rows = new LearningRows(backend, residuals, dim, { runsAhead: onDevice && !measuresAll, signal });
  const workers = numWorkers === 1 ? undefined : new RowWorkers(numWorkers, backend.name, options.threads);
  const codebooks: Float32Array[] = [];
  try {
    for (const [stage, numCodewords] of sizes.entries()) {
      const learning = metric === "cosine" ? await rows.nonZero(stage) : rows;
      const room = roomOf(capacities[stage], learning.count, numCodewords);
      const codebook = await trainCodebook(backend, learning, random, {
        dim,
        metric,
        weights,
        numCodewords,
        ...kmeans,
        init: inits[stage],
        minClusterSize: minClusterSizes[stage],
        room,
        workers,
        onIteration({ iteration, mse, usage: { perplexity } }) {
          // Rows left out above have no error, so the mean is taken over all elements.
          const overall = mse * (learning.count / rows.count);
          const snrDb = 10 * Math.log10(energy / (overall * residuals.length));
          const { iterations } = kmeans;
          onProgress({ stage, stages: sizes.length, iteration, iterations, mse: overall, snrDb, perplexity });
        },
      });
      codebooks.push(codebook);
      if (stage + 1 === sizes.length) break;
      const spec = { dim, metric, weights, codebooks: [codebook] };
      if (capacities[stage] === Infinity) await rows.subtract(spec);
      else await rows.subtractCoded(codebook, await balancedCodes(backend, spec, await rows.host(), room, signal));
    }
  } finally {
    rows.dispose();
    workers?.end();
  }
  const spec = { dim, metric, weights, codebooks };
  if (vectors === null) return spec;
  const refinement = { iterations: refinements, beam, shrinkage: kmeans.shrinkage, signal };
  const report = (progress: RefineProgress) =>
    onProgress({ stage: sizes.length, stages: sizes.length, perplexity: Number.NaN, ...progress });
  return { ...spec, codebooks: await refineCodebooks(backend, spec, vectors, { ...refinement, onProgress: report }) };
}

/** residuals[N][D] = the vectors, checked; they may be the same memory. Returns their energy Σ x², in row order. */
async function copyChecked(
  given: Float32Array,
  residuals: Float32Array,
  dim: number,
  refuseZero: boolean,
): Promise<number> {
  let energy = 0;
  await inSlices(residuals.length, dim, (from, to) => {
    checkLeftAlone("vectors", given, to);
    const rows = given.subarray(from, to);
    const bad = firstBadInput(rows, dim, refuseZero);
    if (bad !== null) throw badInput("vectors", bad, from / dim, rows[bad.row * dim + bad.column]);
    if (residuals !== given) residuals.set(rows, from);
    let sum = energy;
    for (let i = from; i < to; i++) sum += residuals[i] * residuals[i];
    energy = sum;
  });
  return energy;
}

/** Of all ways to train: one object may hold the options of several, and what cannot be done is refused with the reason. */
export const trainNames: Readonly<Record<keyof TrainOptions | "batchSize" | "passes", true>> = {
  dim: true,
  codebookSize: true,
  stages: true,
  metric: true,
  weights: true,
  seed: true,
  iterations: true,
  init: true,
  sampleSize: true,
  shrinkage: true,
  minClusterSize: true,
  capacity: true,
  refinements: true,
  beam: true,
  backend: true,
  threads: true,
  device: true,
  workers: true,
  onProgress: true,
  signal: true,
  metadata: true,
  batchSize: true,
  passes: true,
};

export function checkTrainOptions(options: TrainOptions) {
  checkRequiredOptions("options", options);
  const dim = checkInteger("dim", options.dim, 1, limits.dim);
  const metric = checkMetric(options.metric ?? "l2");
  const inits = checkInit(options.init ?? "k-means++", dim, metric);
  const { onProgress } = options;
  const beam = checkBeam(options.beam ?? 1, metric);
  checkFunction("onProgress", onProgress);

  const given = typeof inits === "string" ? undefined : inits.map((codebook) => codebook.length / dim);
  const listed = Array.isArray(options.codebookSize) ? options.codebookSize.length : given?.length;
  const stages = checkInteger("stages", options.stages ?? listed ?? 8, 1, limits.stages);
  const largest = Math.min(limits.codebookSize, Math.floor(limits.codebookElements / dim));
  if (given !== undefined && given.length !== stages) {
    throw invalidArgument("init", `${stages} codebooks, as many as stages`, given.length);
  }
  const sizes = checkPerStage("codebookSize", options.codebookSize ?? given ?? 1024, stages, largest);
  if (given?.some((size, stage) => size !== sizes[stage])) {
    throw invalidArgument("init", `codebooks of ${sizes.join(", ")} codewords, as codebookSize says`, given);
  }
  const refinements = checkInteger("refinements", options.refinements ?? (beam > 1 ? 6 : 0), 0, 1_000_000);
  const capacities = checkCapacity(options.capacity ?? Infinity, stages, metric);
  if (refinements > 0 && capacities.some((capacity) => capacity < Infinity)) {
    throw invalidArgument("refinements", "0 with a capacity, which they would undo", refinements);
  }
  return {
    dim,
    sizes,
    capacities,
    minClusterSizes: checkPerStage("minClusterSize", options.minClusterSize ?? 2, stages, 2 ** 32),
    metric,
    weights: checkWeights(options.weights, dim, metric),
    seed: checkSeed(options.seed ?? 0),
    iterations: checkInteger("iterations", options.iterations ?? 20, 1, 1_000_000),
    inits: typeof inits === "string" ? new Array<typeof inits>(stages).fill(inits) : inits,
    numWorkers: checkWorkers(options.workers),
    sampleSize: checkInteger("sampleSize", options.sampleSize ?? 65_536, 1, 2 ** 32),
    refinements,
    beam,
    shrinkage: checkShrinkage(options.shrinkage),
    signal: checkSignal("signal", options.signal),
    onProgress,
  } as const;
}

function checkInit(init: unknown, dim: number, metric: Metric): Seeding | Float32Array[] {
  const seeding = seedings.find((name) => name === init);
  if (seeding !== undefined) return seeding;
  if (Array.isArray(init)) return checkCodebooks(init, dim, metric, "init");
  throw invalidArgument("init", '"k-means++", "greedy-k-means++", "random" or a list of codebooks', init);
}

/** One integer from 1 to max for every stage, from a single one or a list. */
function checkPerStage(name: string, value: unknown, stages: number, max: number): number[] {
  if (!Array.isArray(value)) return new Array<number>(stages).fill(checkInteger(name, value, 1, max));
  if (value.length !== stages) throw invalidArgument(name, `one number or ${stages}, as many as stages`, value);
  return mapList(value, (entry, stage) => checkInteger(`${name}[${stage}]`, entry, 1, max));
}
