// ResidualQuantizer: trains, encodes, decodes and measures with residual codebooks; a plain vector quantizer has one stage.

import { writeFileAtomic } from "./atomic-file.js";
import type { Backend, BackendName, CodebookSpec, Metric, PreparedCodebooks } from "./backend.js";
import { firstBadInput } from "./bad-input.js";
import { squaredDistance } from "./canonical.js";
import {
  allocate,
  badInput,
  type Codes,
  checkCodebooks,
  checkCodeRange,
  checkCodes,
  checkFunction,
  checkInteger,
  checkMetadata,
  checkMetric,
  checkNumber,
  checkOptions,
  checkSignal,
  checkVectors,
  checkWeights,
  limits,
} from "./check.js";
import { type ChunkOptions, forEachChunk } from "./chunks.js";
import { invalidArgument, RvqError } from "./errors.js";
import { type Model, modelFromBytes, modelId, modelToBytes, readModel } from "./model-file.js";
import { type BackendChoice, openBackend } from "./open-backend.js";
import { bitsPerCode, newCodeArray } from "./pack-codes.js";
import { stageUsage, type Usage } from "./statistics.js";
import { type TrainOptions, trainCodebooks } from "./train.js";

export interface BackendChoiceOptions {
  /** Default "auto": the environment variable RVQ_BACKEND, else the fastest that runs. */
  readonly backend?: BackendChoice;
  /**
   * Threads a call may use; the result never depends on it. Default: every processor, with the backend `js` only the calling
   * thread; with two and more it has large asynchronous `encode` and `train` calls done by so many worker threads.
   */
  readonly threads?: number;
}

export interface FromCodebooksOptions extends BackendChoiceOptions {
  readonly dim: number;
  /** Default "l2". */
  readonly metric?: Metric;
  /** weights[D] of the weighted l2 distance. */
  readonly weights?: Float32Array;
  /** A JSON object that is stored with the model. */
  readonly metadata?: Record<string, unknown>;
}

export interface StageOptions {
  /** Use the first so many stages; default all (for decoding: all that the codes have). */
  readonly stages?: number;
}

export interface CallOptions extends StageOptions, ChunkOptions {}

/** Error of a reconstruction from the first `stages` stages, over all vectors of the call. */
export interface Distortion {
  readonly stages: number;
  /** Mean over vectors of the squared (with weights: weighted squared) distance to the reconstruction. */
  readonly distortion: number;
  /** Mean squared error per element, without weights. */
  readonly mse: number;
  /** 10·log10(Σ x² / Σ (x − x̂)²). */
  readonly snrDb: number;
}

/** Sizes and rates of a quantizer; bits are information (log2 K) and, where said so, as packed (ceil(log2 K)). */
export interface Description {
  readonly dim: number;
  readonly metric: Metric;
  readonly weighted: boolean;
  readonly stages: number;
  readonly codebookSizes: readonly number[];
  /** Bytes of all codebooks in float32. */
  readonly codebookBytes: number;
  /** log2 of the number of different reconstructions: Σ log2 K_s. */
  readonly log2Capacity: number;
  /** For the first 1, 2, … stages. */
  readonly rates: readonly {
    readonly stages: number;
    readonly bitsPerVector: number;
    readonly packedBitsPerVector: number;
    /** bitsPerVector × vectorsPerSecond; null where no rate was given. */
    readonly bitsPerSecond: number | null;
  }[];
}

/** Options of a call after checking. */
interface CheckedCall extends ChunkOptions {
  readonly given: number | undefined;
  readonly stages: number;
}

export class ResidualQuantizer {
  readonly dim: number;
  readonly metric: Metric;
  readonly stages: number;
  readonly codebookSizes: readonly number[];
  /** A frozen copy of the JSON object given at creation; stored in the model. */
  readonly metadata: Readonly<Record<string, unknown>>;
  /** SHA-256 (hex) of dimension, metric, weights and codebooks: codes belong to the model with this id. */
  readonly id: string;

  private readonly spec: CodebookSpec;
  private readonly engine: Backend;
  private readonly prepared: PreparedCodebooks;
  private callsInFlight = 0;
  private disposed = false;

  private constructor(model: Model, engine: Backend) {
    this.spec = model.spec;
    this.metadata = model.metadata;
    this.dim = model.spec.dim;
    this.metric = model.spec.metric;
    this.stages = model.spec.codebooks.length;
    this.codebookSizes = model.spec.codebooks.map((codebook) => codebook.length / this.dim);
    this.id = modelId(model.spec);
    this.engine = engine;
    this.prepared = engine.prepare(model.spec);
  }

