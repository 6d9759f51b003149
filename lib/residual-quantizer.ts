// ResidualQuantizer: trains, encodes, decodes and measures with residual codebooks; a plain vector quantizer has one stage.

import { type InspectOptions, inspect } from "node:util";
import { writeFileAtomic } from "./atomic-file.js";
import type { Backend, BackendName, BadInput, CodebookSpec, Metric, PreparedCodebooks } from "./backend.js";
import { type BalancedOptions, encodeBalanced } from "./balanced-codes.js";
import { Batcher, type BatcherOptions } from "./batching/batcher.js";
import {
  badInput,
  type Codes,
  checkCodebooks,
  checkCodes,
  checkInteger,
  checkMetadata,
  checkMetric,
  checkOptions,
  checkRequiredOptions,
  checkVectors,
  checkWeights,
  limits,
} from "./check.js";
import { type ChunkOptions, type ChunkWork, forEachChunk } from "./chunks.js";
import { newCodeArray } from "./code-array.js";
import { type Decoder, decodeRows, decodeRowsSync } from "./decode-rows.js";
import {
  checkDescribeOptions,
  type DescribeOptions,
  type Description,
  describe,
  informationBits,
} from "./description.js";
import { DeviceQuantizer } from "./device/device-quantizer.js";
import { type CodingEvent, encodeCalls, traced, tracedSync } from "./diagnostics.js";
import { type Distortion, DistortionSums } from "./distortion.js";
import { invalidArgument, RvqError } from "./errors.js";
import { shown } from "./inspect.js";
import { type Model, modelFromBytes, modelId, modelToBytes, readModel } from "./model-file.js";
import { openBackend } from "./open-backend.js";
import { checkOptionNames } from "./option-names.js";
import {
  type BackendChoiceOptions,
  type CheckedCall,
  checkBeam,
  checkCall,
  type DecodeOptions,
  type DecodeSyncOptions,
  type EncodeOptions,
  type EncodeSyncOptions,
  type FromCodebooksOptions,
  fromCodebooksNames,
} from "./quantizer-options.js";
import { type Plan, type PlanOptions, planRate } from "./rate-control.js";
import { makeReadOnly } from "./read-only.js";
import { type RefineOptions, refineModel } from "./refine.js";
import { StagedRows } from "./staging.js";
import { type Usage, usageOf } from "./statistics.js";
import { type TrainOptions, trainCodebooks, trainNames } from "./train.js";
import { type BatchSource, type BatchTrainOptions, trainFromBatches } from "./train-batches.js";

export class ResidualQuantizer {
  readonly dim: number;
  readonly metric: Metric;
  readonly stages: number;
  readonly codebookSizes: readonly number[];
  /** A frozen copy of the JSON object given at creation; stored in the model. */
  readonly metadata: Readonly<Record<string, unknown>>;

  private readonly spec: CodebookSpec;
  private readonly engine: Backend;
  private readonly prepared: PreparedCodebooks;
  private readonly decoder: Decoder;
  /** Of `id`, once it has been asked for. */
  private hash: string | null = null;
  private callsInFlight = 0;
  private disposed = false;

  private constructor(model: Model, engine: Backend) {
    this.spec = model.spec;
    this.metadata = model.metadata;
    this.dim = model.spec.dim;
    this.metric = model.spec.metric;
    this.stages = model.spec.codebooks.length;
    this.codebookSizes = model.spec.codebooks.map((codebook) => codebook.length / this.dim);
    makeReadOnly(this, ["dim", "metric", "stages", "codebookSizes", "metadata"]);
    this.engine = engine;
    this.prepared = engine.prepare(model.spec);
    this.decoder = {
      dim: this.dim,
      stages: this.stages,
      codebookSizes: this.codebookSizes,
      staging: engine.staging,
      checksCodes: engine.checksCodes === true,
      checkCall: (options) => this.checkCall(options),
      event: (vectors, stages, sync) => this.event(vectors, stages, 1, sync),
      decode: (request) => this.prepared.decode(request),
      decodeSync: (request) => this.prepared.decodeSync(request),
      forEachChunk: (count, call, work, finish) => this.forEachChunk(count, call, work, finish),
    };
  }

