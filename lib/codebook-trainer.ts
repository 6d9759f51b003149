// CodebookTrainer: learns the codebooks of a plain, residual or grouped quantizer from a stream of batches by moving averages.

import { type InspectOptions, inspect } from "node:util";
import { writeFileAtomic } from "./atomic-file.js";
import type { Backend, BackendName, Metric } from "./backend.js";
import { checkOptions, checkVectors } from "./check.js";
import { deadCodewords } from "./dead-codewords.js";
import { DeviceVectors } from "./device/device-arrays.js";
import { noDevice } from "./device/device-quantizer.js";
import { traced, trainCalls } from "./diagnostics.js";
import { invalidArgument } from "./errors.js";
import { GroupLayout } from "./group-layout.js";
import { GroupedQuantizer } from "./grouped-quantizer.js";
import { computeGroupedStep } from "./grouped-step.js";
import { shown } from "./inspect.js";
import { Statistics } from "./mergeable-statistics.js";
import { emptyState, type StageState } from "./moving-average.js";
import { openBackend } from "./open-backend.js";
import type { PartMemory, StepBatch } from "./part-step.js";
import type { BackendChoiceOptions, FromCodebooksOptions } from "./quantizer-options.js";
import { makeReadOnly } from "./read-only.js";
import { ResidualQuantizer } from "./residual-quantizer.js";
import { type CheckedRows, checkRows } from "./row-options.js";
import { RowWorkers } from "./row-workers.js";
import { readSealedFile } from "./sealed-bytes.js";
import { stepByStatistics } from "./statistics-step.js";
import { type Checkpoint, checkpointFromBytes, checkpointToBytes } from "./trainer-file.js";
import {
  type CheckedStep,
  checkDeviceBatch,
  checkStep,
  type StartTrainerOptions,
  type StepOptions,
  type TrainerFromCodebooksOptions,
} from "./trainer-options.js";
import { startByKmeans, startFromCodebooks } from "./trainer-start.js";
import type { StepResult, TrainerPart, TrainerState } from "./training-step.js";

export class CodebookTrainer {
  readonly dim: number;
  readonly metric: Metric;
  readonly stages: number;
  /** groups[G]: dimensions of each group of a product form; null without. */
  readonly groups: readonly number[] | null;
  /** Of every column of the codes: with groups stage by stage, group by group. */
  readonly codebookSizes: readonly number[];
  /** A frozen copy of the JSON object given at creation; in checkpoints, and in the quantizers that the trainer makes. */
  readonly metadata: Readonly<Record<string, unknown>>;

  private readonly layout: GroupLayout;
  private readonly engine: Backend;
  private readonly backendOptions: BackendChoiceOptions;
  /** One a group, after the last step that is done; replaced as a whole. */
  private parts: readonly TrainerPart[];
  /** One a part. */
  private readonly memories: readonly PartMemory[];
  private workers: RowWorkers | null = null;
  /** Settles when the last call in line is done. */
  private lastInLine: Promise<unknown> = Promise.resolve();

  private constructor({ groups, parts, metadata }: Checkpoint, engine: Backend, backendOptions: BackendChoiceOptions) {
    this.layout = new GroupLayout(
      parts.map(({ model }) => model.dim),
      parts.map(({ state }) => state.stages.map(({ usage }) => usage.length)),
    );
    this.dim = this.layout.dim;
    this.metric = parts[0].model.metric;
    this.stages = this.layout.stages;
    this.groups = groups;
    this.codebookSizes = this.layout.codebookSizes;
    this.metadata = metadata;
    makeReadOnly(this, ["dim", "metric", "stages", "groups", "codebookSizes", "metadata"]);
    this.engine = engine;
    const { backend, threads, device } = backendOptions;
    this.backendOptions = { backend, threads, device };
    this.parts = parts;
    this.memories = parts.map(({ model, state }) => {
      const spare = state.stages.map(({ usage }) => emptyState(usage.length, model.dim));
      return { spare, device: null };
    });
  }

