// CodebookTrainer: learns the codebooks of a plain or residual quantizer from a stream of batches by moving averages.

import { writeFileAtomic } from "./atomic-file.js";
import type { Backend, BackendName, Metric } from "./backend.js";
import { checkOptions, checkVectors } from "./check.js";
import { deadCodewords } from "./dead-codewords.js";
import { traced, trainCalls } from "./diagnostics.js";
import { invalidArgument } from "./errors.js";
import { Statistics } from "./mergeable-statistics.js";
import { emptyState, type StageState } from "./moving-average.js";
import { openBackend } from "./open-backend.js";
import type { BackendChoiceOptions } from "./quantizer-options.js";
import { ResidualQuantizer } from "./residual-quantizer.js";
import { checkRows } from "./row-options.js";
import { readSealedFile } from "./sealed-bytes.js";
import { stepByStatistics } from "./statistics-step.js";
import { type Checkpoint, checkpointFromBytes, checkpointToBytes } from "./trainer-file.js";
import {
  checkStep,
  type StartTrainerOptions,
  type StepOptions,
  type TrainerFromCodebooksOptions,
} from "./trainer-options.js";
import { startByKmeans, startFromCodebooks } from "./trainer-start.js";
import { computeStep, type StepResult, type TrainerModel, type TrainerState } from "./training-step.js";

export class CodebookTrainer {
  readonly dim: number;
  readonly metric: Metric;
  readonly stages: number;
  readonly codebookSizes: readonly number[];
  /** A frozen copy of the JSON object given at creation; in checkpoints, and in the quantizers that the trainer makes. */
  readonly metadata: Readonly<Record<string, unknown>>;

  private readonly model: TrainerModel;
  private readonly engine: Backend;
  private readonly backendOptions: BackendChoiceOptions;
  /** After the last step that is done; replaced as a whole. */
  private state: TrainerState;
  /** Memory for the state after the next step. */
  private spare: readonly StageState[];
  /** Settles when the last call in line is done. */
  private lastInLine: Promise<unknown> = Promise.resolve();

  private constructor({ model, state, metadata }: Checkpoint, engine: Backend, backendOptions: BackendChoiceOptions) {
    this.dim = model.dim;
    this.metric = model.metric;
    this.stages = state.stages.length;
    this.codebookSizes = state.stages.map(({ usage }) => usage.length);
    this.metadata = metadata;
    this.model = model;
    this.engine = engine;
    const { backend, threads } = backendOptions;
    this.backendOptions = { backend, threads };
    this.state = state;
    this.spare = state.stages.map(({ usage }) => emptyState(usage.length, model.dim));
  }

  /**
   * A trainer whose codebooks come from the first batches by k-means, stage after stage on what the stages before left over. Each
   * codeword stands for as many rows as it serves in a batch of them on average.
   * @param firstBatches vectors[N][dim], or several such arrays, one a batch
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, ZERO_VECTOR, BACKEND_UNAVAILABLE; the signal's reason when aborted
   */
  static async start(
    firstBatches: Float32Array | readonly Float32Array[],
    options: StartTrainerOptions,
  ): Promise<CodebookTrainer> {
    const { checkpoint, engine } = await startByKmeans(firstBatches, options);
    return new CodebookTrainer(checkpoint, engine, options);
  }

  /**
   * A trainer that goes on from given codebooks, codebooks[s] being [K_s][dim]; they are copied. It takes them to have been used
   * equally, as often as the rows of its first batch say.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, ZERO_VECTOR, BACKEND_UNAVAILABLE
   */
  static fromCodebooks(codebooks: readonly Float32Array[], options: TrainerFromCodebooksOptions): CodebookTrainer {
    const { checkpoint, engine } = startFromCodebooks(codebooks, options);
    return new CodebookTrainer(checkpoint, engine, options);
  }

  /**
   * The trainer whose `toBytes` these are: what it does next is what that one would have done.
   * @throws RvqError INVALID_CHECKPOINT for anything else, damaged or truncated bytes included; BACKEND_UNAVAILABLE
   */
  static fromBytes(bytes: Uint8Array, options: BackendChoiceOptions = {}): CodebookTrainer {
    checkOptions("options", options);
    const checkpoint = checkpointFromBytes("bytes", bytes);
    return new CodebookTrainer(checkpoint, openBackend(options.backend, options.threads), options);
  }

