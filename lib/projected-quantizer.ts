// ProjectedQuantizer: residual codebooks with linear maps around them, as DAC, Mimi and others have; for codecs that exist.

import { type InspectOptions, inspect } from "node:util";
import { writeFileAtomic } from "./atomic-file.js";
import type { Backend, BackendName, DecodeRequest, Metric } from "./backend.js";
import { type Codes, checkCodes, checkInteger, checkOptions, checkVectors } from "./check.js";
import { type ChunkOptions, type ChunkWork, forEachChunk } from "./chunks.js";
import { newCodeArray } from "./code-array.js";
import { type Decoder, decodeRows, decodeRowsSync } from "./decode-rows.js";
import { checkDescribeOptions, type DescribeOptions, informationBits, ratesOf } from "./description.js";
import { type CodingEvent, encodeCalls, traced, tracedSync } from "./diagnostics.js";
import type { Distortion } from "./distortion.js";
import { invalidArgument, RvqError } from "./errors.js";
import { shown } from "./inspect.js";
import { openBackend } from "./open-backend.js";
import { runLater, runNow } from "./operations.js";
import { projectedCodebooks } from "./projected-codebooks.js";
import { measurePrefixes, PrefixErrors } from "./projected-errors.js";
import { projectedModelFromBytes, projectedModelId, projectedModelToBytes } from "./projected-model-file.js";
import {
  type Arrangement,
  checkProjectedModel,
  type FromPartsOptions,
  type ProjectedDescription,
  type ProjectedModel,
  type ProjectedPart,
  type ProjectedSpec,
} from "./projected-options.js";
import { PreparedParts } from "./projected-parts.js";
import {
  type BackendChoiceOptions,
  type CallOptions,
  checkCall,
  type DecodeOptions,
  type DecodeSyncOptions,
  type StageOptions,
} from "./quantizer-options.js";
import { type Plan, type PlanOptions, planRate } from "./rate-control.js";
import { makeReadOnly } from "./read-only.js";
import { readSealedFile } from "./sealed-bytes.js";
import { StagedRows } from "./staging.js";
import { type Usage, usageOf } from "./statistics.js";

/**
 * Codes have a column for each stage of each part, part after part: `stages`, `codebookSizes` and all else count them as those of a
 * ResidualQuantizer, and any first n of them are a coarser description.
 */
export class ProjectedQuantizer {
  readonly dim: number;
  readonly metric: Metric;
  readonly arrangement: Arrangement;
  /** Of all parts together. */
  readonly stages: number;
  readonly codebookSizes: readonly number[];
  readonly metadata: Readonly<Record<string, unknown>>;

  private readonly spec: ProjectedSpec;
  private readonly engine: Backend;
  private readonly prepared: PreparedParts;
  private readonly decoder: Decoder;
  /** Of `id`, once it has been asked for. */
  private hash: string | null = null;
  private callsInFlight = 0;
  private disposed = false;

  private constructor({ spec, metadata }: ProjectedModel, engine: Backend) {
    this.spec = spec;
    this.metadata = metadata;
    this.dim = spec.dim;
    this.metric = spec.metric;
    this.arrangement = spec.arrangement;
    this.engine = engine;
    this.prepared = new PreparedParts(engine, spec);
    this.codebookSizes = this.prepared.codebookSizes;
    this.stages = this.codebookSizes.length;
    makeReadOnly(this, ["dim", "metric", "arrangement", "stages", "codebookSizes", "metadata"]);
    const decode = ({ codes, codeStages, stages, vectors, count, chunkOf }: DecodeRequest, firstRow: number) =>
      this.prepared.decode(codes, codeStages, stages, vectors, { firstRow, rows: count, chunkOf });
    this.decoder = {
      dim: this.dim,
      stages: this.stages,
      codebookSizes: this.codebookSizes,
      staging: engine.staging,
      checkCall: (options) => this.checkCall(options),
      event: (vectors, stages, sync) => this.event(vectors, stages, sync),
      decode: async (request, firstRow) => runLater(decode(request, firstRow)),
      decodeSync: (request) => runNow(decode(request, 0)),
      forEachChunk: (count, call, work, finish) => this.forEachChunk(count, call, work, finish),
    };
  }

  /**
   * A quantizer from codebooks and the projections around them, which are copied.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, ZERO_VECTOR (a codeword, with the cosine metric), BACKEND_UNAVAILABLE
   */
  static fromParts(parts: readonly ProjectedPart[], options: FromPartsOptions): ProjectedQuantizer {
    const model = checkProjectedModel(parts, options);
    return new ProjectedQuantizer(model, openBackend(options.backend, options.threads, options.device));
  }

