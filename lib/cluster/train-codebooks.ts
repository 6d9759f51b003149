// Trains residual codebooks by map and reduce: the algorithm of lib/train.ts, its passes over the rows done by jobs.
//
// Each iteration of a stage publishes a codebook, has one job a shard assign its rows and sum them up exactly, merges the statistics and
// moves the codewords. What a finished stage leaves of the rows is written once, as raw float32 files, and is the next one's corpus.
// The bytes are those of `ResidualQuantizer.train` on all rows at once.

import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { Backend } from "../backend.js";
import { checkFunction, checkInteger, checkMetadata, checkRequiredOptions } from "../check.js";
import { invalidArgument, RvqError } from "../errors.js";
import { smallestCluster } from "../kmeans.js";
import { mergeRanges, Statistics } from "../mergeable-statistics.js";
import { openBackend } from "../open-backend.js";
import { checkOptionNames } from "../option-names.js";
import { blockSize } from "../proportional-draw.js";
import type { BackendChoiceOptions } from "../quantizer-options.js";
import { Random } from "../random.js";
import { ResidualQuantizer } from "../residual-quantizer.js";
import { seedCodebook } from "../seed-codebook.js";
import type { VectorRange } from "../stage-sums.js";
import { meanSteps } from "../statistics.js";
import { runInSlices } from "../time-slice.js";
import { checkTrainOptions, type TrainOptions, trainNames } from "../train.js";
import { Corpus } from "./corpus.js";
import { digestOf } from "./encode-corpus.js";
import { checkFileName, type SharedFolders } from "./folders.js";
import type { ClusterJob, JobOutcome, ModelFile } from "./job.js";
import type { JobRunner } from "./job-runner.js";
import { reseedFromBlocks } from "./reseed-blocks.js";
import { type CurrentStage, loadState, saveState } from "./training-state.js";

/** As for `train`, with metric "l2" and without refinements. */
export interface ClusterTrainOptions
  extends Omit<TrainOptions, "metric" | "refinements" | "beam" | "backend" | "threads" | "onProgress"> {
  /** The folder, below the outputs, for what the run needs: a new one, or that of an earlier run of the same, which goes on. */
  readonly work: string;
  /** Rows of a job, a multiple of 1024. Default 65,536. */
  readonly rowsPerShard?: number;
  /** Called after every iteration. */
  readonly onProgress?: (progress: ClusterTrainProgress) => void;
}

export interface ClusterTrainProgress {
  /** The stage in training, from 0. */
  readonly stage: number;
  readonly stages: number;
  /** The iteration just done, from 0. */
  readonly iteration: number;
  readonly iterations: number;
  /** Mean squared error per element after this stage, by the assignment just made. */
  readonly mse: number;
}

/** The rows that a stage quantizes. */
interface StageRows {
  readonly corpus: Corpus;
  readonly range: VectorRange;
}

/** @throws RvqError INVALID_ARGUMENT, NOT_FINITE, IO and what jobs fail with; the signal's reason when aborted */
export async function trainOnCluster(
  folders: SharedFolders,
  runner: JobRunner,
  choice: BackendChoiceOptions,
  inputs: unknown,
  options: ClusterTrainOptions,
): Promise<ResidualQuantizer> {
  const checked = checkClusterTrain(options);
  const corpus = await Corpus.open(folders, inputs, checked.training.dim);
  const training = new ClusterTraining(folders, runner, choice, corpus, checked);
  return training.run();
}

function checkClusterTrain(options: ClusterTrainOptions) {
  checkRequiredOptions("options", options);
  const { work, rowsPerShard = 65_536, onProgress, metadata, ...rest } = options;
  checkFunction("onProgress", onProgress);
  checkOptionNames(rest, trainNames);
  const training = checkTrainOptions({ ...rest, onProgress: undefined });
  const remedy = "training on a cluster is stage by stage, with metric l2; refine or train with cosine in one process";
  if (training.metric !== "l2") throw invalidArgument("metric", `"l2" (${remedy})`, training.metric);
  if (training.refinements !== 0) throw invalidArgument("refinements", `0 (${remedy})`, training.refinements);
  if (training.beam !== 1) throw invalidArgument("beam", `1 (${remedy})`, training.beam);
  // Draws go by blocks of rows, which no two shards may share.
  checkInteger("rowsPerShard", rowsPerShard, blockSize, 2 ** 28);
  if (rowsPerShard % blockSize !== 0) throw invalidArgument("rowsPerShard", `a multiple of ${blockSize}`, rowsPerShard);
  return { work: checkFileName("work", work), rowsPerShard, onProgress, metadata: checkMetadata(metadata), training };
}

class ClusterTraining {
  private readonly engine: Backend;
  private readonly recipe: string;
  private readonly stateFile: string;

