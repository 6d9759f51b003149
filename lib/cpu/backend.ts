// The `cpu` backend: the native core behind the contract of `lib/backend.ts`.

import type {
  AccumulateRequest,
  AssignRequest,
  Backend,
  BackendOptions,
  BadInput,
  CodebookSpec,
  DecodeRequest,
  DistanceRequest,
  EncodeRequest,
  LowerDistancesRequest,
  PreparedCodebooks,
  PreparedProjection,
  Projection,
  ProjectRequest,
  ScanCodesRequest,
} from "../backend.js";
import { invalidArgument, RvqError } from "../errors.js";
import type { Addon, CpuCodebooks, CpuOptions, CpuProjection } from "./addon.js";

export type { Addon } from "./addon.js";

/** Forces a level: "avx512vnni", "avx512", "avx2", "neon" or "portable". */
const levelVariable = "RVQ_CPU";

/** Multiply-adds of one thread in about 50 ms: a chunk of this size keeps the threads busy and a call cancellable. */
const multiplyAddsPerChunk = 2e9;
/** Elements of a chunk at most: copying 4 MiB holds the event loop for one or two milliseconds. */
const elementsPerChunk = 2 ** 20;
/** The addon refuses more. */
const mostThreads = 1024;

/**
 * Opens the CPU core.
 *
 * @param addon the exports of rvq.node
 * @param file where they were loaded from, for the description
 * @throws RvqError BACKEND_UNAVAILABLE where RVQ_CPU names a level that this machine does not have
 */
export function openCpu(addon: object, file: string, options: BackendOptions = {}): Backend {
  const native = asAddon(addon, file);
  const info = native.cpuInfo();
  const instructionSet = chooseLevel(info.instructionSets, process.env[levelVariable]);
  const threads = options.threads ?? info.processors;
  if (!Number.isInteger(threads) || threads < 1 || threads > mostThreads)
    throw invalidArgument("threads", `an integer in 1 … ${mostThreads}`, threads);
  return new CpuBackend(native, file, { threads, instructionSet });
}

class CpuBackend implements Backend {
  readonly name = "cpu";
  // One that runs, one that waits, and one whose result is being taken.
  readonly chunksInFlight = 3;
  readonly checksCodes = true;
  readonly description: string;

  constructor(
    private readonly addon: Addon,
    file: string,
    private readonly options: CpuOptions,
  ) {
    const threads = options.threads === 1 ? "1 thread" : `${options.threads} threads`;
    this.description = `${options.instructionSet}, ${threads}, ${file}`;
  }

  chunkRows(dim: number, codewordsPerVector: number, copied = true): number {
    const busy = (multiplyAddsPerChunk * this.options.threads) / (dim * codewordsPerVector);
    return Math.max(1, Math.floor(Math.min(busy, copied ? elementsPerChunk / dim : Infinity)));
  }

  prepare(spec: CodebookSpec, previous?: Float32Array): PreparedCodebooks {
    const { dim, metric, weights, codebooks } = spec;
    const stages = { dim, metric, weights, codebooks, previous };
    return new CpuPreparedCodebooks(new this.addon.CpuCodebooks({ ...stages, ...this.options }));
  }

  prepareProjection(projection: Projection): PreparedProjection {
    const { weight, bias, inDim, outDim } = projection;
    return new CpuPreparedProjection(new this.addon.CpuProjection({ weight, bias, inDim, outDim, ...this.options }));
  }

  async accumulate(request: AccumulateRequest): Promise<void> {
    await this.addon.accumulate(request, this.options);
  }

  async lowerDistances(request: LowerDistancesRequest): Promise<void> {
    await this.addon.lowerDistances(request, this.options);
  }

  async scanCodes({ columns, ...request }: ScanCodesRequest): Promise<void> {
    const numWords = columns.words.length / columns.vectors;
    await this.addon.scanCodes({ ...request, ...columns, numWords }, this.options);
  }
}

/** Only a wrapper: an error of the addon's argument checks becomes a rejection in the asynchronous methods. */
class CpuPreparedCodebooks implements PreparedCodebooks {
  constructor(private readonly native: CpuCodebooks) {}

  async encode(request: EncodeRequest): Promise<BadInput | null> {
    return this.native.encode(request);
  }

  encodeSync(request: EncodeRequest): BadInput | null {
    return this.native.encodeSync(request);
  }

  async decode(request: DecodeRequest): Promise<void> {
    await this.native.decode(request);
  }

  decodeSync(request: DecodeRequest): void {
    this.native.decodeSync(request);
  }

  async distances(request: DistanceRequest): Promise<void> {
    await this.native.distances(request);
  }

  distancesSync(request: DistanceRequest): void {
    this.native.distancesSync(request);
  }

  async assign(request: AssignRequest): Promise<void> {
    await this.native.assign(request);
  }

  dispose(): void {
    this.native.dispose();
  }
}

class CpuPreparedProjection implements PreparedProjection {
  constructor(private readonly native: CpuProjection) {}

  async project(request: ProjectRequest): Promise<BadInput | null> {
    return this.native.project(request);
  }

  projectSync(request: ProjectRequest): BadInput | null {
    return this.native.projectSync(request);
  }

  dispose(): void {
    this.native.dispose();
  }
}

function chooseLevel(levels: readonly string[], wanted: string | undefined): string {
  if (wanted === undefined || wanted === "") return levels[0];
  if (levels.includes(wanted)) return wanted;
  const has = levels.join(", ");
  throw new RvqError(
    "BACKEND_UNAVAILABLE",
    `${levelVariable}=${wanted} is not a level of this machine, which has ${has}`,
  );
}

/** A stale build of another version may lack something: better said here than as "is not a function" later. */
function asAddon(addon: object, file: string): Addon {
  const names = ["cpuInfo", "CpuCodebooks", "CpuProjection", "accumulate", "lowerDistances"] as const;
  const functions = addon as Readonly<Record<string, unknown>>;
  const missing = names.filter((name) => typeof functions[name] !== "function");
  if (missing.length === 0) return addon as Addon;
  const what = missing.join(", ");
  throw new RvqError("BACKEND_UNAVAILABLE", `${file} lacks ${what}; build it again with npm run build`);
}