  /**
   * A quantizer from the bytes of `toBytes`.
   * @throws RvqError INVALID_MODEL for anything else, damaged or truncated bytes included; BACKEND_UNAVAILABLE
   */
  static fromBytes(bytes: Uint8Array, options: BackendChoiceOptions = {}): ProjectedQuantizer {
    checkOptions("options", options);
    const model = projectedModelFromBytes("bytes", bytes);
    return new ProjectedQuantizer(model, openBackend(options.backend, options.threads, options.device));
  }

  /**
   * A quantizer from a file written by `save`.
   * @throws RvqError IO, INVALID_MODEL, BACKEND_UNAVAILABLE
   */
  static async load(path: string | URL, options: BackendChoiceOptions = {}): Promise<ProjectedQuantizer> {
    checkOptions("options", options);
    const { name, bytes } = await readSealedFile(path);
    const model = projectedModelFromBytes(name, bytes);
    return new ProjectedQuantizer(model, openBackend(options.backend, options.threads, options.device));
  }

  /** SHA-256 (hex) of codebooks, projections, metric and arrangement: codes belong to the model with this id. */
  get id(): string {
    this.hash ??= projectedModelId(this.spec);
    return this.hash;
  }

  /** The backend in use. */
  get backend(): BackendName {
    return this.engine.name;
  }

  /** Copies of the parts: what `fromParts` takes. */
  parts(): ProjectedPart[] {
    return checkProjectedModel(this.spec.parts, this.spec).spec.parts.slice();
  }

  /**
   * One codebook a stage in the space of the vectors, each [K_s][dim]: the projected codewords, that of a part's first stage with the
   * bias. Reconstructions are their sums, exactly where parts have one stage (DAC), else but for rounding (Mimi).
   * @throws RvqError NOT_FINITE where one overflows float32; DISPOSED
   */
  async projectedCodebooks(): Promise<Float32Array[]> {
    this.checkCall({});
    return projectedCodebooks(this.engine, this.spec, this.stages);
  }

  /**
   * Codes of vectors[N][dim]: in every part by residual search of the projected vectors. What is exactly zero before a search by
   * cosine has no direction and gets code 0.
   * The input is staged in chunks while the call runs; change it before the promise settles and the codes are a mix.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE (also for magnitudes that overflow float32 on the way); the signal's reason when aborted
   */
  async encode(vectors: Float32Array, options: CallOptions = {}): Promise<Codes> {
    const call = this.checkCall(options);
    const { stages } = call;
    const plain = checkVectors("vectors", vectors, this.dim);
    const count = plain.length / this.dim;
    const data = newCodeArray(count * stages, this.codebookSizes);
    const staging = new StagedRows("vectors", plain, this.dim, this.engine.staging);
    const encodeChunk: ChunkWork<Float32Array> = async (firstRow, rows, chunkOf) => {
      const staged = staging.copy(firstRow, rows);
      const codes = data.subarray(firstRow * stages, (firstRow + rows) * stages);
      await runLater(this.prepared.encode(staged, stages, codes, { firstRow, rows, chunkOf }));
      return staged;
    };
    return traced(
      encodeCalls,
      () => this.event(count, stages, false),
      async () => {
        const finish = (staged: Float32Array) => staging.release(staged);
        await this.forEachChunk(count, call, encodeChunk, finish).finally(() => staging.close());
        return { count, stages, data };
      },
    );
  }

  /** `encode` on the calling thread, for short calls. */
  encodeSync(vectors: Float32Array, options: StageOptions = {}): Codes {
    const { stages } = this.checkCall(options);
    const plain = checkVectors("vectors", vectors, this.dim).slice();
    const count = plain.length / this.dim;
    const data = newCodeArray(count * stages, this.codebookSizes);
    if (count === 0) return { count, stages, data };
    return tracedSync(
      encodeCalls,
      () => this.event(count, stages, true),
      () => {
        runNow(this.prepared.encode(plain, stages, data, { firstRow: 0, rows: count, chunkOf: undefined }));
        return { count, stages, data };
      },
    );
  }

