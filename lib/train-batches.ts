// Mini-batch k-means for data that does not fit in memory: trains residual codebooks from any iterable of batches.
//
// A first pass over the data draws a uniform sample, on which each stage's codebook is trained as in train.ts. Further
// passes show it all data: every mini-batch is assigned, and each codeword moves towards the mean of its n new vectors by
// n / (all that it has seen), counted from those of the sample (Sculley, 2010, with a batch in place of a vector).
// Mini-batches have `batchSize` rows however the source cuts its batches, and all sums are exact: the bytes depend on the
// order of the rows, the seed and the options alone.

import type { Backend, CodebookSpec, Metric, PreparedCodebooks } from "./backend.js";
import { firstBadInput } from "./bad-input.js";
import { badInput, checkInteger, checkIterable, checkRequiredOptions, checkVectors, isZeroRow } from "./check.js";
import { newCodeArray } from "./code-array.js";
import { publishingProgress, traced, trainCalls } from "./diagnostics.js";
import { invalidArgument } from "./errors.js";
import { trainCodebook } from "./kmeans.js";
import { gridExponentsFor, keepNonZero } from "./kmeans-rows.js";
import { LearningRows } from "./learning-rows.js";
import { checkOptionNames } from "./option-names.js";
import { Random } from "./random.js";
import { refuseOverflow } from "./residual-rows.js";
import type { Seeding } from "./seed-codebook.js";
import { accumulate, emptyStatistics, type StageStatistics } from "./statistics.js";
import { nextSlice, sliceOver } from "./time-slice.js";
import { checkTrainOptions, type TrainOptions, trainNames } from "./train.js";

/** Starts a pass over the data: the same rows in the same order each time, in batches[…][dim] of any size. */
export type BatchSource = () => AsyncIterable<Float32Array> | Iterable<Float32Array>;

/** As for `train`; `iterations`, `init` and `minClusterSize` are those of the training on the sample of `sampleSize` vectors. */
export interface BatchTrainOptions
  extends Omit<TrainOptions, "init" | "onProgress" | "capacity" | "refinements" | "beam"> {
  readonly init?: Seeding;
  /** Rows of a mini-batch. Default 16,384. */
  readonly batchSize?: number;
  /** Passes over all data for each stage, after one that draws the sample. Default 1; none where the sample is all data. */
  readonly passes?: number;
  /** Called after every mini-batch. */
  readonly onProgress?: (progress: BatchTrainProgress) => void;
}

export interface BatchTrainProgress {
  /** The stage in training, from 0; −1 while the sample is drawn. */
  readonly stage: number;
  readonly stages: number;
  /** The pass at work, from 0. */
  readonly pass: number;
  readonly passes: number;
  /** Rows of this pass so far. */
  readonly rows: number;
  /** Mean squared error per element of this mini-batch after this stage, before the codebook moved; NaN in the first pass. */
  readonly mse: number;
}

/** @throws RvqError INVALID_ARGUMENT, NOT_FINITE, ZERO_VECTOR; the signal's reason when aborted; what the source throws */
export async function trainFromBatches(
  backend: Backend,
  source: unknown,
  options: BatchTrainOptions,
): Promise<CodebookSpec> {
  checkRequiredOptions("options", options);
  checkOptionNames(options, trainNames);
  const { onProgress, batchSize: givenBatchSize, passes: givenPasses, ...training } = options;
  const checked = checkTrainOptions({ ...training, onProgress: onProgress as never });
  const { dim, sizes } = checked;
  if (checked.capacities.some((capacity) => capacity < Infinity)) {
    throw invalidArgument("capacity", "none: vectors that come in batches cannot be balanced", checked.capacities);
  }
  const batchSize = checkInteger("batchSize", givenBatchSize ?? 16_384, 1, 2 ** 32);
  const passes = checkInteger("passes", givenPasses ?? 1, 0, 1_000_000);
  if (typeof source !== "function") throw invalidArgument("source", "a function that starts a pass", source);
  const shape = { dim, vectors: null, stages: sizes.length };
  const event = () => ({ method: "trainFromBatches", backend: backend.name, sync: false, ...shape }) as const;
  const plan = { ...checked, batchSize, passes, onProgress: publishingProgress(onProgress) };
  return traced(trainCalls, event, () => trainPasses(backend, source as BatchSource, plan));
}