  constructor(
    private readonly folders: SharedFolders,
    private readonly runner: JobRunner,
    private readonly choice: BackendChoiceOptions,
    private readonly corpus: Corpus,
    private readonly options: ReturnType<typeof checkClusterTrain>,
  ) {
    this.engine = openBackend(choice.backend, choice.threads);
    const { training, rowsPerShard, work } = options;
    const { weights, inits, signal, onProgress, ...plain } = training;
    const given = inits.map((init) => (typeof init === "string" ? init : digestOf([...init])));
    const files = corpus.files;
    this.recipe = digestOf({ ...plain, weights: weights && [...weights], inits: given, rowsPerShard, files });
    this.stateFile = `${work}/state.rvqm`;
  }

  async run(): Promise<ResidualQuantizer> {
    const { folders, recipe, stateFile, choice } = this;
    const { training, metadata, work } = this.options;
    const { dim, sizes, seed, weights } = training;
    const state = await loadState(folders, stateFile, recipe);
    const random = state === null ? new Random(seed) : Random.fromState(state.random);
    const finished = [...(state?.finished ?? [])];
    let current = state?.current ?? null;
    let rows: StageRows | null = null;
    while (finished.length < sizes.length) {
      const stage = finished.length;
      const before = rows;
      rows = await this.rowsOfStage(stage, finished, before);
      if (before !== null) await folders.remove(`${work}/stage-${stage - 1}`);
      const save = (progress: CurrentStage | null) =>
        saveState(folders, stateFile, { recipe, finished, current: progress, random: random.toState() }, dim);
      finished.push(await this.trainStage(stage, rows, random, current, save));
      current = null;
      await save(null);
    }
    for (let stage = 0; stage < sizes.length; stage++) await folders.remove(`${work}/stage-${stage}`);
    await folders.removeUnfinished(work);
    return ResidualQuantizer.fromCodebooks(finished, { dim, weights: weights ?? undefined, metadata, ...choice });
  }

  /** One codebook, from its seeds or from where an earlier run stopped. */
  private async trainStage(
    stage: number,
    rows: StageRows,
    random: Random,
    from: CurrentStage | null,
    save: (progress: CurrentStage) => Promise<void>,
  ): Promise<Float32Array> {
    const { folders, engine } = this;
    const { training, onProgress, work } = this.options;
    const { sizes, iterations, shrinkage, minClusterSizes, weights, dim } = training;
    const { corpus } = rows;
    const numCodewords = sizes[stage];
    let current: CurrentStage;
    if (from !== null) {
      current = from;
    } else {
      current = { codebook: await this.seeds(stage, corpus, random), iteration: 0, reseeded: 0, codes: null };
      await save(current);
    }
    while (current.iteration < iterations) {
      const { iteration, codebook } = current;
      const folder = `${work}/stage-${stage}/iteration-${iteration}`;
      const quantizer = ResidualQuantizer.fromCodebooks([codebook], this.modelOptions(weights));
      const { statistics, codes, squaredError, blockSums } = await this.iterate(folder, stage, quantizer, rows);
      onProgress?.({
        stage,
        stages: sizes.length,
        iteration,
        iterations,
        mse: squaredError / (corpus.rows * dim),
      });
      if (iteration > 0 && current.reseeded === 0 && codes === current.codes) break;

      const sums = statistics.stageSums[0].statistics;
      const next = codebook.slice();
      await runInSlices(meanSteps(sums, next, shrinkage));
      const smallest = smallestCluster(iteration, iterations, minClusterSizes[stage], corpus.rows / numCodewords);
      const counts = sums.counts.subarray(0, numCodewords);
      const reseeding = { engine, folders, corpus, quantizer, counts, blockSums, smallest };
      const reseeded = await reseedFromBlocks(reseeding, next, random);
      quantizer.dispose();
      current = { codebook: next, iteration: iteration + 1, reseeded, codes };
      await save(current);
      await folders.remove(folder);
    }
    return current.codebook;
  }

  private seeds(stage: number, corpus: Corpus, random: Random): Promise<Float32Array> | Float32Array {
    const { dim, sizes, metric, weights, inits, sampleSize, signal } = this.options.training;
    const seeding = inits[stage];
    if (typeof seeding !== "string") return seeding.slice();
    const source = { count: corpus.rows, gather: (rows: Uint32Array | null) => corpus.gather(this.folders, rows) };
    const options = { dim, metric, weights, numCodewords: sizes[stage], seeding, sampleSize, signal };
    return seedCodebook(this.engine, source, random, options);
  }

