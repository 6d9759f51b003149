// GroupedQuantizer: the product form. The dimensions are divided into groups, and each has a ResidualQuantizer of its own.

import { createHash } from "node:crypto";
import { type InspectOptions, inspect } from "node:util";
import { writeFileAtomic } from "./atomic-file.js";
import type { BackendName, Metric } from "./backend.js";
import type { BalancedOptions } from "./balanced-codes.js";
import { Batcher, type BatcherOptions } from "./batching/batcher.js";
import { allocate, type Codes, checkCodeRange, checkInteger, checkOptions, checkVectors } from "./check.js";
import type { ChunkOptions } from "./chunks.js";
import { newCodeArray } from "./code-array.js";
import { checkDescribeOptions, type DescribeOptions, informationBits, ratesOf } from "./description.js";
import { type CodingEvent, decodeCalls, encodeCalls, traced, tracedSync, untold } from "./diagnostics.js";
import { type Distortion, energyOfRows } from "./distortion.js";
import { invalidArgument, RvqError } from "./errors.js";
import { checkGroupedContent, columnsInSlices, GroupLayout } from "./group-layout.js";
import { groupedModelFromBytes, groupedModelToBytes } from "./grouped-model-file.js";
import type { FromGroupedCodebooksOptions, GroupedDescription, GroupedTrainOptions } from "./grouped-options.js";
import { groupsFromCodebooks, refineGroups, specOf, trainGroups } from "./grouped-training.js";
import { shown } from "./inspect.js";
import {
  type BackendChoiceOptions,
  type CallOptions,
  checkBeam,
  checkCall,
  type EncodeOptions,
  type EncodeSyncOptions,
  type StageOptions,
} from "./quantizer-options.js";
import { makeReadOnly } from "./read-only.js";
import type { RefineOptions } from "./refine.js";
import { ResidualQuantizer } from "./residual-quantizer.js";
import { readSealedFile } from "./sealed-bytes.js";
import { stageRows } from "./staging.js";
import { type Usage, usageOf } from "./statistics.js";
import { inSlices, nextSlice, sliceOver } from "./time-slice.js";

/** Elements that a call takes apart at a time. */
const elementsPerChunk = 2 ** 22;

/**
 * Codes have `groups` columns a stage: codes[n][stage · groups + group]. So the columns of the first stages, of all groups, are a
 * valid coarser description, as with a ResidualQuantizer, and `codebookSizes` lists one size a column, as `packCodes` takes them.
 */
export class GroupedQuantizer {
  readonly dim: number;
  readonly metric: Metric;
  /** Codes of each group of a vector. */
  readonly stages: number;
  /** groups[G]: dimensions of each group. */
  readonly groups: readonly number[];
  /** Of every column of the codes: stage by stage, group by group. */
  readonly codebookSizes: readonly number[];
  readonly metadata: Readonly<Record<string, unknown>>;

  private readonly layout: GroupLayout;
  private callsInFlight = 0;
  private disposed = false;

  private constructor(
    private readonly quantizers: readonly ResidualQuantizer[],
    metadata: Readonly<Record<string, unknown>>,
  ) {
    this.metadata = metadata;
    this.layout = new GroupLayout(
      quantizers.map(({ dim }) => dim),
      quantizers.map(({ codebookSizes }) => codebookSizes),
    );
    this.groups = this.layout.groups;
    this.dim = this.layout.dim;
    this.metric = quantizers[0].metric;
    this.stages = this.layout.stages;
    this.codebookSizes = this.layout.codebookSizes;
    makeReadOnly(this, ["dim", "metric", "stages", "groups", "codebookSizes", "metadata"]);
  }

  /**
   * Learns codebooks from vectors[N][dim], group after group as `ResidualQuantizer.train` does; group g from seed + g.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, ZERO_VECTOR, BACKEND_UNAVAILABLE; the signal's reason when aborted
   */
  static async train(vectors: Float32Array, options: GroupedTrainOptions): Promise<GroupedQuantizer> {
    const { quantizers, metadata } = await trainGroups(vectors, options);
    return new GroupedQuantizer(quantizers, metadata);
  }

  /**
   * A quantizer from given codebooks, codebooks[g][s] being [K_gs][width of group g]; they are copied.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, ZERO_VECTOR, BACKEND_UNAVAILABLE
   */
  static fromCodebooks(
    codebooks: readonly (readonly Float32Array[])[],
    options: FromGroupedCodebooksOptions,
  ): GroupedQuantizer {
    const { quantizers, metadata } = groupsFromCodebooks(codebooks, options);
    return new GroupedQuantizer(quantizers, metadata);
  }