  /**
   * A trainer whose codebooks come from the first batches by k-means, stage after stage on what the stages before left over. Each
   * codeword stands for as many rows as it serves in a batch of them on average. With `groups` each group starts so, group g from seed + g.
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
   * A trainer that goes on from given codebooks, codebooks[s] being [K_s][dim], with `groups` codebooks[g][s] [K_gs][width of group g];
   * they are copied. It takes them to have been used equally, as often as the rows of its first batch say.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, ZERO_VECTOR, BACKEND_UNAVAILABLE
   */
  static fromCodebooks(
    codebooks: readonly Float32Array[] | readonly (readonly Float32Array[])[],
    options: TrainerFromCodebooksOptions,
  ): CodebookTrainer {
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
    return new CodebookTrainer(checkpoint, openBackend(options.backend, options.threads, options.device), options);
  }

  /**
   * The trainer of a file written by `save`.
   * @throws RvqError IO, INVALID_CHECKPOINT, BACKEND_UNAVAILABLE
   */
  static async load(path: string | URL, options: BackendChoiceOptions = {}): Promise<CodebookTrainer> {
    checkOptions("options", options);
    const { name, bytes } = await readSealedFile(path);
    const checkpoint = checkpointFromBytes(name, bytes);
    return new CodebookTrainer(checkpoint, openBackend(options.backend, options.threads, options.device), options);
  }

  /** The backend in use. */
  get backend(): BackendName {
    return this.engine.name;
  }

  /** Steps done. */
  get steps(): number {
    return this.parts[0].state.steps;
  }

  /**
   * Learns from batch[N][dim]: encodes it, measures it by the codebooks as they are, moves them, and starts dead codewords again. Calls
   * run one after the other; leave the batch alone until its own settles. A call that fails has changed nothing.
   *
   * The batch may be on the GPU that the trainer uses, from `quantizer().device`; with neither groups, `mask`, `weights` nor workers.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, ZERO_VECTOR, BACKEND_UNAVAILABLE, DISPOSED, OUT_OF_MEMORY, DEVICE_LOST; the signal's
   * reason when aborted
   */
  async step(batch: Float32Array | DeviceVectors, options: StepOptions = {}): Promise<StepResult> {
    checkOptions("options", options);
    const checked = checkStep(options);
    if (batch instanceof DeviceVectors) {
      if (this.engine.stepsOnDevice === undefined) throw noDevice("batch", this.engine);
      checkDeviceBatch(batch, options, this.dim, this.groups);
      const lent = batch.lend("batch");
      return this.stepInLine(lent, checkRows({}, lent.count), checked).finally(lent.giveBack);
    }
    const plain = checkVectors("batch", batch, this.dim);
    return this.stepInLine(plain, checkRows(options, plain.length / this.dim), checked);
  }

  /**
   * A step by statistics of a batch that were made elsewhere by `quantizer()`, in shards or as a whole. The same as `step`, but for
   * quantize dropout, and for dead codewords, which need rows: a later `step` starts those again. Not with groups.
   * @throws RvqError INVALID_ARGUMENT
   */
  async update(statistics: Statistics): Promise<void> {
    if (!(statistics instanceof Statistics)) throw invalidArgument("statistics", "Statistics", statistics);
    if (this.groups !== null) throw invalidArgument("statistics", "a batch for step(): groups have none", "Statistics");
    return this.inLine(async () => {
      this.advance([await stepByStatistics(this.parts[0], this.memories[0].spare, statistics)]);
    });
  }

  /** How many codewords of each column of the codes are dead now. */
  deadCodewords(): number[] {
    const { deadBelow } = this.parts[0].model.rule;
    return this.columns().map(({ usage }) => deadCodewords(usage, deadBelow).length);
  }

  /** Copies of the codebooks as they are now, one [K_s][dim] a stage; with groups one [K][width] for each column of the codes. */
  codebooks(): Float32Array[] {
    return this.columns().map(({ codebook }) => codebook.slice());
  }

