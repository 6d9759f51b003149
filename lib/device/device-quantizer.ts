// DeviceQuantizer: the operations of a ResidualQuantizer on arrays that stay on a GPU.

import type { Backend, CodeArray, CodebookSpec, PreparedCodebooks } from "../backend.js";
import {
  badInput,
  type Codes,
  checkCodeRange,
  checkCodes,
  checkFunction,
  checkInteger,
  checkOptions,
  checkRequiredOptions,
  checkSignal,
  checkVectors,
} from "../check.js";
import type { ChunkOptions } from "../chunks.js";
import { invalidArgument, RvqError } from "../errors.js";
import type { StageOptions } from "../quantizer-options.js";
import { type DeviceMemory, mostResidentRows, type ResidentCodebooks } from "../resident.js";
import { stageGrids, type VectorRange } from "../stage-sums.js";
import { emptyStatistics, meanSteps } from "../statistics.js";
import { checkRange } from "../statistics-file.js";
import { runInSlices } from "../time-slice.js";
import { DeviceCodes, DeviceVectors } from "./device-arrays.js";
import { uploadRows } from "./upload-rows.js";

export interface DeviceEncodeOptions extends StageOptions {
  /** Whether what the last stage leaves over is wanted: `residuals` of the result. Default false. */
  readonly residuals?: boolean;
}

export interface DeviceStatisticsOptions {
  /** Decides the grid: `vectorRange` of the vectors, or what shards agree on. Larger magnitudes than it says make sums inexact. */
  readonly range: VectorRange;
  /** Default 0. For a later one the vectors are the residuals before it: those of `encode` with `stages: stage, residuals: true`. */
  readonly stage?: number;
}

/** Counts and exact sums of the vectors of every codeword of a stage. */
export interface DeviceStatistics {
  /** counts[K] */
  readonly counts: Float64Array;
  /** sums[K][dim], integers in units of 2^gridExponents[i] for column i. */
  readonly sums: Float64Array;
  readonly gridExponents: Int32Array;
  /** means[K][dim]: of the vectors of each codeword, the codeword itself where it has none: the next codebook of k-means. */
  readonly means: Float32Array;
  /** As of device arrays. */
  readonly kernelMs: number;
}

/**
 * `rq.device`: results are those of the quantizer's own methods, bit for bit; only where they are differs. Calls take arrays of the
 * same device, and read those that were disposed of meanwhile to the end.
 */
export class DeviceQuantizer {
  private readonly resident: ResidentCodebooks;
  private readonly sizes: readonly number[];

  /** @internal */
  constructor(
    private readonly spec: CodebookSpec,
    private readonly backend: Backend,
    prepared: PreparedCodebooks,
  ) {
    if (prepared.resident === undefined) throw noDevice("device", backend);
    this.resident = prepared.resident();
    this.sizes = spec.codebooks.map((codebook) => codebook.length / spec.dim);
  }

  /**
   * Copies vectors[count][dim] to the device; NaN, infinity and zero rows are found by `encode`.
   * @throws RvqError INVALID_ARGUMENT, OUT_OF_MEMORY, DEVICE_LOST; the signal's reason when aborted
   */
  async upload(vectors: Float32Array, options: ChunkOptions = {}): Promise<DeviceVectors> {
    const { dim } = this.spec;
    const plain = checkVectors("vectors", vectors, dim);
    const count = checkInteger("vectors rows", plain.length / dim, 0, mostResidentRows);
    const memory = await this.fill("vectors", plain, dim, options);
    return new DeviceVectors(memory, this.resident.device, count, dim, 0);
  }

  /**
   * Copies codes to the device.
   * @throws RvqError INVALID_ARGUMENT, CODE_OUT_OF_RANGE, OUT_OF_MEMORY, DEVICE_LOST; the signal's reason when aborted
   */
  async uploadCodes(codes: Codes, options: ChunkOptions = {}): Promise<DeviceCodes> {
    const { count, stages, data } = checkCodes("codes", codes, this.sizes.length);
    checkInteger("codes.count", count, 0, mostResidentRows);
    const memory = await this.fill("codes.data", data, stages, options, (staged, first) =>
      checkCodeRange("codes", staged, stages, this.sizes, first),
    );
    return new DeviceCodes(memory, this.resident.device, count, stages, data instanceof Uint32Array, 0);
  }

  /**
   * `ResidualQuantizer.encode`, greedily.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, ZERO_VECTOR, DISPOSED, OUT_OF_MEMORY, DEVICE_LOST
   */
  async encode(vectors: DeviceVectors, options: DeviceEncodeOptions = {}): Promise<DeviceCodes> {
    checkOptions("options", options);
    const stages = checkInteger("stages", options.stages ?? this.sizes.length, 1, this.sizes.length);
    const { residuals: wanted = false } = options;
    if (typeof wanted !== "boolean") throw invalidArgument("residuals", "true or false", wanted);
    const input = this.checkVectors(vectors);
    const { count, dim, device } = vectors;
    const wide = this.sizes.some((size) => size > 65_536);
    const codes = this.resident.allocate(count * stages * (wide ? 4 : 2));
    let residuals: DeviceMemory | undefined;
    try {
      if (wanted) residuals = this.resident.allocate(count * dim * 4);
      const { bad, kernelMs } = await this.resident.encode({ vectors: input, count, stages, codes, wide, residuals });
      if (bad !== null) throw badInput("vectors", bad, 0);
      const left = residuals === undefined ? null : new DeviceVectors(residuals, device, count, dim, kernelMs);
      return new DeviceCodes(codes, device, count, stages, wide, kernelMs, left);
    } catch (error) {
      codes.dispose();
      residuals?.dispose();
      throw error;
    }
  }