  /**
   * A quantizer from the bytes of `toBytes`.
   * @throws RvqError INVALID_MODEL for anything else, damaged or truncated bytes included; BACKEND_UNAVAILABLE
   */
  static fromBytes(bytes: Uint8Array, options: BackendChoiceOptions = {}): GroupedQuantizer {
    checkOptions("options", options);
    return GroupedQuantizer.fromModel("bytes", bytes, options);
  }

  /**
   * A quantizer from a file written by `save`.
   * @throws RvqError IO, INVALID_MODEL, BACKEND_UNAVAILABLE
   */
  static async load(path: string | URL, options: BackendChoiceOptions = {}): Promise<GroupedQuantizer> {
    checkOptions("options", options);
    const { name, bytes } = await readSealedFile(path);
    return GroupedQuantizer.fromModel(name, bytes, options);
  }

  private static fromModel(name: string, bytes: Uint8Array, { backend, threads, device }: BackendChoiceOptions) {
    const { specs, metadata } = groupedModelFromBytes(name, bytes);
    const quantizers = specs.map(({ dim, metric, weights, codebooks }) =>
      ResidualQuantizer.fromCodebooks(codebooks, {
        dim,
        metric,
        weights: weights ?? undefined,
        backend,
        threads,
        device,
      }),
    );
    return new GroupedQuantizer(quantizers, metadata);
  }

  /** SHA-256 (hex) of the groups' ids: codes belong to the model with this id. */
  get id(): string {
    const hash = createHash("sha256");
    for (const { id } of this.quantizers) hash.update(id);
    return hash.digest("hex");
  }

  /** The backend in use. */
  get backend(): BackendName {
    return this.quantizers[0].backend;
  }

  /** Copies of the codebooks: of each group, of each stage, [K][width]. */
  codebooks(): Float32Array[][] {
    return this.quantizers.map((rq) => rq.codebooks());
  }

  /** A copy of weights[dim], or null. */
  weights(): Float32Array | null {
    const parts = this.quantizers.map((rq) => rq.weights());
    return parts[0] === null ? null : Float32Array.from(parts.flatMap((part) => [...(part as Float32Array)]));
  }

  /**
   * Codes of vectors[N][dim], each group's by residual search of its own dimensions.
   * The input is staged in chunks while the call runs; change it before the promise settles and the codes are a mix.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, ZERO_VECTOR; the signal's reason when aborted
   */
  async encode(vectors: Float32Array, options: EncodeOptions = {}): Promise<Codes> {
    const { stages, beam, signal, onProgress } = this.checkCall(options);
    const plain = checkVectors("vectors", vectors, this.dim);
    const count = plain.length / this.dim;
    const columns = stages * this.groups.length;
    const data = newCodeArray(count * columns, this.codebookSizes);
    const encodeRows = async (first: number, rows: number) => {
      const staged = stageRows("vectors", plain, first, rows, this.dim);
      this.checkContent(staged, first);
      const into = data.subarray(first * columns, (first + rows) * columns);
      for (const [group, rq] of this.quantizers.entries()) {
        const part = this.layout.vectorsOf(staged, group);
        this.layout.putCodes(await untold(() => rq.encode(part, { stages, beam, signal })), group, into);
      }
    };
    return traced(
      encodeCalls,
      () => this.event(count, stages, beam, false),
      async () => {
        await this.forEachChunk(count, { signal, onProgress }, encodeRows);
        return { count, stages: columns, data };
      },
    );
  }

  /** `encode` on the calling thread, for short calls. */
  encodeSync(vectors: Float32Array, options: EncodeSyncOptions = {}): Codes {
    const { stages, beam } = this.checkCall(options);
    const plain = checkVectors("vectors", vectors, this.dim);
    const count = plain.length / this.dim;
    const columns = stages * this.groups.length;
    const data = newCodeArray(count * columns, this.codebookSizes);
    return tracedSync(
      encodeCalls,
      () => this.event(count, stages, beam, true),
      () => {
        this.checkContent(plain, 0);
        for (const [group, rq] of this.quantizers.entries()) {
          const part = this.layout.vectorsOf(plain, group);
          const codes = untold(() => rq.encodeSync(part, { stages, beam }));
          this.layout.putCodes(codes, group, data);
        }
        return { count, stages: columns, data };
      },
    );
  }

