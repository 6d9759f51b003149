// The `cuda` backend: the CUDA core behind the contract of `lib/backend.ts`, with the `cpu` backend for what suits it better.

import type {
  AccumulateRequest,
  Backend,
  BackendOptions,
  CodebookSpec,
  LowerDistancesRequest,
  PreparedCodebooks,
  PreparedProjection,
  Projection,
  StagingMemory,
} from "../backend.js";
import type { Addon } from "../cpu/addon.js";
import { invalidArgument, isLoss, RvqError } from "../errors.js";
import { type HeldRows, mostResidentRows, type SeedDraws, type SeedDrawsRequest } from "../resident.js";
import type { CudaAddon, CudaDevice, CudaOptions } from "./addon.js";
import { CudaPreparedCodebooks } from "./codebooks.js";
import { smallestDeviceWork } from "./device-work.js";
import { asRvqError, asRvqErrorSync, withRvqErrors } from "./errors.js";
import { HeldVectors } from "./held-vectors.js";
import { CudaSeedDraws } from "./seed-draws.js";
import { CudaStaging, roomBytes } from "./staging.js";

/** Turing: the oldest that the addon has machine code for. */
const oldestCapability = 7.5;

/** Multiply-adds of a mid-size GPU in about 50 ms: a call of this size keeps it busy and stays cancellable. */
const multiplyAddsPerChunk = 2e11;
/** Elements of a chunk at most: copying 16 MiB holds the event loop for a millisecond or two, and is worth several threads. */
const elementsPerChunk = roomBytes / Float32Array.BYTES_PER_ELEMENT;

/** How the backend was asked for, and the `cpu` backend of the same addon, which is opened when it is first needed. */
export interface CudaCompany {
  /** `"auto"`: short calls, and all after the device was lost, go to the processor. */
  readonly auto: boolean;
  readonly openCpu: () => Backend;
}

/**
 * Opens a device, the first that can run unless `options.device` names one.
 *
 * @param addon the exports of rvq.node
 * @param file where they were loaded from, for the description
 * @throws RvqError BACKEND_UNAVAILABLE with the reason; INVALID_ARGUMENT for a device that does not exist
 */
export function openCuda(addon: object, file: string, options: BackendOptions, company: CudaCompany): Backend {
  const native = addon as CudaAddon & Addon;
  const { reason, devices } = native.cudaInfo();
  if (reason !== null) throw new RvqError("BACKEND_UNAVAILABLE", reason);
  const missing = [
    "cudaOpen",
    "cudaLost",
    "CudaCodebooks",
    "CudaMemory",
    "cudaAccumulate",
    "cudaMagnitudesResident",
    "cudaDrawResident",
    "cudaGatherResident",
    "cudaLowerDistances",
    "cudaStagingRoom",
    "copyElements",
  ].filter((name) => typeof (addon as Readonly<Record<string, unknown>>)[name] !== "function");
  if (missing.length > 0) {
    const what = missing.join(", ");
    throw new RvqError("BACKEND_UNAVAILABLE", `${file} lacks ${what}; build it again with npm run build`);
  }
  const device = chooseDevice(devices, options.device);
  try {
    native.cudaOpen({ device });
  } catch (cause) {
    const { message } = cause as Error;
    throw new RvqError("BACKEND_UNAVAILABLE", `${devices[device].name}: ${message}`, { cause });
  }
  const threads = options.threads ?? native.cpuInfo().processors;
  const { name, computeCapability, memoryBytes } = devices[device];
  const memory = `${(memoryBytes / 2 ** 30).toFixed(1)} GiB`;
  const description = `${name}, sm_${computeCapability.replace(".", "")}, ${memory}, device ${device}, ${file}`;
  return new CudaBackend(native, { device, threads }, description, company);
}

class CudaBackend implements Backend {
  readonly name = "cuda";
  // One that is copied to or from a room, one that crosses the bus, and one that is searched.
  readonly chunksInFlight = 3;
  readonly checksCodes = true;
  readonly staging: StagingMemory;
  private openedCpu: Backend | null = null;
  private readonly device: number;
  private readonly Memory: CudaAddon["CudaMemory"];

  constructor(
    private readonly addon: CudaAddon & Addon,
    private readonly options: Required<CudaOptions>,
    readonly description: string,
    private readonly company: CudaCompany,
  ) {
    this.device = options.device;
    this.staging = new CudaStaging(addon, options.device, options.threads);
    this.Memory = withRvqErrors(addon.CudaMemory);
  }

  chunkRows(dim: number, codewordsPerVector: number, copied = true): number {
    const busy = multiplyAddsPerChunk / (dim * codewordsPerVector);
    return Math.max(1, Math.floor(Math.min(busy, copied ? elementsPerChunk / dim : Number.POSITIVE_INFINITY)));
  }