  /**
   * Learns codebooks from vectors[N][dim], row-major: per stage k-means on the residuals of the stages before.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, ZERO_VECTOR, BACKEND_UNAVAILABLE; the signal's reason when aborted
   */
  static async train(vectors: Float32Array, options: TrainOptions): Promise<ResidualQuantizer> {
    checkOptions("options", options ?? null);
    const metadata = checkMetadata(options.metadata);
    const engine = openBackend(options.backend, options.threads);
    const spec = await trainCodebooks(engine, vectors, options);
    return new ResidualQuantizer({ spec, metadata }, engine);
  }

  /**
   * A quantizer from given codebooks, codebooks[s] being [K_s][dim] row-major; they are copied.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, ZERO_VECTOR, BACKEND_UNAVAILABLE
   */
  static fromCodebooks(codebooks: readonly Float32Array[], options: FromCodebooksOptions): ResidualQuantizer {
    checkOptions("options", options ?? null);
    const dim = checkInteger("dim", options.dim, 1, limits.dim);
    const metric = checkMetric(options.metric ?? "l2");
    const weights = checkWeights(options.weights, dim, metric);
    const spec = { dim, metric, weights, codebooks: checkCodebooks(codebooks, dim, metric) };
    const metadata = checkMetadata(options.metadata);
    return new ResidualQuantizer({ spec, metadata }, openBackend(options.backend, options.threads));
  }

  /**
   * A quantizer from the bytes of `toBytes`.
   * @throws RvqError INVALID_MODEL for anything else, damaged or truncated bytes included; BACKEND_UNAVAILABLE
   */
  static fromBytes(bytes: Uint8Array, options: BackendChoiceOptions = {}): ResidualQuantizer {
    checkOptions("options", options);
    return new ResidualQuantizer(modelFromBytes("bytes", bytes), openBackend(options.backend, options.threads));
  }

  /**
   * A quantizer from a file written by `save`.
   * @throws RvqError IO, INVALID_MODEL, BACKEND_UNAVAILABLE
   */
  static async load(path: string | URL, options: BackendChoiceOptions = {}): Promise<ResidualQuantizer> {
    checkOptions("options", options);
    return new ResidualQuantizer(await readModel(path), openBackend(options.backend, options.threads));
  }