  /** Publishes the codebook, has every shard summed up, and merges. */
  private async iterate(folder: string, stage: number, quantizer: ResidualQuantizer, { corpus, range }: StageRows) {
    const model = await this.publish(quantizer, folder);
    const outcomes = await this.runShards(corpus, (input, shard) => ({
      kind: "statistics",
      identity: digestOf({ kind: "statistics", recipe: this.recipe, stage, model: model.id, range, shard }),
      output: `${folder}/shard-${String(shard).padStart(6, "0")}.rvqs`,
      input,
      model,
      range,
    }));
    let statistics: Statistics | null = null;
    for (const { output, outcome } of outcomes) {
      const part = Statistics.fromBytes(await this.readOutput(output, outcome));
      if (statistics === null) statistics = part;
      else statistics.merge(part);
    }
    if (statistics === null || statistics.quantizerId !== quantizer.id || statistics.rows !== corpus.rows) {
      throw new RvqError("INVALID_STATISTICS", `${folder}: expected statistics of all ${corpus.rows} rows, got others`);
    }
    const facts = outcomes.map(({ outcome }) => outcome.facts);
    return {
      statistics,
      codes: digestOf(facts.map(({ codes }) => codes)),
      squaredError: facts.reduce((sum, { squaredError = 0 }) => sum + squaredError, 0),
      blockSums: Float64Array.from(facts.flatMap(({ blockSums = [] }) => blockSums)),
    };
  }

  /** The inputs, or what the finished stages leave of them; `before` is what the last one quantized, where it is at hand. */
  private async rowsOfStage(
    stage: number,
    finished: readonly Float32Array[],
    before: StageRows | null,
  ): Promise<StageRows> {
    const { recipe, corpus } = this;
    const { training, work } = this.options;
    if (stage === 0) {
      const outcomes = await this.runShards(corpus, (input, shard) => ({
        kind: "range",
        identity: digestOf({ kind: "range", recipe, shard }),
        output: `${work}/stage-0/range/shard-${String(shard).padStart(6, "0")}.json`,
        input,
      }));
      return { corpus, range: rangeOf(outcomes) };
    }
    const folder = `${work}/stage-${stage}/residuals`;
    const last = before === null ? finished : finished.slice(-1);
    const quantizer = ResidualQuantizer.fromCodebooks(last, this.modelOptions(training.weights));
    const model = await this.publish(quantizer, folder);
    quantizer.dispose();
    const whole = createHash("sha256");
    for (const codebook of finished) whole.update(digestOf([...codebook]));
    const codebooks = whole.digest("hex");
    const outcomes = await this.runShards(before?.corpus ?? corpus, (input, shard) => ({
      kind: "residual",
      identity: digestOf({ kind: "residual", recipe, codebooks, shard }),
      output: `${folder}/shard-${String(shard).padStart(6, "0")}.f32`,
      input,
      model,
    }));
    const files = outcomes.map(({ output, outcome, rows }) => ({ file: output, rows, version: outcome.sha256 }));
    return { corpus: new Corpus("outputs", corpus.dim, files), range: rangeOf(outcomes) };
  }

  private async runShards(corpus: Corpus, jobOf: (input: ClusterJob["input"], shard: number) => ClusterJob) {
    const shards = corpus.cut(this.options.rowsPerShard);
    const jobs = shards.map(({ firstRow, rows }, shard) => jobOf(corpus.slice(firstRow, rows), shard));
    const outcomes = await this.runner.run(jobs, { signal: this.options.training.signal });
    return jobs.map(({ output }, shard) => ({ output, outcome: outcomes[shard], rows: shards[shard].rows }));
  }

  private async publish(quantizer: ResidualQuantizer, folder: string): Promise<ModelFile> {
    const file = `${folder}/model.rvqm`;
    await quantizer.save(await this.folders.newOutput(file));
    return { file, id: quantizer.id };
  }

  private async readOutput(output: string, { sha256 }: JobOutcome): Promise<Uint8Array> {
    const path = await this.folders.outputPath(output);
    const bytes = await readFile(path).catch((cause: Error) => {
      throw new RvqError("IO", `cannot read ${output}: ${cause.message}`, { cause });
    });
    if (createHash("sha256").update(bytes).digest("hex") === sha256) return bytes;
    throw new RvqError("INVALID_STATISTICS", `${output}: expected the bytes that the job wrote, got others`);
  }

  private modelOptions(weights: Float32Array | null) {
    return { dim: this.corpus.dim, weights: weights ?? undefined, ...this.choice };
  }
}

function rangeOf(outcomes: readonly { readonly outcome: JobOutcome; readonly rows: number }[]): VectorRange {
  return mergeRanges(
    outcomes.map(({ outcome, rows }) => ({ rows, magnitudes: outcome.facts.magnitudes ?? [], maxWeight: null })),
  );
}