  /**
   * Learns codebooks from vectors[N][dim], row-major: per stage k-means on the residuals of the stages before.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, ZERO_VECTOR, BACKEND_UNAVAILABLE; the signal's reason when aborted
   */
  static async train(vectors: Float32Array, options: TrainOptions): Promise<ResidualQuantizer> {
    checkRequiredOptions("options", options);
    checkOptionNames(options, trainNames);
    const metadata = checkMetadata(options.metadata);
    const engine = openBackend(options.backend, options.threads, options.device);
    const spec = await trainCodebooks(engine, vectors, options);
    return new ResidualQuantizer({ spec, metadata }, engine);
  }

  /**
   * Learns codebooks from data that need not fit in memory: `source()` starts a pass over it, an iterable of batches[…][dim].
   * One pass draws a sample, on which each stage is trained; `passes` more for each stage then show it all vectors.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, ZERO_VECTOR, BACKEND_UNAVAILABLE; the signal's reason; what `source` throws
   */
  static async trainFromBatches(source: BatchSource, options: BatchTrainOptions): Promise<ResidualQuantizer> {
    checkRequiredOptions("options", options);
    const metadata = checkMetadata(options.metadata);
    const engine = openBackend(options.backend, options.threads, options.device);
    const spec = await trainFromBatches(engine, source, options);
    return new ResidualQuantizer({ spec, metadata }, engine);
  }

  /**
   * A quantizer from given codebooks, codebooks[s] being [K_s][dim] row-major; they are copied.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, ZERO_VECTOR, BACKEND_UNAVAILABLE
   */
  static fromCodebooks(codebooks: readonly Float32Array[], options: FromCodebooksOptions): ResidualQuantizer {
    checkRequiredOptions("options", options);
    checkOptionNames(options, fromCodebooksNames);
    const dim = checkInteger("dim", options.dim, 1, limits.dim);
    const metric = checkMetric(options.metric ?? "l2");
    const weights = checkWeights(options.weights, dim, metric);
    const spec = { dim, metric, weights, codebooks: checkCodebooks(codebooks, dim, metric) };
    const metadata = checkMetadata(options.metadata);
    return new ResidualQuantizer({ spec, metadata }, openBackend(options.backend, options.threads, options.device));
  }

  /**
   * A quantizer from the bytes of `toBytes`.
   * @throws RvqError INVALID_MODEL for anything else, damaged or truncated bytes included; BACKEND_UNAVAILABLE
   */
  static fromBytes(bytes: Uint8Array, options: BackendChoiceOptions = {}): ResidualQuantizer {
    checkOptions("options", options);
    return new ResidualQuantizer(
      modelFromBytes("bytes", bytes),
      openBackend(options.backend, options.threads, options.device),
    );
  }

  /**
   * A quantizer from a file written by `save`.
   * @throws RvqError IO, INVALID_MODEL, BACKEND_UNAVAILABLE
   */
  static async load(path: string | URL, options: BackendChoiceOptions = {}): Promise<ResidualQuantizer> {
    checkOptions("options", options);
    return new ResidualQuantizer(await readModel(path), openBackend(options.backend, options.threads, options.device));
  }

  /** SHA-256 (hex) of dimension, metric, weights and codebooks: codes belong to the model with this id. */
  get id(): string {
    this.hash ??= modelId(this.spec);
    return this.hash;
  }

  /** The backend in use. */
  get backend(): BackendName {
    return this.engine.name;
  }

  /**
   * The same operations on arrays that stay on the GPU, with the backend `cuda`.
   * @throws RvqError BACKEND_UNAVAILABLE with another backend; DISPOSED
   */
  get device(): DeviceQuantizer {
    this.checkCall({});
    return new DeviceQuantizer(this.spec, this.engine, this.prepared);
  }

  /** Copies of the codebooks, one [K_s][dim] a stage. */
  codebooks(): Float32Array[] {
    return this.spec.codebooks.map((codebook) => codebook.slice());
  }

  /** A copy of weights[dim], or null. */
  weights(): Float32Array | null {
    return this.spec.weights?.slice() ?? null;
  }

