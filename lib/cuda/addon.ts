// The CUDA core of the native addon as TypeScript sees it; absent in builds without nvcc. What lib/cpu/addon.ts leaves to the caller,
// arrays during a call, this does too.

import type {
  AccumulateRequest,
  AssignRequest,
  BadInput,
  CodebookSpec,
  DecodeRequest,
  DistanceRequest,
  EncodeRequest,
  LowerDistancesRequest,
} from "../backend.js";
import type { DeviceMemory, ResidentCodebooks } from "../resident.js";

export interface CudaInfo {
  readonly devices: readonly CudaDevice[];
  /** CUDA versions, such as "13.0"; null without a driver, or in a build without CUDA. */
  readonly driverVersion: string | null;
  readonly runtimeVersion: string | null;
  /** Why there are no devices; null where there are some. */
  readonly reason: string | null;
}

export interface CudaDevice {
  readonly name: string;
  /** "9.0" */
  readonly computeCapability: string;
  readonly memoryBytes: number;
  readonly multiprocessors: number;
  /** The highest clock; 0: unknown. */
  readonly clockMhz: number;
  /** Of the memory, by its clock and bus, GB/s; 0: unknown. */
  readonly memoryGbps: number;
}

/** What every entry to the CUDA core is told. */
export interface CudaOptions {
  /** The number of a device in `cudaInfo().devices`. */
  readonly device: number;
  /** That one call may use to copy, 1 … 1024; default: the processors this process may run on. */
  readonly threads?: number;
}

/**
 * Throws a TypeError for any request that does not fit; after dispose() every call throws. Errors of the device have a `code`:
 * "OUT_OF_MEMORY", "DEVICE_LOST" or "CUDA".
 */
export interface CudaCodebooks {
  /** Without `beam`. */
  encode(request: EncodeRequest): Promise<BadInput | null>;
  encodeSync(request: EncodeRequest): BadInput | null;
  decode(request: DecodeRequest): Promise<void>;
  decodeSync(request: DecodeRequest): void;
  distances(request: DistanceRequest): Promise<void>;
  distancesSync(request: DistanceRequest): void;
  assign(request: AssignRequest & ResidentRows): Promise<void>;
  encodeResident: ResidentCodebooks["encode"];
  decodeResident: ResidentCodebooks["decode"];
  codewordMagnitudesResident: ResidentCodebooks["codewordMagnitudes"];
  learnResident: ResidentCodebooks["learn"];
  meansResident: ResidentCodebooks["means"];
  loadCodewordsResident: ResidentCodebooks["loadCodewords"];
  readCodewordsResident: ResidentCodebooks["readCodewords"];
  /** Only in builds for tests: which screen the search has on this device. */
  testScreen?(): "wgmma" | "float16" | "int8" | "none";
  /** The same: puts other codewords, as many in each stage, in the place of these, and packs them again. */
  testReplace?(spec: CodebookSpec): void;
  dispose(): void;
}

/** The rows `vectors` of a request on the device too: those from `firstRow` on. */
export interface ResidentRows {
  readonly resident?: DeviceMemory | undefined;
  readonly firstRow?: number | undefined;
}

export interface CudaAddon {
  cudaInfo(): CudaInfo;
  /** Throws an Error with a `code` unless the device has run a kernel of this build; the first time creates its context. */
  cudaOpen(options: CudaOptions): void;
  /** Whether a call in this process, on any of its threads, has found the device lost. */
  cudaLost(options: CudaOptions): boolean;
  readonly CudaCodebooks: new (spec: CodebookSpec & CudaOptions) => CudaCodebooks;
  /** Pinned memory, of unspecified content; null where Node allows no such buffers. It lives as long as a call uses it. */
  cudaStagingRoom(request: CudaOptions & { readonly bytes: number }): Promise<ArrayBuffer | null>;
  readonly CudaMemory: new (options: CudaOptions & { readonly bytes: number }) => DeviceMemory;
  cudaAccumulateResident(
    request: Parameters<ResidentCodebooks["accumulate"]>[0],
    options: CudaOptions,
  ): ReturnType<ResidentCodebooks["accumulate"]>;
  cudaMagnitudesResident(
    request: Parameters<ResidentCodebooks["magnitudes"]>[0],
    options: CudaOptions,
  ): ReturnType<ResidentCodebooks["magnitudes"]>;
  /** gathered[i] = vectors[rows[i]] for i below `wanted`; throws a RangeError where a row is not below `count`. */
  cudaGatherResident(
    request: {
      readonly vectors: DeviceMemory;
      readonly count: number;
      readonly dim: number;
      readonly rows: Uint32Array;
      readonly wanted: number;
      readonly gathered: Float32Array;
    },
    options: CudaOptions,
  ): Promise<void>;
  /** rows[draws] = the rows drawn, 2^32 − 1 from where on all distances are zero; `fresh`: nothing is in `distances` yet. */
  cudaDrawResident(
    request: {
      readonly vectors: DeviceMemory;
      readonly count: number;
      readonly dim: number;
      readonly weights: Float32Array | null;
      readonly distances: DeviceMemory;
      readonly fresh: boolean;
      readonly last: number;
      readonly fractions: Float64Array;
      readonly draws: number;
      readonly rows: Uint32Array;
    },
    options: CudaOptions,
  ): Promise<void>;
  cudaAccumulate(request: AccumulateRequest & ResidentRows, options: CudaOptions): Promise<void>;
  cudaLowerDistances(request: LowerDistancesRequest & ResidentRows, options: CudaOptions): Promise<void>;
  /**
   * Only in builds for tests, from now on: rows of a piece and bytes of device memory of a lane (0: no limit), and the form in which
   * few rows are searched, instead of that which the core chooses (cuda/split_search.h).
   */
  cudaTestLimits?(limits: {
    readonly pieceRows: number;
    readonly memoryBytes: number;
    readonly searchForm?: "split" | "whole" | undefined;
  }): void;
  /** Only in builds for tests: the bytes of all pinned rooms of the process, and how many arrays calls have found in one. */
  cudaTestRooms?(): { readonly bytes: number; readonly found: number };
  /** Only in builds that emulate a device: rows, once a stage, that the tensor cores' screen has left open so far. */
  cudaTestOpenRows?(): { readonly compared: number; readonly searched: number };
  /** The same: the next `times` calls of CUDA's runtime of this name, of one device or any, return the error of this number. */
  cudaTestFail?(fault: {
    readonly call: string;
    readonly error: number;
    readonly times: number;
    readonly device?: number;
  }): void;
  /** The same: the devices that have a context, that of this thread, and the memory that the whole process has. */
  cudaTestRuntime?(): {
    readonly contexts: readonly number[];
    readonly currentDevice: number;
    readonly deviceBytes: number;
    readonly pinnedBytes: number;
  };
  /** Only in builds for tests: the device counts as lost from now on. */
  cudaTestLose?(options: CudaOptions): void;
}
