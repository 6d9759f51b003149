// GroupedQuantizer: the product form. The dimensions are divided into groups, and each has a ResidualQuantizer of its own.

import { createHash } from "node:crypto";
import { writeFileAtomic } from "./atomic-file.js";
import type { BackendName, CodebookSpec, Metric } from "./backend.js";
import { firstBadInput } from "./bad-input.js";
import {
  allocate,
  badInput,
  type Codes,
  checkCodeRange,
  checkCodes,
  checkInteger,
  checkMetadata,
  checkNumber,
  checkOptions,
  checkVectors,
  checkWeights,
  limits,
} from "./check.js";
import type { ChunkOptions } from "./chunks.js";
import { type ColumnGroup, checkGroups, neighbouringColumns, putColumns, takeColumns } from "./column-groups.js";
import { informationBits } from "./description.js";
import { type Distortion, energyOfRows } from "./distortion.js";
import { invalidArgument, RvqError } from "./errors.js";
import { checkAlike, groupedModelFromBytes, groupedModelToBytes } from "./grouped-model-file.js";
import type { FromGroupedCodebooksOptions, GroupedDescription, GroupedTrainOptions } from "./grouped-options.js";
import { readModelBytes } from "./model-file.js";
import { bitsPerCode, newCodeArray } from "./pack-codes.js";
import {
  type BackendChoiceOptions,
  type CallOptions,
  checkBeam,
  checkCall,
  type EncodeOptions,
  type EncodeSyncOptions,
  type StageOptions,
} from "./quantizer-options.js";
import type { RefineOptions } from "./refine.js";
import { ResidualQuantizer } from "./residual-quantizer.js";
import { stageRows } from "./staging.js";
import { stageUsage, type Usage } from "./statistics.js";
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
  /** SHA-256 (hex) of the groups' ids: codes belong to the model with this id. */
  readonly id: string;

  private readonly columns: readonly ColumnGroup[];
  private callsInFlight = 0;
  private disposed = false;

  private constructor(
    private readonly quantizers: readonly ResidualQuantizer[],
    metadata: Readonly<Record<string, unknown>>,
  ) {
    this.metadata = metadata;
    this.groups = quantizers.map(({ dim }) => dim);
    this.columns = neighbouringColumns(this.groups);
    this.dim = this.groups.reduce((sum, width) => sum + width, 0);
    this.metric = quantizers[0].metric;
    this.stages = quantizers[0].stages;
    this.codebookSizes = Array.from({ length: this.stages }, (_, stage) =>
      quantizers.map(({ codebookSizes }) => codebookSizes[stage]),
    ).flat();
    const hash = createHash("sha256");
    for (const { id } of quantizers) hash.update(id);
    this.id = hash.digest("hex");
  }

  /**
   * Learns codebooks from vectors[N][dim], group after group as `ResidualQuantizer.train` does; group g from seed + g.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, ZERO_VECTOR, BACKEND_UNAVAILABLE; the signal's reason when aborted
   */
  static async train(vectors: Float32Array, options: GroupedTrainOptions): Promise<GroupedQuantizer> {
    checkOptions("options", options ?? null);
    const { groups: given, onProgress, metadata, ...training } = options;
    const dim = checkInteger("dim", training.dim, 1, limits.dim);
    const widths = checkGroups(given, dim);
    const weights = checkWeights(training.weights, dim, training.metric ?? "l2");
    const seed = checkInteger("seed", training.seed ?? 0, 0, Number.MAX_SAFE_INTEGER - limits.groups);
    const checked = checkMetadata(metadata);
    const columnGroups = neighbouringColumns(widths);
    // A copy, so that the caller may have them back.
    const plain = checkVectors("vectors", vectors, dim).slice();
    await inSlices(plain.length, dim, (from, to) =>
      checkContent(plain.subarray(from, to), dim, columnGroups, training.metric === "cosine", from / dim),
    );

    const quantizers: ResidualQuantizer[] = [];
    for (const [group, columns] of columnGroups.entries()) {
      const rq = await ResidualQuantizer.train(await partInSlices(plain, dim, columns), {
        ...training,
        dim: columns.width,
        weights: weights?.slice(columns.from, columns.from + columns.width),
        seed: seed + group,
        onProgress: (progress) => onProgress?.({ ...progress, group, groups: widths.length }),
      });
      quantizers.push(rq);
    }
    return new GroupedQuantizer(quantizers, checked);
  }

  /**
   * A quantizer from given codebooks, codebooks[g][s] being [K_gs][width of group g]; they are copied.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, ZERO_VECTOR, BACKEND_UNAVAILABLE
   */
  static fromCodebooks(
    codebooks: readonly (readonly Float32Array[])[],
    options: FromGroupedCodebooksOptions,
  ): GroupedQuantizer {
    checkOptions("options", options ?? null);
    const { groups: given, weights: givenWeights, metadata, ...choice } = options;
    const dim = checkInteger("dim", choice.dim, 1, limits.dim);
    const widths = checkGroups(given, dim);
    const weights = checkWeights(givenWeights, dim, choice.metric ?? "l2");
    if (!Array.isArray(codebooks) || codebooks.length !== widths.length) {
      throw invalidArgument("codebooks", `an array of ${widths.length}, one list of codebooks a group`, codebooks);
    }
    const quantizers = neighbouringColumns(widths).map(({ from, width }, group) => {
      const part = weights?.slice(from, from + width);
      return ResidualQuantizer.fromCodebooks(codebooks[group], { ...choice, dim: width, weights: part });
    });
    checkAlike(quantizers.map(specOf));
    return new GroupedQuantizer(quantizers, checkMetadata(metadata));
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
    const { name, bytes } = await readModelBytes(path);
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
    await this.forEachChunk(count, { signal, onProgress }, async (first, rows) => {
      const staged = stageRows("vectors", plain, first, rows, this.dim);
      this.checkContent(staged, first);
      for (const [group, rq] of this.quantizers.entries()) {
        const { data: codes } = await rq.encode(this.part(staged, group), { stages, beam, signal });
        const into = data.subarray(first * columns, (first + rows) * columns);
        putColumns(codes, into, columns, this.codeColumns(group, stages));
      }
    });
    return { count, stages: columns, data };
  }

  /** `encode` on the calling thread, for short calls. */
  encodeSync(vectors: Float32Array, options: EncodeSyncOptions = {}): Codes {
    const { stages, beam } = this.checkCall(options);
    const plain = checkVectors("vectors", vectors, this.dim);
    const count = plain.length / this.dim;
    const columns = stages * this.groups.length;
    const data = newCodeArray(count * columns, this.codebookSizes);
    this.checkContent(plain, 0);
    for (const [group, rq] of this.quantizers.entries()) {
      const { data: codes } = rq.encodeSync(this.part(plain, group), { stages, beam });
      putColumns(codes, data, columns, this.codeColumns(group, stages));
    }
    return { count, stages: columns, data };
  }

  /**
   * Reconstruction [count][dim] from the first `stages` stages of every group.
   * @throws RvqError INVALID_ARGUMENT, CODE_OUT_OF_RANGE, OUT_OF_MEMORY; the signal's reason when aborted
   */
  async decode(codes: Codes, options: CallOptions = {}): Promise<Float32Array> {
    const { given, signal, onProgress } = this.checkCall(options);
    const { count, stages: columns, data } = this.checkCodes(codes);
    const codeStages = columns / this.groups.length;
    const stages = checkInteger("stages", given ?? codeStages, 1, codeStages);
    const vectors = this.newReconstruction(count);
    await this.forEachChunk(count, { signal, onProgress }, async (first, rows) => {
      const staged = stageRows("codes.data", data, first, rows, columns);
      checkCodeRange("codes", staged, columns, this.codebookSizes, first);
      const into = vectors.subarray(first * this.dim, (first + rows) * this.dim);
      for (const [group, rq] of this.quantizers.entries()) {
        const part = await rq.decode(this.partOfCodes(staged, columns, group), { stages, signal });
        putColumns(part, into, this.dim, this.columns[group]);
      }
    });
    return vectors;
  }

  /** `decode` on the calling thread, for short calls. */
  decodeSync(codes: Codes, options: StageOptions = {}): Float32Array {
    const { given } = this.checkCall(options);
    const { count, stages: columns, data } = this.checkCodes(codes);
    const codeStages = columns / this.groups.length;
    const stages = checkInteger("stages", given ?? codeStages, 1, codeStages);
    checkCodeRange("codes", data, columns, this.codebookSizes, 0);
    const vectors = this.newReconstruction(count);
    for (const [group, rq] of this.quantizers.entries()) {
      const part = rq.decodeSync(this.partOfCodes(data, columns, group), { stages });
      putColumns(part, vectors, this.dim, this.columns[group]);
    }
    return vectors;
  }

  /**
   * Error of the reconstructions of vectors[N][dim] from the first 1, 2, … stages of all groups' codes; the same bits on every
   * backend.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, CODE_OUT_OF_RANGE; the signal's reason when aborted
   */
  async distortion(vectors: Float32Array, codes: Codes, options: ChunkOptions = {}): Promise<Distortion[]> {
    const { signal, onProgress } = this.checkCall(options);
    const { count, stages: columns, data } = this.checkCodes(codes);
    const plain = checkVectors("vectors", vectors, this.dim);
    if (plain.length !== count * this.dim) {
      throw invalidArgument("vectors", `codes.count · dim = ${count * this.dim} elements`, plain.length);
    }
    const stages = columns / this.groups.length;
    const errors = new Float64Array(stages);
    const weightedErrors = new Float64Array(stages);
    let energy = 0;
    await this.forEachChunk(count, { signal, onProgress }, async (first, rows) => {
      const staged = stageRows("vectors", plain, first, rows, this.dim);
      checkContent(staged, this.dim, this.columns, false, first);
      const stagedCodes = stageRows("codes.data", data, first, rows, columns);
      checkCodeRange("codes", stagedCodes, columns, this.codebookSizes, first);
      energy = energyOfRows(staged, this.dim, energy);
      for (const [group, rq] of this.quantizers.entries()) {
        const part = this.partOfCodes(stagedCodes, columns, group);
        for (const measured of await rq.distortion(this.part(staged, group), part, { signal })) {
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
    const { stages: columns, data } = this.checkCodes(codes);
    checkCodeRange("codes", data, columns, this.codebookSizes, 0);
    return Array.from({ length: columns }, (_, c) => stageUsage(data, columns, c, this.codebookSizes[c]));
  }

  /** Information in the codes of one vector over the first `stages` stages of all groups, Σ log2 K, in bits. */
  bitsPerVector(stages: number = this.stages): number {
    checkInteger("stages", stages, 1, this.stages);
    return informationBits(this.codebookSizes.slice(0, stages * this.groups.length));
  }

  /** Sizes, log2 capacity and, for a rate in vectors per second, bit rates. */
  describe(options: { readonly vectorsPerSecond?: number } = {}): GroupedDescription {
    checkOptions("options", options);
    const { vectorsPerSecond } = options;
    if (vectorsPerSecond !== undefined) {
      checkNumber("vectorsPerSecond", vectorsPerSecond, Number.MIN_VALUE, "a positive number");
    }
    const rates = Array.from({ length: this.stages }, (_, stage) => {
      const bitsPerVector = this.bitsPerVector(stage + 1);
      const sizes = this.codebookSizes.slice(0, (stage + 1) * this.groups.length);
      const packedBitsPerVector = sizes.reduce((sum, size) => sum + bitsPerCode(size), 0);
      const bitsPerSecond = vectorsPerSecond === undefined ? null : bitsPerVector * vectorsPerSecond;
      return { stages: stage + 1, bitsPerVector, packedBitsPerVector, bitsPerSecond };
    });
    return {
      dim: this.dim,
      metric: this.metric,
      weighted: this.weights() !== null,
      groups: this.groups,
      stages: this.stages,
      codebookSizes: this.codebookSizes,
      codebookBytes: this.quantizers.reduce((sum, rq) => sum + rq.describe().codebookBytes, 0),
      log2Capacity: this.bitsPerVector(),
      rates,
    };
  }

  /**
   * A quantizer like this one with the codebooks of each group refined together on vectors[N][dim], as by
   * `ResidualQuantizer.refine`. Progress is that of group after group.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, ZERO_VECTOR; the signal's reason when aborted
   */
  async refine(vectors: Float32Array, options: RefineOptions = {}): Promise<GroupedQuantizer> {
    this.checkCall({});
    const plain = checkVectors("vectors", vectors, this.dim).slice();
    await inSlices(plain.length, this.dim, (from, to) => this.checkContent(plain.subarray(from, to), from / this.dim));
    const refined: ResidualQuantizer[] = [];
    for (const [group, rq] of this.quantizers.entries()) {
      refined.push(await rq.refine(await partInSlices(plain, this.dim, this.columns[group]), options));
    }
    return new GroupedQuantizer(refined, this.metadata);
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

  private checkCall(options: EncodeOptions) {
    const call = checkCall(options, this.stages);
    const beam = checkBeam(call.beam, this.metric);
    // Last: reading an option may run a getter of the caller's.
    if (this.disposed) throw new RvqError("DISPOSED", "quantizer: expected one in use, got one after dispose()");
    return { ...call, beam };
  }

  /** Whole stages of all groups. */
  private checkCodes(value: unknown): Codes {
    const codes = checkCodes("codes", value, this.codebookSizes.length);
    if (codes.stages % this.groups.length !== 0) {
      throw invalidArgument("codes.stages", `a multiple of the ${this.groups.length} groups`, codes.stages);
    }
    return codes;
  }

  private checkContent(vectors: Float32Array, firstRow: number): void {
    checkContent(vectors, this.dim, this.columns, this.metric === "cosine", firstRow);
  }

  private newReconstruction(count: number): Float32Array {
    return allocate("the reconstruction", count * this.dim, (length) => new Float32Array(length));
  }

  /** The group's dimensions of vectors[rows][dim]. */
  private part(vectors: Float32Array, group: number): Float32Array {
    const part = new Float32Array((vectors.length / this.dim) * this.groups[group]);
    takeColumns(vectors, this.dim, this.columns[group], part);
    return part;
  }

  private partOfCodes(data: Codes["data"], columns: number, group: number): Codes {
    const stages = columns / this.groups.length;
    const count = data.length / columns;
    const part = newCodeArray(count * stages, this.quantizers[group].codebookSizes);
    takeColumns(data, columns, this.codeColumns(group, stages), part);
    return { count, stages, data: part };
  }

  /** Where a group's codes of `stages` stages are among those of all groups. */
  private codeColumns(group: number, stages: number): ColumnGroup {
    return { from: group, step: this.groups.length, width: stages };
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
    }
  }
}

function specOf(rq: ResidualQuantizer): CodebookSpec {
  return { dim: rq.dim, metric: rq.metric, weights: rq.weights(), codebooks: rq.codebooks() };
}

/** The group's columns of vectors[…][dim]. */
async function partInSlices(vectors: Float32Array, dim: number, group: ColumnGroup): Promise<Float32Array> {
  const part = new Float32Array((vectors.length / dim) * group.width);
  await inSlices(vectors.length, dim, (from, to) => {
    const into = part.subarray((from / dim) * group.width, (to / dim) * group.width);
    takeColumns(vectors.subarray(from, to), dim, group, into);
  });
  return part;
}

/** @throws RvqError for the first row that is not finite, or where a group has no direction */
function checkContent(
  vectors: Float32Array,
  dim: number,
  groups: readonly ColumnGroup[],
  refuseZero: boolean,
  firstRow: number,
): void {
  const bad = firstBadInput(vectors, dim, false);
  if (bad !== null) throw badInput("vectors", bad, firstRow, vectors[bad.row * dim + bad.column]);
  if (!refuseZero) return;
  for (const [group, columns] of groups.entries()) {
    const part = new Float32Array((vectors.length / dim) * columns.width);
    takeColumns(vectors, dim, columns, part);
    const zero = firstBadInput(part, columns.width, true);
    if (zero !== null) throw badInput(`vectors, group ${group}`, zero, firstRow);
  }
}