  prepare(spec: CodebookSpec, previous?: Float32Array): PreparedCodebooks {
    const { dim, metric, weights, codebooks } = spec;
    const { addon, device, options } = this;
    return new CudaPreparedCodebooks({
      device,
      sizes: codebooks.map((codebook) => codebook.length / dim),
      dim,
      auto: this.company.auto,
      // The device has no use for `previous`: it searches everything again.
      onDevice: () => new addon.CudaCodebooks({ dim, metric, weights, codebooks, ...options }),
      onCpu: () => this.cpu().prepare(spec, previous),
      lost: () => addon.cudaLost({ device }),
      allocate: (bytes) => new this.Memory({ ...options, bytes }),
      accumulate: (request) => addon.cudaAccumulateResident(request, { device }),
      magnitudes: (request) => addon.cudaMagnitudesResident(request, options),
    });
  }

  /** The processor's: GeForce has a 64th of its speed in float64, and the rows are on the processor before and after. */
  prepareProjection(projection: Projection): PreparedProjection {
    return this.cpu().prepareProjection(projection);
  }

  async hold(vectors: Float32Array, dim: number): Promise<HeldRows | null> {
    const { addon, options } = this;
    if (vectors.length === 0 || vectors.length % dim !== 0) return null;
    if (this.goesToCpu(vectors.length, smallestDeviceWork.hold)) return null;
    try {
      const memory = asRvqErrorSync(() => new this.Memory({ ...options, bytes: vectors.byteLength }));
      return await HeldVectors.of(addon, options, memory, vectors, dim);
    } catch (error) {
      // Then every call brings its rows along; what else is wrong they will say.
      if (isLoss(error)) return null;
      throw error;
    }
  }

  drawSeeds(held: HeldRows, request: SeedDrawsRequest): SeedDraws | null {
    const { addon, options } = this;
    const { count, dim } = request;
    if (count > mostResidentRows || this.goesToCpu(count * dim, smallestDeviceWork.lowerHeldDistances)) return null;
    try {
      const distances = asRvqErrorSync(() => new this.Memory({ ...options, bytes: count * 8 }));
      return new CudaSeedDraws(addon, options, request, held.memory, distances);
    } catch (error) {
      if (isLoss(error)) return null;
      throw error;
    }
  }

  stepsOnDevice(multiplyAdds: number): boolean {
    return !this.goesToCpu(multiplyAdds, smallestDeviceWork.step);
  }

  async accumulate(request: AccumulateRequest): Promise<void> {
    const work = request.count * request.dim;
    if (this.goesToCpu(work, smallestDeviceWork.accumulate)) return this.cpu().accumulate(request);
    const { addon, options } = this;
    await asRvqError(async () => addon.cudaAccumulate(HeldVectors.addTo(request, request.dim), options));
  }

  async lowerDistances(request: LowerDistancesRequest): Promise<void> {
    const work = request.count * request.dim;
    const { addon, options } = this;
    const resident = HeldVectors.addTo(request, request.dim);
    const smallest = smallestDeviceWork[resident.resident === undefined ? "lowerDistances" : "lowerHeldDistances"];
    if (this.goesToCpu(work, smallest)) return this.cpu().lowerDistances(request);
    await asRvqError(async () => addon.cudaLowerDistances(resident, options));
  }

  /** The tables of a query fit in a processor's cache, and its codes would have to cross the bus. */
  get scanCodes(): Backend["scanCodes"] {
    const cpu = this.cpu();
    return cpu.scanCodes?.bind(cpu);
  }

  private goesToCpu(work: number, smallest: number): boolean {
    return this.company.auto && (work < smallest || this.addon.cudaLost({ device: this.device }));
  }

  private cpu(): Backend {
    this.openedCpu ??= this.company.openCpu();
    return this.openedCpu;
  }
}

function chooseDevice(devices: readonly CudaDevice[], wanted: number | undefined): number {
  if (wanted !== undefined && wanted >= devices.length) {
    const there = devices.map(({ name }, i) => `${i} (${name})`).join(", ");
    throw invalidArgument("device", `one that exists: ${there}`, wanted);
  }
  const runs = ({ computeCapability }: CudaDevice) => Number(computeCapability) >= oldestCapability;
  const device = wanted ?? Math.max(0, devices.findIndex(runs));
  if (runs(devices[device])) return device;
  const { name, computeCapability } = devices[device];
  throw new RvqError(
    "BACKEND_UNAVAILABLE",
    `${name} has compute capability ${computeCapability}; ${oldestCapability} or newer is needed`,
  );
}