  /**
   * Codes that spread evenly over the codewords of every group and stage, as by `ResidualQuantizer.encodeBalanced`.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE; the signal's reason when aborted
   */
  async encodeBalanced(vectors: Float32Array, options: BalancedOptions = {}): Promise<Codes> {
    const { stages } = this.checkCall(options);
    const plain = checkVectors("vectors", vectors, this.dim).slice();
    const count = plain.length / this.dim;
    const columns = stages * this.groups.length;
    const data = newCodeArray(count * columns, this.codebookSizes);
    await inSlices(plain.length, this.dim, (from, to) => this.checkContent(plain.subarray(from, to), from / this.dim));
    for (const [group, rq] of this.quantizers.entries()) {
      const part = await columnsInSlices(plain, this.dim, this.layout.columns[group]);
      this.layout.putCodes(await rq.encodeBalanced(part, options), group, data);
    }
    return { count, stages: columns, data };
  }

  /**
   * Reconstruction [count][dim] from the first `stages` stages of every group.
   * @throws RvqError INVALID_ARGUMENT, CODE_OUT_OF_RANGE, OUT_OF_MEMORY; the signal's reason when aborted
   */
  async decode(codes: Codes, options: CallOptions = {}): Promise<Float32Array> {
    const { given, signal, onProgress } = this.checkCall(options);
    const { count, stages: columns, wholeStages, data } = this.layout.checkCodes(codes);
    const stages = checkInteger("stages", given ?? wholeStages, 1, wholeStages);
    const vectors = this.newReconstruction(count);
    const decodeRows = async (first: number, rows: number) => {
      const staged = stageRows("codes.data", data, first, rows, columns);
      checkCodeRange("codes", staged, columns, this.codebookSizes, first);
      const into = vectors.subarray(first * this.dim, (first + rows) * this.dim);
      for (const [group, rq] of this.quantizers.entries()) {
        const part = this.layout.codesOf(staged, wholeStages, group);
        this.layout.putVectors(await untold(() => rq.decode(part, { stages, signal })), group, into);
      }
    };
    return traced(
      decodeCalls,
      () => this.event(count, stages, 1, false),
      async () => {
        await this.forEachChunk(count, { signal, onProgress }, decodeRows);
        return vectors;
      },
    );
  }

  /** `decode` on the calling thread, for short calls. */
  decodeSync(codes: Codes, options: StageOptions = {}): Float32Array {
    const { given } = this.checkCall(options);
    const { count, stages: columns, wholeStages, data } = this.layout.checkCodes(codes);
    const stages = checkInteger("stages", given ?? wholeStages, 1, wholeStages);
    checkCodeRange("codes", data, columns, this.codebookSizes, 0);
    const vectors = this.newReconstruction(count);
    return tracedSync(
      decodeCalls,
      () => this.event(count, stages, 1, true),
      () => {
        for (const [group, rq] of this.quantizers.entries()) {
          const part = this.layout.codesOf(data, wholeStages, group);
          const decoded = untold(() => rq.decodeSync(part, { stages }));
          this.layout.putVectors(decoded, group, vectors);
        }
        return vectors;
      },
    );
  }

  /**
   * Error of the reconstructions of vectors[N][dim] from the first 1, 2, … stages of all groups' codes; the same bits on every
   * backend.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, CODE_OUT_OF_RANGE; the signal's reason when aborted
   */
  async distortion(vectors: Float32Array, codes: Codes, options: ChunkOptions = {}): Promise<Distortion[]> {
    const { signal, onProgress } = this.checkCall(options);
    const { count, stages: columns, wholeStages: stages, data } = this.layout.checkCodes(codes);
    const plain = checkVectors("vectors", vectors, this.dim);
    if (plain.length !== count * this.dim) {
      throw invalidArgument("vectors", `codes.count · dim = ${count * this.dim} elements`, plain.length);
    }
    const errors = new Float64Array(stages);
    const weightedErrors = new Float64Array(stages);
    let energy = 0;
    await this.forEachChunk(count, { signal, onProgress }, async (first, rows) => {
      const staged = stageRows("vectors", plain, first, rows, this.dim);
      checkGroupedContent("vectors", staged, this.layout.columns, "l2", first);
      const stagedCodes = stageRows("codes.data", data, first, rows, columns);
      checkCodeRange("codes", stagedCodes, columns, this.codebookSizes, first);
      energy = energyOfRows(staged, this.dim, energy);
      for (const [group, rq] of this.quantizers.entries()) {
        const own = this.layout.codesOf(stagedCodes, stages, group);
        for (const measured of await rq.distortion(this.layout.vectorsOf(staged, group), own, { signal })) {
          errors[measured.stages - 1] += measured.mse * rows * rq.dim;
          weightedErrors[measured.stages - 1] += measured.distortion * rows;
        }
      }
    });
    return Array.from(errors, (error, stage) => ({
      stages: stage + 1,
      distortion: weightedErrors[stage] / count,
      mse: error / (count * this.dim),
      snrDb: 10 * Math.log10(energy / error),
    }));
  }