  /**
   * Codes of vectors[N][dim] by greedy residual search: at each stage the nearest codeword, the lowest index on a tie; or with
   * `beam` by a search that keeps so many partial codes, never worse and mostly better (docs/exactness.md).
   * The input is staged in chunks while the call runs; change it before the promise settles and the codes are a mix.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, ZERO_VECTOR; the signal's reason when aborted
   */
  async encode(vectors: Float32Array, options: EncodeOptions = {}): Promise<Codes> {
    const call = this.checkCall(options);
    const { stages } = call;
    const beam = checkBeam(call.beam, this.metric);
    const plain = checkVectors("vectors", vectors, this.dim);
    const count = plain.length / this.dim;
    const data = newCodeArray(count * stages, this.codebookSizes);
    const staging = new StagedRows("vectors", plain, this.dim, this.engine.staging);
    const encodeChunk = async (first: number, rows: number, chunkOf: object | undefined) => {
      const staged = staging.copy(first, rows);
      const codes = data.subarray(first * stages, (first + rows) * stages);
      const bad = await this.prepared.encode({ vectors: staged, count: rows, stages, beam, codes, chunkOf });
      return { bad, staged };
    };
    const finish = ({ bad, staged }: { bad: BadInput | null; staged: Float32Array }, first: number) => {
      staging.release(staged);
      if (bad !== null) throw badInput("vectors", bad, first, plain[(first + bad.row) * this.dim + bad.column]);
    };
    return traced(
      encodeCalls,
      () => this.event(count, stages, beam, false),
      async () => {
        await this.forEachChunk(count, call, encodeChunk, finish, beam).finally(() => staging.close());
        return { count, stages, data };
      },
    );
  }

  /** `encode` on the calling thread, for short calls. */
  encodeSync(vectors: Float32Array, options: EncodeSyncOptions = {}): Codes {
    const { stages, beam: givenBeam } = this.checkCall(options);
    const beam = checkBeam(givenBeam, this.metric);
    const plain = checkVectors("vectors", vectors, this.dim);
    const count = plain.length / this.dim;
    const data = newCodeArray(count * stages, this.codebookSizes);
    if (count === 0) return { count, stages, data };
    return tracedSync(
      encodeCalls,
      () => this.event(count, stages, beam, true),
      () => {
        const bad = this.prepared.encodeSync({ vectors: plain, count, stages, beam, codes: data });
        if (bad !== null) throw badInput("vectors", bad, 0, plain[bad.row * this.dim + bad.column]);
        return { count, stages, data };
      },
    );
  }

  /**
   * Codes of vectors[N][dim] that spread evenly: in every stage at most ceil(capacity · N/K) have the same code, the others of a crowded
   * codeword go to the next best with room (docs/training.md). They depend on all of the vectors together. Decode them as any.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE; the signal's reason when aborted
   */
  async encodeBalanced(vectors: Float32Array, options: BalancedOptions = {}): Promise<Codes> {
    this.checkCall({});
    return encodeBalanced(this.engine, this.spec, vectors, options);
  }

  /**
   * Reconstruction [count][dim] from the first `stages` stages of the codes: the sum of their codewords in stage order. It is
   * `options.into` where that is given. With `codes.stageCounts` each frame has its own number of stages; none give zeros.
   * @throws RvqError INVALID_ARGUMENT, CODE_OUT_OF_RANGE, OUT_OF_MEMORY; the signal's reason when aborted
   */
  async decode(codes: Codes, options: DecodeOptions = {}): Promise<Float32Array> {
    return decodeRows(this.decoder, codes, options);
  }

  /** `decode` on the calling thread, for short calls. */
  decodeSync(codes: Codes, options: DecodeSyncOptions = {}): Float32Array {
    return decodeRowsSync(this.decoder, codes, options);
  }

  /**
   * Error of the reconstructions of vectors[N][dim] from the first 1, 2, … stages of their codes. Summed in row order
   * in float64, so the same bits on every backend.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, CODE_OUT_OF_RANGE; the signal's reason when aborted
   */
  async distortion(vectors: Float32Array, codes: Codes, options: ChunkOptions = {}): Promise<Distortion[]> {
    const call = this.checkCall(options);
    const { count, stages, data } = checkCodes("codes", codes, this.stages);
    const plain = checkVectors("vectors", vectors, this.dim);
    if (plain.length !== count * this.dim) {
      throw invalidArgument("vectors", `codes.count · dim = ${count * this.dim} elements`, plain.length);
    }

    const sums = new DistortionSums(this.spec, this.prepared, plain, { count, stages, data }, this.engine.staging);
    await this.forEachChunk(
      count,
      { ...call, stages },
      (first, rows, chunkOf) => sums.measure(first, rows, chunkOf),
      (chunk) => sums.add(chunk),
    ).finally(() => sums.close());
    return sums.result();
  }