  /**
   * The trainer of a file written by `save`.
   * @throws RvqError IO, INVALID_CHECKPOINT, BACKEND_UNAVAILABLE
   */
  static async load(path: string | URL, options: BackendChoiceOptions = {}): Promise<CodebookTrainer> {
    checkOptions("options", options);
    const { name, bytes } = await readSealedFile(path);
    const checkpoint = checkpointFromBytes(name, bytes);
    return new CodebookTrainer(checkpoint, openBackend(options.backend, options.threads), options);
  }

  /** The backend in use. */
  get backend(): BackendName {
    return this.engine.name;
  }

  /** Steps done. */
  get steps(): number {
    return this.state.steps;
  }

  /**
   * Learns from batch[N][dim]: encodes it, measures it by the codebooks as they are, moves them, and starts dead codewords again. Calls
   * run one after the other; leave the batch alone until its own settles. A call that fails has changed nothing.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, ZERO_VECTOR; the signal's reason when aborted
   */
  async step(batch: Float32Array, options: StepOptions = {}): Promise<StepResult> {
    checkOptions("options", options);
    const checked = checkStep(options);
    const plain = checkVectors("batch", batch, this.dim);
    const rows = checkRows(options, plain.length / this.dim);
    return this.inLine(async () => {
      checked.signal?.throwIfAborted();
      const { engine, model, state, spare } = this;
      const shape = { dim: this.dim, vectors: plain.length / this.dim, stages: this.stages };
      const event = () => ({ method: "step", backend: engine.name, sync: false, ...shape }) as const;
      const { next, result } = await traced(trainCalls, event, () =>
        computeStep(engine, model, state, spare, plain, rows, checked),
      );
      this.advance(next);
      return result;
    });
  }

  /**
   * A step by statistics of a batch that were made elsewhere by `quantizer()`, in shards or as a whole. The same as `step`, but for
   * quantize dropout, and for dead codewords, which need rows: a later `step` starts those again.
   * @throws RvqError INVALID_ARGUMENT
   */
  async update(statistics: Statistics): Promise<void> {
    if (!(statistics instanceof Statistics)) throw invalidArgument("statistics", "Statistics", statistics);
    return this.inLine(async () => {
      const { model, state, spare } = this;
      this.advance(await stepByStatistics(model, state, spare, statistics));
    });
  }

  /** How many codewords of each stage are dead now. */
  deadCodewords(): number[] {
    return this.state.stages.map(({ usage }) => deadCodewords(usage, this.model.rule.deadBelow).length);
  }

  /** Copies of the codebooks as they are now, one [K_s][dim] a stage. */
  codebooks(): Float32Array[] {
    return this.state.stages.map(({ codebook }) => codebook.slice());
  }

  /** A quantizer of the codebooks as they are now. */
  quantizer(): ResidualQuantizer {
    const { dim, metric, metadata } = this;
    const weights = this.model.weights ?? undefined;
    return ResidualQuantizer.fromCodebooks(this.codebooks(), {
      dim,
      metric,
      weights,
      metadata,
      ...this.backendOptions,
    });
  }

  /** The state after the last step that is done, with everything that decides later ones: the same bytes on every backend. */
  toBytes(): Uint8Array {
    return checkpointToBytes({ model: this.model, state: this.state, metadata: this.metadata });
  }

  /**
   * Writes a checkpoint; an interrupted write leaves what was there before.
   * @throws RvqError INVALID_ARGUMENT, IO
   */
  async save(path: string | URL): Promise<void> {
    await writeFileAtomic(path, this.toBytes());
  }

  private advance(next: TrainerState): void {
    if (next === this.state) return;
    this.spare = this.state.stages;
    this.state = next;
  }

  private inLine<Result>(work: () => Promise<Result>): Promise<Result> {
    const turn = this.lastInLine.then(work);
    this.lastInLine = turn.catch(() => {});
    return turn;
  }
}