interface PassPlan extends Omit<ReturnType<typeof checkTrainOptions>, "onProgress"> {
  readonly batchSize: number;
  readonly passes: number;
  readonly onProgress: (progress: BatchTrainProgress) => void;
}

async function trainPasses(backend: Backend, start: BatchSource, plan: PassPlan): Promise<CodebookSpec> {
  const { dim, sizes, metric, weights, seed, inits, minClusterSizes, sampleSize, signal } = plan;
  const { batchSize, passes, onProgress } = plan;
  const stages = sizes.length;
  const random = new Random(seed);
  const batches = () => miniBatches(start, dim, metric === "cosine", batchSize, signal);

  // The sample, and what is left of it from stage to stage.
  const sample = new RowSample(dim, sampleSize, random);
  for await (const batch of batches()) {
    sample.add(batch);
    onProgress({ stage: -1, stages, pass: 0, passes, rows: sample.seen, mse: Number.NaN });
  }
  if (sample.seen === 0) throw invalidArgument("source", "at least one vector", 0);
  const residuals = sample.rows();
  const learnsMore = passes > 0 && sample.seen * dim > residuals.length;
  const onDevice = metric === "l2" && !learnsMore && !inits.some((init) => init === "greedy-k-means++");
  const rows = new LearningRows(backend, residuals, dim, { runsAhead: onDevice, signal });
  const codebooks: Float32Array[] = [];
  try {
    for (const [stage, numCodewords] of sizes.entries()) {
      const learning = metric === "cosine" ? await rows.nonZero(stage) : rows;
      const { iterations, shrinkage } = plan;
      const kmeans = { dim, metric, weights, numCodewords, iterations, shrinkage, sampleSize, signal };
      const codebook = await trainCodebook(backend, learning, random, {
        ...kmeans,
        init: inits[stage],
        minClusterSize: minClusterSizes[stage],
        room: Infinity,
        onIteration: () => {},
      });
      const spec = { dim, metric, weights, codebooks: [codebook] };
      if (learnsMore) {
        const before = codebooks.length === 0 ? null : backend.prepare({ dim, metric, weights, codebooks });
        try {
          const learner = await MiniBatchLearner.start(backend, spec, await learning.host());
          for (let pass = 0; pass < passes; pass++) {
            let seen = 0;
            for await (const batch of batches()) {
              if (before !== null) await subtractAll(before, batch, dim, codebooks);
              const error = await learner.learn(withoutZeros(batch, dim, metric));
              seen += batch.length / dim;
              onProgress({ stage, stages, pass, passes, rows: seen, mse: error / batch.length });
            }
            if (seen !== sample.seen) throw invalidArgument("source", `${sample.seen} vectors in every pass`, seen);
          }
        } finally {
          before?.dispose();
        }
      }
      codebooks.push(codebook);
      if (stage + 1 < stages) await rows.subtract(spec);
    }
  } finally {
    rows.dispose();
  }
  return { dim, metric, weights, codebooks };
}

