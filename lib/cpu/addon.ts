// The native addon as TypeScript sees it; `binding/addon.cpp` is the map of what is behind it.
//
// It refuses what does not fit when a call begins. What is left to the caller is the time after that: nobody may transfer, resize or
// write to an array of an asynchronous call until it has settled, nor write to one of a synchronous call from another thread.
// lib/staging.ts copies for that.

import type {
  AccumulateRequest,
  AssignRequest,
  BadInput,
  CodeArray,
  CodebookSpec,
  CodeColumns,
  DecodeRequest,
  DistanceRequest,
  EncodeRequest,
  LowerDistancesRequest,
  Projection,
  ProjectRequest,
  ScanCodesRequest,
} from "../backend.js";

/** What every entry to the CPU core is told. */
export interface CpuOptions {
  /** 1 … 1024. */
  readonly threads: number;
  /** One of `cpuInfo().instructionSets`. */
  readonly instructionSet: string;
}

/** What `Backend.prepare` is told besides the codebooks. */
export interface CpuPrevious {
  readonly previous?: Float32Array | undefined;
}

/** Only in builds for tests: the screen of every stage, where the level has it; without it the faster one for the shape. */
export interface CpuScreen {
  readonly screen?: "float32" | "int16" | "uniform" | "int8" | "prefix" | undefined;
}

export interface CpuInfo {
  /** The best level of this machine. */
  readonly instructionSet: string;
  /** All levels of this machine, best first. */
  readonly instructionSets: readonly string[];
  /** Processors that this process may use: affinity and container quota. */
  readonly processors: number;
}

/** Throws a TypeError for any request that does not fit; after dispose() every call throws. */
export interface CpuCodebooks {
  encode(request: EncodeRequest): Promise<BadInput | null>;
  encodeSync(request: EncodeRequest): BadInput | null;
  decode(request: DecodeRequest): Promise<void>;
  decodeSync(request: DecodeRequest): void;
  distances(request: DistanceRequest): Promise<void>;
  distancesSync(request: DistanceRequest): void;
  assign(request: AssignRequest): Promise<void>;
  dispose(): void;
  /** Only in builds for tests: the codes that the screen alone is certain of, −1 where it is not. */
  screenVerdicts?(request: { vectors: Float32Array; count: number; stage: number; verdicts: Int32Array }): void;
  /** Only in builds for tests: the nearest codeword by the screen's score alone, without bounds, to measure their price. */
  screenOnly?(request: { vectors: Float32Array; count: number; stage: number; codes: Int32Array }): void;
}

/** A ScanCodesRequest with its columns beside it; words[numWords][vectors]. */
export interface CpuScanRequest extends Omit<ScanCodesRequest, "columns">, CodeColumns {
  readonly numWords: number;
}

/** What is packed, how (lib/pack-layout.ts), and where to; for unpacking the other way round. */
export interface PackRequest {
  /** [count][stages] */
  readonly codes: CodeArray;
  readonly count: number;
  readonly stages: number;
  /** [stages] */
  readonly codebookSizes: Int32Array;
  /** Codes of a group: [groups], which add up to the stages; or with `stageMajor` [stages], of one stage each. */
  readonly groupLengths: Int32Array;
  readonly groups: number;
  readonly stageMajor: boolean;
  /** [sizeBytes], as the other fields say. */
  readonly bytes: Uint8Array;
  readonly sizeBytes: number;
}

/** Throws a TypeError for any request that does not fit; after dispose() every call throws. */
export interface CpuProjection {
  project(request: ProjectRequest): Promise<BadInput | null>;
  projectSync(request: ProjectRequest): BadInput | null;
  dispose(): void;
}

export interface Addon {
  cpuInfo(): CpuInfo;
  /** Only in builds for tests: `processors` as it would be with `<root>/proc/self/cgroup` and `<root>/sys/fs/cgroup`. */
  processorsUnder?(root: string): number;
  /** Only in builds for tests: the most threads that asynchronous calls have had at once since this was last asked. */
  mostThreads?(): number;
  readonly CpuCodebooks: new (spec: CodebookSpec & CpuPrevious & CpuOptions & CpuScreen) => CpuCodebooks;
  readonly CpuProjection: new (projection: Projection & CpuOptions) => CpuProjection;
  accumulate(request: AccumulateRequest, options: CpuOptions): Promise<void>;
  lowerDistances(request: LowerDistancesRequest, options: CpuOptions): Promise<void>;
  scanCodes(request: CpuScanRequest, options: CpuOptions): Promise<void>;
  /** False: some code is not below its codebook size, and the bytes are incomplete. */
  packCodes(request: PackRequest): boolean;
  /** 0: all is well; 1: some code is not below its codebook size; 2: only a bit of the padding is set. */
  unpackCodes(request: PackRequest): 0 | 1 | 2;
  /** target = source, of as many bytes, read and written before it returns; large ones by several threads, 1 … 1024. */
  copyElements(request: {
    readonly source: Float32Array | CodeArray;
    readonly target: Float32Array | CodeArray;
    readonly threads: number;
  }): void;
  /** Float32 multiply-adds of these threads together with all operands in registers, GFLOP/s; takes about 10 ms. */
  fmaPeak(options: CpuOptions): number;
}