  /** The backend in use. */
  get backend(): BackendName {
    return this.engine.name;
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
   * Codes of vectors[N][dim] by greedy residual search: at each stage the nearest codeword, the lowest index on a tie.
   * The input is staged in chunks while the call runs; change it before the promise settles and the codes are a mix.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, ZERO_VECTOR; the signal's reason when aborted
   */
  async encode(vectors: Float32Array, options: CallOptions = {}): Promise<Codes> {
    const call = this.checkCall(options, this.stages);
    const { stages } = call;
    const plain = checkVectors("vectors", vectors, this.dim);
    const count = plain.length / this.dim;
    const data = newCodeArray(count * stages, this.codebookSizes);
    const encodeChunk = (first: number, rows: number) => {
      const staged = stageRows("vectors", plain, first, rows, this.dim);
      const codes = data.subarray(first * stages, (first + rows) * stages);
      return this.prepared.encode({ vectors: staged, count: rows, stages, codes });
    };
    await this.forEachChunk(count, call, encodeChunk, (bad, first) => {
      if (bad !== null) throw badInput("vectors", bad, first, plain[(first + bad.row) * this.dim + bad.column]);
    });
    return { count, stages, data };
  }

  /** `encode` on the calling thread, for short calls. */
  encodeSync(vectors: Float32Array, options: StageOptions = {}): Codes {
    const { stages } = this.checkCall(options, this.stages);
    const plain = checkVectors("vectors", vectors, this.dim);
    const count = plain.length / this.dim;
    const data = newCodeArray(count * stages, this.codebookSizes);
    if (count === 0) return { count, stages, data };
    const bad = this.prepared.encodeSync({ vectors: plain, count, stages, codes: data });
    if (bad !== null) throw badInput("vectors", bad, 0, plain[bad.row * this.dim + bad.column]);
    return { count, stages, data };
  }

  /**
   * Reconstruction [count][dim] from the first `stages` stages of the codes: the sum of their codewords in stage order.
   * @throws RvqError INVALID_ARGUMENT, CODE_OUT_OF_RANGE, OUT_OF_MEMORY; the signal's reason when aborted
   */
  async decode(codes: Codes, options: CallOptions = {}): Promise<Float32Array> {
    const call = this.checkCall(options, this.stages);
    const { count, stages: codeStages, data } = checkCodes("codes", codes, this.stages);
    const stages = checkInteger("stages", call.given ?? codeStages, 1, codeStages);
    const vectors = allocate("the reconstruction", count * this.dim, (length) => new Float32Array(length));
    const decodeChunk = async (first: number, rows: number) => {
      const staged = stageRows("codes.data", data, first, rows, codeStages);
      checkCodeRange("codes", staged, codeStages, this.codebookSizes, first);
      const out = vectors.subarray(first * this.dim, (first + rows) * this.dim);
      await this.prepared.decode({ codes: staged, count: rows, codeStages, stages, vectors: out });
    };
    await this.forEachChunk(count, { ...call, stages }, decodeChunk, () => {});
    return vectors;
  }

  /** `decode` on the calling thread, for short calls. */
  decodeSync(codes: Codes, options: StageOptions = {}): Float32Array {
    const call = this.checkCall(options, this.stages);
    const { count, stages: codeStages, data } = checkCodes("codes", codes, this.stages);
    const stages = checkInteger("stages", call.given ?? codeStages, 1, codeStages);
    checkCodeRange("codes", data, codeStages, this.codebookSizes, 0);
    const vectors = allocate("the reconstruction", count * this.dim, (length) => new Float32Array(length));
    if (count > 0) this.prepared.decodeSync({ codes: data, count, codeStages, stages, vectors });
    return vectors;
  }

  /**
   * Error of the reconstructions of vectors[N][dim] from the first 1, 2, … stages of their codes. Summed in row order
   * in float64, so the same bits on every backend.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, CODE_OUT_OF_RANGE; the signal's reason when aborted
   */
  async distortion(vectors: Float32Array, codes: Codes, options: ChunkOptions = {}): Promise<Distortion[]> {
    const call = this.checkCall(options, this.stages);
    const { count, stages, data } = checkCodes("codes", codes, this.stages);
    const plain = checkVectors("vectors", vectors, this.dim);
    if (plain.length !== count * this.dim) {
      throw invalidArgument("vectors", `codes.count · dim = ${count * this.dim} elements`, plain.length);
    }

    let energy = 0;
    const errors = new Float64Array(stages);
    const weightedErrors = this.spec.weights === null ? errors : new Float64Array(stages);
    const origin = new Float32Array(this.dim);
    const measureChunk = async (first: number, rows: number) => {
      const staged = stageRows("vectors", plain, first, rows, this.dim);
      const bad = firstBadInput(staged, this.dim, false);
      if (bad !== null) throw badInput("vectors", bad, first, staged[bad.row * this.dim + bad.column]);
      const stagedCodes = stageRows("codes.data", data, first, rows, stages);
      checkCodeRange("codes", stagedCodes, stages, this.codebookSizes, first);
      const request = { vectors: staged, count: rows, codes: stagedCodes, codeStages: stages, stages };
      const plainDistances = new Float64Array(rows * stages);
      await this.prepared.distances({ ...request, weighted: false, distances: plainDistances });
      const weightedDistances = weightedErrors === errors ? plainDistances : new Float64Array(rows * stages);
      if (weightedErrors !== errors) {
        await this.prepared.distances({ ...request, weighted: true, distances: weightedDistances });
      }
      return { staged, plainDistances, weightedDistances };
    };
    await this.forEachChunk(count, { ...call, stages }, measureChunk, (chunk, _first, rows) => {
      for (let row = 0; row < rows; row++) {
        energy += squaredDistance(chunk.staged, row * this.dim, origin, 0, this.dim, null, Infinity);
      }
      addRows(errors, chunk.plainDistances);
      if (weightedErrors !== errors) addRows(weightedErrors, chunk.weightedDistances);
    });
    return Array.from(errors, (error, stage) => ({
      stages: stage + 1,
      distortion: weightedErrors[stage] / count,
      mse: error / (count * this.dim),
      snrDb: 10 * Math.log10(energy / error),
    }));
  }

  /**
   * Counts, perplexity and fraction used of every stage's codewords in these codes.
   * @throws RvqError INVALID_ARGUMENT, CODE_OUT_OF_RANGE
   */
  usage(codes: Codes): Usage[] {
    const { stages, data } = checkCodes("codes", codes, this.stages);
    checkCodeRange("codes", data, stages, this.codebookSizes, 0);
    return Array.from({ length: stages }, (_, stage) => stageUsage(data, stages, stage, this.codebookSizes[stage]));
  }

  /** Information in the codes of one vector, Σ log2 K_s over the first `stages` stages, in bits. */
  bitsPerVector(stages: number = this.stages): number {
    checkInteger("stages", stages, 1, this.stages);
    return this.codebookSizes.slice(0, stages).reduce((sum, size) => sum + Math.log2(size), 0);
  }

  /** Sizes, log2 capacity and, for a rate in vectors per second, bit rates. */
  describe(options: { readonly vectorsPerSecond?: number } = {}): Description {
    checkOptions("options", options);
    const { vectorsPerSecond } = options;
    if (vectorsPerSecond !== undefined) {
      checkNumber("vectorsPerSecond", vectorsPerSecond, Number.MIN_VALUE, "a positive number");
    }
    const rates = this.codebookSizes.map((_, stage) => {
      const bitsPerVector = this.bitsPerVector(stage + 1);
      const packed = this.codebookSizes.slice(0, stage + 1).reduce((sum, size) => sum + bitsPerCode(size), 0);
      const bitsPerSecond = vectorsPerSecond === undefined ? null : bitsPerVector * vectorsPerSecond;
      return { stages: stage + 1, bitsPerVector, packedBitsPerVector: packed, bitsPerSecond };
    });
    return {
      dim: this.dim,
      metric: this.metric,
      weighted: this.spec.weights !== null,
      stages: this.stages,
      codebookSizes: [...this.codebookSizes],
      codebookBytes: this.spec.codebooks.reduce((sum, codebook) => sum + codebook.byteLength, 0),
      log2Capacity: this.bitsPerVector(),
      rates,
    };
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

  /** Frees the backend's memory now instead of at garbage collection; calls in flight finish, later ones throw. */
  dispose(): void {
    this.disposed = true;
    if (this.callsInFlight === 0) this.prepared.dispose();
  }

  /** The options every call shares, each read once and checked; `given` is the number of stages if one was given. */
  private checkCall(options: CallOptions, available: number): CheckedCall {
    checkOptions("options", options);
    const { stages: given, signal: givenSignal, onProgress } = options;
    const stages = checkInteger("stages", given ?? available, 1, available);
    const signal = checkSignal("signal", givenSignal);
    checkFunction("onProgress", onProgress);
    signal?.throwIfAborted();
    // Last: reading an option may run a getter of the caller's.
    if (this.disposed) throw new RvqError("DISPOSED", "quantizer: expected one in use, got one after dispose()");
    return { given, stages, signal, onProgress };
  }

  /** `forEachChunk` in chunks that suit the backend, whose memory outlives a `dispose` in the meantime. */
  private async forEachChunk<Result>(
    count: number,
    call: CheckedCall,
    work: (firstRow: number, rows: number) => Promise<Result>,
    finish: (result: Result, firstRow: number, rows: number) => void,
  ): Promise<void> {
    const codewordsPerVector = this.codebookSizes.slice(0, call.stages).reduce((sum, size) => sum + size, 0);
    this.callsInFlight++;
    try {
      const chunked = { backend: this.engine, dim: this.dim, codewordsPerVector };
      await forEachChunk(count, chunked, call, work, finish);
    } finally {
      this.callsInFlight--;
      if (this.disposed) this.dispose();
    }
  }
}

/**
 * A copy of rows of matrix[…][width]. Native threads read the copy: the caller's memory may be detached or changed while
 * they run, and reading freed memory would end the process.
 */
function stageRows<Matrix extends Float32Array | Uint16Array | Uint32Array>(
  name: string,
  matrix: Matrix,
  firstRow: number,
  rows: number,
  width: number,
): Matrix {
  // Detached memory makes the view empty; it may also have been a resizable buffer that shrank.
  if (matrix.length < (firstRow + rows) * width) {
    throw invalidArgument(name, "an array left alone during the call", "one that was detached or resized");
  }
  return matrix.slice(firstRow * width, (firstRow + rows) * width) as Matrix;
}

/** totals[columns] += the rows of matrix[…][columns], in row order. */
function addRows(totals: Float64Array, matrix: Float64Array): void {
  const columns = totals.length;
  for (let i = 0; i < matrix.length; i++) totals[i % columns] += matrix[i];
}