  /**
   * A quantizer of the codebooks as they are now.
   * @throws RvqError INVALID_ARGUMENT with groups, which are `groupedQuantizer`'s
   */
  quantizer(): ResidualQuantizer {
    if (this.groups !== null) {
      throw invalidArgument("trainer", "one without groups, or groupedQuantizer()", `${this.groups.length} groups`);
    }
    return ResidualQuantizer.fromCodebooks(this.codebooks(), this.quantizerOptions());
  }

  /** A grouped quantizer of the codebooks as they are now; without groups it has a single one. */
  groupedQuantizer(): GroupedQuantizer {
    const codebooks = this.parts.map(({ state }) => state.stages.map(({ codebook }) => codebook));
    return GroupedQuantizer.fromCodebooks(codebooks, { ...this.quantizerOptions(), groups: this.layout.groups });
  }

  /** The state after the last step that is done, with everything that decides later ones: the same bytes on every backend. */
  toBytes(): Uint8Array {
    const { groups, parts, metadata } = this;
    return checkpointToBytes({ groups, parts, metadata });
  }

  /**
   * Writes a checkpoint; an interrupted write leaves what was there before.
   * @throws RvqError INVALID_ARGUMENT, IO
   */
  async save(path: string | URL): Promise<void> {
    await writeFileAtomic(path, this.toBytes());
  }

  private stepInLine(batch: StepBatch, checkedRows: CheckedRows, step: CheckedStep): Promise<StepResult> {
    return this.inLine(async () => {
      step.signal?.throwIfAborted();
      const { engine: backend, parts, memories, layout } = this;
      const workers = this.workersOf(step.workers);
      const shape = { dim: this.dim, vectors: checkedRows.count, stages: this.stages };
      const event = () => ({ method: "step", backend: backend.name, sync: false, ...shape }) as const;
      const { next, result } = await traced(trainCalls, event, () =>
        computeGroupedStep({ backend, workers, checkedRows, step }, parts, memories, layout, batch),
      );
      this.advance(next);
      return result;
    });
  }

  /** Those of the last step, where it had as many. */
  private workersOf(size: number): RowWorkers | null {
    if (this.workers !== null && this.workers.size === size) return this.workers;
    this.workers?.end();
    this.workers = size === 1 ? null : new RowWorkers(size, this.engine.name, this.backendOptions.threads);
    return this.workers;
  }

  /** Of every column of the codes. */
  private columns(): StageState[] {
    const { parts } = this;
    return parts[0].state.stages.flatMap((_, stage) => parts.map(({ state }) => state.stages[stage]));
  }

  private quantizerOptions(): FromCodebooksOptions {
    const { dim, metric, metadata, parts } = this;
    const weights = joinWeights(parts.map(({ model }) => model.weights));
    return { dim, metric, weights, metadata, ...this.backendOptions };
  }

  /** All parts step, or none does. */
  private advance(next: readonly TrainerState[]): void {
    if (next[0] === this.parts[0].state) return;
    for (const [group, { state }] of this.parts.entries()) this.memories[group].spare = state.stages;
    this.parts = this.parts.map(({ model }, group) => ({ model, state: next[group] }));
  }

  private inLine<Result>(work: () => Promise<Result>): Promise<Result> {
    const turn = this.lastInLine.then(work);
    this.lastInLine = turn.catch(() => {});
    return turn;
  }

  /** What `console.log` shows. */
  [inspect.custom](_depth: number, options: InspectOptions): string {
    const { dim, metric, stages, groups, codebookSizes, metadata, steps, backend } = this;
    return shown("CodebookTrainer", { dim, metric, stages, groups, codebookSizes, metadata, steps, backend }, options);
  }
}

function joinWeights(parts: readonly (Float32Array | null)[]): Float32Array | undefined {
  const numbers = parts.flatMap((part) => (part === null ? [] : [...part]));
  return numbers.length === 0 ? undefined : Float32Array.from(numbers);
}