  /**
   * Counts, perplexity and fraction used of every stage's codewords in these codes.
   * @throws RvqError INVALID_ARGUMENT, CODE_OUT_OF_RANGE
   */
  usage(codes: Codes): Usage[] {
    return usageOf(checkCodes("codes", codes, this.stages), this.codebookSizes);
  }

  /** Information in the codes of one vector, Σ log2 K_s over the first `stages` stages, in bits. */
  bitsPerVector(stages: number = this.stages): number {
    checkInteger("stages", stages, 1, this.stages);
    return informationBits(this.codebookSizes.slice(0, stages));
  }

  /** Sizes, log2 capacity and, for a rate in vectors per second, bit rates. */
  describe(options: DescribeOptions = {}): Description {
    const frameRate = checkDescribeOptions(options);
    return describe(this.spec, frameRate);
  }

  /** How many stages a bit rate allows: for every frame, and on the average where `allocateStages` may choose. */
  plan(options: PlanOptions): Plan {
    return planRate(this.codebookSizes, options);
  }

  /**
   * Makes few large batches of many small concurrent calls, with the same results (docs/services.md).
   * @throws RvqError INVALID_ARGUMENT, DISPOSED
   */
  batcher(options: BatcherOptions = {}): Batcher {
    this.checkCall({});
    return new Batcher(this, options);
  }

  /** The model in the format of lib/model-file.ts: the same bytes for the same model on every machine. */
  toBytes(): Uint8Array {
    return modelToBytes({ spec: this.spec, metadata: this.metadata });
  }

  /**
   * Writes the model to a file; an interrupted write leaves what was there before.
   * @throws RvqError INVALID_ARGUMENT, IO
   */
  async save(path: string | URL): Promise<void> {
    await writeFileAtomic(path, this.toBytes());
  }

  /**
   * A quantizer like this one whose codebooks have been refined together on vectors[N][dim]: each iteration encodes them and fits
   * every codebook to what the others leave. It lowers the error of all stages at the expense of prefixes.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, ZERO_VECTOR; the signal's reason when aborted
   */
  async refine(vectors: Float32Array, options: RefineOptions = {}): Promise<ResidualQuantizer> {
    this.checkCall({});
    const spec = await refineModel(this.engine, this.spec, vectors, options);
    return new ResidualQuantizer({ spec, metadata: this.metadata }, this.engine);
  }

  /** Frees the backend's memory now instead of at garbage collection; calls in flight finish, later ones throw. */
  dispose(): void {
    this.disposed = true;
    if (this.callsInFlight === 0) this.prepared.dispose();
  }

  /** What `console.log` shows. */
  [inspect.custom](_depth: number, options: InspectOptions): string {
    const { dim, metric, stages, codebookSizes, metadata, backend } = this;
    return shown("ResidualQuantizer", { dim, metric, stages, codebookSizes, metadata, backend }, options);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** The options of a call, checked, of a quantizer that is in use. */
  private checkCall(options: DecodeOptions & EncodeOptions): CheckedCall {
    const call = checkCall(options, this.stages);
    // Last: reading an option may run a getter of the caller's.
    if (this.disposed) throw new RvqError("DISPOSED", "quantizer: expected one in use, got one after dispose()");
    return call;
  }

  private event(vectors: number, stages: number, beam: number, sync: boolean): CodingEvent {
    return { backend: this.backend, sync, dim: this.dim, vectors, stages, modelId: this.id, beam };
  }

  /** `forEachChunk` in chunks that suit the backend, whose memory outlives a `dispose` in the meantime. */
  private async forEachChunk<Result>(
    count: number,
    call: CheckedCall,
    work: ChunkWork<Result>,
    finish: (result: Result, firstRow: number, rows: number) => void,
    beam = 1,
  ): Promise<void> {
    const codewordsPerVector = this.codebookSizes.slice(0, call.stages).reduce((sum, size) => sum + size, 0);
    this.callsInFlight++;
    try {
      const chunked = { backend: this.engine, dim: this.dim, codewordsPerVector: beam * codewordsPerVector };
      await forEachChunk(count, chunked, call, work, finish);
    } finally {
      this.callsInFlight--;
      if (this.disposed) this.dispose();
    }
  }
}