/** The rows of a pass in copies[batchSize][dim], the last one shorter. */
async function* miniBatches(
  start: BatchSource,
  dim: number,
  refuseZero: boolean,
  batchSize: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Float32Array, void, undefined> {
  const whole = batchSize * dim;
  let parts: Float32Array[] = [];
  let length = 0;
  let row = 0;
  const pass = start();
  checkIterable("what source() returns", pass);
  for await (const given of pass) {
    signal?.throwIfAborted();
    let rest = checkVectors("a batch of source", given, dim).slice();
    const bad = firstBadInput(rest, dim, refuseZero);
    if (bad !== null) throw badInput("source", bad, row, rest[bad.row * dim + bad.column]);
    row += rest.length / dim;
    while (length + rest.length >= whole) {
      const taken = rest.subarray(0, whole - length);
      rest = rest.subarray(taken.length);
      yield joined([...parts, taken], whole);
      parts = [];
      length = 0;
      if (sliceOver()) await nextSlice();
    }
    if (rest.length > 0) parts.push(rest);
    length += rest.length;
  }
  if (length > 0) yield joined(parts, length);
}

function joined(parts: readonly Float32Array[], length: number): Float32Array {
  const all = new Float32Array(length);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** A uniform sample of rows that come one after the other (Vitter's algorithm R). */
class RowSample {
  seen = 0;
  private readonly chosen: Float32Array[] = [];

  constructor(
    private readonly dim: number,
    private readonly size: number,
    private readonly random: Random,
  ) {}

  add(batch: Float32Array): void {
    for (let start = 0; start < batch.length; start += this.dim) {
      const place = this.seen < this.size ? this.seen : this.random.below(this.seen + 1);
      this.seen++;
      if (place < this.size) this.chosen[place] = batch.slice(start, start + this.dim);
    }
  }

  rows(): Float32Array {
    return joined(this.chosen, this.chosen.length * this.dim);
  }
}

/** Moves a codebook batch by batch. */
class MiniBatchLearner {
  private constructor(
    private readonly backend: Backend,
    private readonly spec: CodebookSpec,
    /** seen[K]: vectors that each codeword is the mean of. */
    private readonly seen: Float64Array,
  ) {}

  /** A learner of the spec's codebook, which is the means of `rows`. */
  static async start(backend: Backend, spec: CodebookSpec, rows: Float32Array): Promise<MiniBatchLearner> {
    const seen = new Float64Array(spec.codebooks[0].length / spec.dim);
    const learner = new MiniBatchLearner(backend, spec, seen);
    seen.set((await learner.assign(rows)).statistics.counts);
    return learner;
  }

  /** Moves the codebook; returns the squared error of the vectors before. */
  async learn(vectors: Float32Array): Promise<number> {
    if (vectors.length === 0) return 0;
    const { dim, metric, codebooks } = this.spec;
    const { seen } = this;
    const codebook = codebooks[0];
    const { statistics, error } = await this.assign(vectors);
    const { counts, sums, gridExponents } = statistics;
    const before = codebook.slice();
    for (let k = 0; k < counts.length; k++) {
      if (counts[k] === 0) continue;
      seen[k] += counts[k];
      const share = counts[k] / seen[k];
      for (let i = 0; i < dim; i++) {
        const mean = (sums[k * dim + i] * 2 ** gridExponents[i]) / counts[k];
        codebook[k * dim + i] += (mean - codebook[k * dim + i]) * share;
      }
    }
    if (metric === "cosine") keepNonZero(codebook, before, dim);
    return error;
  }

  /** Exact counts and sums of the vectors by nearest codeword, and their squared error. */
  private async assign(vectors: Float32Array): Promise<{ statistics: StageStatistics; error: number }> {
    const { backend, spec } = this;
    const { dim } = spec;
    const count = vectors.length / dim;
    const numCodewords = this.seen.length;
    const codes = newCodeArray(count, [numCodewords]);
    const plainDistances = new Float64Array(count);
    const prepared = backend.prepare(spec);
    try {
      await prepared.assign({ vectors, count, codes, distances: new Float64Array(count), plainDistances });
    } finally {
      prepared.dispose();
    }
    const statistics = emptyStatistics(numCodewords, await gridExponentsFor(vectors, dim));
    await accumulate(backend, statistics, vectors, codes);
    return { statistics, error: plainDistances.reduce((sum, distance) => sum + distance, 0) };
  }
}

/** vectors[…][dim] less their codewords of all stages. */
async function subtractAll(
  prepared: PreparedCodebooks,
  vectors: Float32Array,
  dim: number,
  codebooks: readonly Float32Array[],
): Promise<void> {
  const count = vectors.length / dim;
  const stages = codebooks.length;
  const sizes = codebooks.map((codebook) => codebook.length / dim);
  const codes = newCodeArray(count * stages, sizes);
  await prepared.encode({ vectors, count, stages, codes, residuals: vectors });
  await refuseOverflow(vectors);
}

/** A residual that is zero has no direction to learn from. */
function withoutZeros(vectors: Float32Array, dim: number, metric: Metric): Float32Array {
  if (metric !== "cosine") return vectors;
  const kept: Float32Array[] = [];
  for (let start = 0; start < vectors.length; start += dim) {
    if (!isZeroRow(vectors, start, dim)) kept.push(vectors.subarray(start, start + dim));
  }
  return joined(kept, kept.length * dim);
}