  /**
   * Counts, perplexity and fraction used of the codewords of every column of the codes.
   * @throws RvqError INVALID_ARGUMENT, CODE_OUT_OF_RANGE
   */
  usage(codes: Codes): Usage[] {
    return usageOf(this.layout.checkCodes(codes), this.codebookSizes);
  }

  /** Information in the codes of one vector over the first `stages` stages of all groups, Σ log2 K, in bits. */
  bitsPerVector(stages: number = this.stages): number {
    checkInteger("stages", stages, 1, this.stages);
    return informationBits(this.codebookSizes.slice(0, stages * this.groups.length));
  }

  /** Sizes, log2 capacity and, for a rate in vectors per second, bit rates. */
  describe(options: DescribeOptions = {}): GroupedDescription {
    const frameRate = checkDescribeOptions(options);
    return {
      dim: this.dim,
      metric: this.metric,
      weighted: this.weights() !== null,
      groups: this.groups,
      stages: this.stages,
      codebookSizes: this.codebookSizes,
      codebookBytes: this.quantizers.reduce((sum, rq) => sum + rq.describe().codebookBytes, 0),
      log2Capacity: this.bitsPerVector(),
      rates: ratesOf(this.codebookSizes, this.groups.length, frameRate),
    };
  }

  /**
   * A quantizer like this one with the codebooks of each group refined together on vectors[N][dim], as by
   * `ResidualQuantizer.refine`. Progress is that of group after group.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, ZERO_VECTOR; the signal's reason when aborted
   */
  async refine(vectors: Float32Array, options: RefineOptions = {}): Promise<GroupedQuantizer> {
    this.checkCall({});
    return new GroupedQuantizer(await refineGroups(this.quantizers, vectors, options), this.metadata);
  }

  /**
   * Makes few large batches of many small concurrent calls, with the same results (docs/services.md).
   * @throws RvqError INVALID_ARGUMENT, DISPOSED
   */
  batcher(options: BatcherOptions = {}): Batcher {
    this.checkCall({});
    return new Batcher(this, options, {
      codes: (value) => this.layout.checkCodes(value),
      content: (vectors, firstRow) => this.checkContent(vectors, firstRow),
    });
  }

  /** The model in the format of lib/grouped-model-file.ts: the same bytes for the same model on every machine. */
  toBytes(): Uint8Array {
    return groupedModelToBytes({ specs: this.quantizers.map(specOf), metadata: this.metadata });
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
    if (this.callsInFlight > 0) return;
    for (const rq of this.quantizers) rq.dispose();
  }

  /** What `console.log` shows. */
  [inspect.custom](_depth: number, options: InspectOptions): string {
    const { dim, metric, stages, groups, codebookSizes, metadata, backend } = this;
    return shown("GroupedQuantizer", { dim, metric, stages, groups, codebookSizes, metadata, backend }, options);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  private checkCall(options: EncodeOptions) {
    const call = checkCall(options, this.stages);
    const beam = checkBeam(call.beam, this.metric);
    // Last: reading an option may run a getter of the caller's.
    if (this.disposed) throw new RvqError("DISPOSED", "quantizer: expected one in use, got one after dispose()");
    return { ...call, beam };
  }

  private event(vectors: number, stages: number, beam: number, sync: boolean): CodingEvent {
    return { backend: this.backend, sync, dim: this.dim, vectors, stages, modelId: this.id, beam };
  }

  private checkContent(vectors: Float32Array, firstRow: number): void {
    checkGroupedContent("vectors", vectors, this.layout.columns, this.metric, firstRow);
  }

  private newReconstruction(count: number): Float32Array {
    return allocate("the reconstruction", count * this.dim, (length) => new Float32Array(length));
  }

  /** Calls `work` for chunks of rows, one after the other: each of them keeps the backend busy. */
  private async forEachChunk(
    count: number,
    { signal, onProgress }: ChunkOptions,
    work: (firstRow: number, rows: number) => Promise<void>,
  ): Promise<void> {
    const chunkRows = Math.max(1, Math.floor(elementsPerChunk / this.dim));
    this.callsInFlight++;
    try {
      for (let first = 0; first < count; first += chunkRows) {
        signal?.throwIfAborted();
        const rows = Math.min(chunkRows, count - first);
        await work(first, rows);
        onProgress?.(first + rows, count);
        if (sliceOver()) await nextSlice();
      }
    } finally {
      this.callsInFlight--;
      if (this.disposed) this.dispose();
      // Also calls that are refused one after the other, as in lib/chunks.ts.
      if (sliceOver()) await nextSlice();
    }
  }
}