  /**
   * `ResidualQuantizer.decode`.
   * @throws RvqError INVALID_ARGUMENT, CODE_OUT_OF_RANGE, DISPOSED, OUT_OF_MEMORY, DEVICE_LOST
   */
  async decode(codes: DeviceCodes, options: StageOptions = {}): Promise<DeviceVectors> {
    checkOptions("options", options);
    const input = this.checkCodes(codes);
    const { count, wide, stages: codeStages } = codes;
    const stages = checkInteger("stages", options.stages ?? codeStages, 1, codeStages);
    const { dim } = this.spec;
    const vectors = this.resident.allocate(count * dim * 4);
    try {
      const request = { codes: input, wide, count, codeStages, stages, vectors };
      const { kernelMs } = await inRange(() => this.resident.decode(request));
      return new DeviceVectors(vectors, this.resident.device, count, dim, kernelMs);
    } catch (error) {
      vectors.dispose();
      throw error;
    }
  }

  /**
   * Counts and exact sums of the vectors by their codes of one stage: what a step of k-means or of moving averages needs to know.
   * Only these come to the host.
   * @throws RvqError INVALID_ARGUMENT, CODE_OUT_OF_RANGE, DISPOSED, OUT_OF_MEMORY, DEVICE_LOST
   */
  async accumulate(
    vectors: DeviceVectors,
    codes: DeviceCodes,
    options: DeviceStatisticsOptions,
  ): Promise<DeviceStatistics> {
    checkRequiredOptions("options", options);
    const { count, dim } = vectors;
    const rows = { vectors: this.checkVectors(vectors), codes: this.checkCodes(codes) };
    if (codes.count !== count) throw invalidArgument("codes", `codes of the ${count} vectors`, `${codes.count}`);
    const stage = checkInteger("stage", options.stage ?? 0, 0, codes.stages - 1);
    const range = checkRange("range", options.range, dim);
    if (range.rows < count) throw invalidArgument("range.rows", `${count} or more, the rows there are`, range.rows);

    const { gridExponents } = (await stageGrids("range", { ...range, maxWeight: null }, this.spec))[stage];
    const statistics = emptyStatistics(this.sizes[stage], gridExponents);
    const { counts, sums } = statistics;
    const shape = { count, dim, wide: codes.wide, codeStages: codes.stages, stage, numCodewords: this.sizes[stage] };
    const { kernelMs } = await inRange(() =>
      this.resident.accumulate({ ...rows, ...shape, gridExponents, counts, sums }),
    );
    const means = this.spec.codebooks[stage].slice();
    await runInSlices(meanSteps(statistics, means, 0));
    return { counts, sums, gridExponents, means, kernelMs };
  }

  private checkVectors(vectors: unknown): DeviceMemory {
    if (!(vectors instanceof DeviceVectors)) throw invalidArgument("vectors", "DeviceVectors", vectors);
    if (vectors.dim !== this.spec.dim) throw invalidArgument("vectors.dim", `dim ${this.spec.dim}`, vectors.dim);
    this.checkDevice("vectors.device", vectors.device);
    return vectors.inUse("vectors");
  }

  private checkCodes(codes: unknown): DeviceMemory {
    if (!(codes instanceof DeviceCodes)) throw invalidArgument("codes", "DeviceCodes", codes);
    checkInteger("codes.stages", codes.stages, 1, this.sizes.length);
    this.checkDevice("codes.device", codes.device);
    return codes.inUse("codes");
  }

  private checkDevice(name: string, device: number): void {
    if (device !== this.resident.device) throw invalidArgument(name, `device ${this.resident.device}`, device);
  }

  /** Memory with a copy of matrix[…][width]. */
  private async fill<Rows extends Float32Array | CodeArray>(
    name: string,
    matrix: Rows,
    width: number,
    options: ChunkOptions,
    check?: (staged: Rows, firstRow: number) => void,
  ): Promise<DeviceMemory> {
    checkOptions("options", options);
    const signal = checkSignal("signal", options.signal);
    checkFunction("onProgress", options.onProgress);
    signal?.throwIfAborted();
    const memory = this.resident.allocate(matrix.byteLength);
    try {
      const { onProgress } = options;
      await uploadRows(this.backend, memory, name, matrix, width, { signal, onProgress }, check);
      return memory;
    } catch (error) {
      memory.dispose();
      throw error;
    }
  }
}

/** The error for what only a backend with a device can do; `name`: the argument that asks for it. */
export function noDevice(name: string, { name: backend }: Backend): RvqError {
  const remedy = 'open it with { backend: "cuda" } on a machine with an NVIDIA GPU';
  return new RvqError("BACKEND_UNAVAILABLE", `${name}: expected the backend "cuda", got "${backend}" (${remedy})`);
}

/** The addon's RangeError as the package's own. */
async function inRange<Result>(run: () => Promise<Result>): Promise<Result> {
  try {
    return await run();
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    const message = "codes: expected codes below the quantizer's codebook sizes, got one that has no codeword";
    throw new RvqError("CODE_OUT_OF_RANGE", message, { cause: error });
  }
}