  /**
   * Reconstruction [count][dim] from the first `stages` stages of the codes: the sum of the parts' projected reconstructions. It is
   * `options.into` where that is given. With `codes.stageCounts` each frame has its own number of stages; none give zeros.
   * @throws RvqError INVALID_ARGUMENT, CODE_OUT_OF_RANGE, OUT_OF_MEMORY; NOT_FINITE where a sum of codewords overflows float32; the
   * signal's reason when aborted
   */
  async decode(codes: Codes, options: DecodeOptions = {}): Promise<Float32Array> {
    return decodeRows(this.decoder, codes, options);
  }

  /** `decode` on the calling thread, for short calls. */
  decodeSync(codes: Codes, options: DecodeSyncOptions = {}): Float32Array {
    return decodeRowsSync(this.decoder, codes, options);
  }

  /**
   * Error of the reconstructions of vectors[N][dim] from the first 1, 2, … stages of their codes. Summed in row order in float64, so
   * the same bits on every backend.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, CODE_OUT_OF_RANGE; the signal's reason when aborted
   */
  async distortion(vectors: Float32Array, codes: Codes, options: ChunkOptions = {}): Promise<Distortion[]> {
    const call = this.checkCall(options);
    const { count, stages, data } = checkCodes("codes", codes, this.stages);
    const plain = checkVectors("vectors", vectors, this.dim);
    if (plain.length !== count * this.dim) {
      throw invalidArgument("vectors", `codes.count · dim = ${count * this.dim} elements`, plain.length);
    }
    const errors = new PrefixErrors(this.dim, stages);
    await this.forEachChunk(
      count,
      call,
      (firstRow, rows, chunkOf) =>
        measurePrefixes(this.prepared, { vectors: plain, codes: data, stages }, { firstRow, rows, chunkOf }),
      (measured) => errors.add(measured),
    );
    return errors.result(count);
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
  describe(options: DescribeOptions = {}): ProjectedDescription {
    const frameRate = checkDescribeOptions(options);
    const { dim, metric, arrangement, stages, codebookSizes } = this;
    const { parts } = this.spec;
    const bytesOf = (arrays: readonly (Float32Array | null | undefined)[]) =>
      arrays.reduce((sum, array) => sum + (array?.byteLength ?? 0), 0);
    return {
      dim,
      metric,
      weighted: false,
      arrangement,
      parts: parts.map((part) => ({ dim: part.dim, stages: part.codebooks.length })),
      stages,
      codebookSizes,
      codebookBytes: bytesOf(parts.flatMap(({ codebooks }) => codebooks)),
      projectionBytes: bytesOf(
        parts.flatMap(({ input, output }) => [input?.weight, input?.bias, output?.weight, output?.bias]),
      ),
      log2Capacity: this.bitsPerVector(),
      rates: ratesOf(codebookSizes, 1, frameRate),
    };
  }

  /** How many stages a bit rate allows. */
  plan(options: PlanOptions): Plan {
    return planRate(this.codebookSizes, options);
  }

  /** The model in the format of lib/projected-model-file.ts: the same bytes for the same model on every machine. */
  toBytes(): Uint8Array {
    return projectedModelToBytes({ spec: this.spec, metadata: this.metadata });
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

  /** What `console.log` shows. */
  [inspect.custom](_depth: number, options: InspectOptions): string {
    const { dim, metric, arrangement, stages, codebookSizes, metadata, backend } = this;
    return shown("ProjectedQuantizer", { dim, metric, arrangement, stages, codebookSizes, metadata, backend }, options);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  private checkCall(options: DecodeOptions) {
    const call = checkCall(options, this.stages);
    if (call.beam !== undefined && call.beam !== 1) throw invalidArgument("beam", "1 with projections", call.beam);
    // Last: reading an option may run a getter of the caller's.
    if (this.disposed) throw new RvqError("DISPOSED", "quantizer: expected one in use, got one after dispose()");
    return call;
  }

  private event(vectors: number, stages: number, sync: boolean): CodingEvent {
    return { backend: this.backend, sync, dim: this.dim, vectors, stages, modelId: this.id, beam: 1 };
  }

  /** `forEachChunk` in chunks that suit the backend, whose memory outlives a `dispose` in the meantime. */
  private async forEachChunk<Result>(
    count: number,
    call: ChunkOptions,
    work: ChunkWork<Result>,
    finish: (result: Result, firstRow: number, rows: number) => void,
  ): Promise<void> {
    this.callsInFlight++;
    try {
      const codewordsPerVector = this.prepared.multiplyAddsPerVector / this.dim;
      await forEachChunk(count, { backend: this.engine, dim: this.dim, codewordsPerVector }, call, work, finish);
    } finally {
      this.callsInFlight--;
      if (this.disposed) this.dispose();
    }
  }
}
