// Prepared codebooks of the `cuda` backend: on the device, and on the processor for what it does better or alone.

import type {
  AssignRequest,
  BadInput,
  DecodeRequest,
  DistanceRequest,
  EncodeRequest,
  PreparedCodebooks,
} from "../backend.js";
import { isLoss, RvqError } from "../errors.js";
import type { ResidentCodebooks } from "../resident.js";
import type { CudaCodebooks } from "./addon.js";
import { smallestDeviceWork } from "./device-work.js";
import { asRvqError, asRvqErrorSync } from "./errors.js";
import { HeldVectors } from "./held-vectors.js";

export interface CudaCodebooksSource {
  readonly device: number;
  readonly dim: number;
  /** K_s of every stage. */
  readonly sizes: readonly number[];
  /** Short calls, and all that the device cannot do, go to the processor. */
  readonly auto: boolean;
  readonly onDevice: () => CudaCodebooks;
  readonly onCpu: () => PreparedCodebooks;
  readonly lost: () => boolean;
  readonly allocate: ResidentCodebooks["allocate"];
  readonly accumulate: ResidentCodebooks["accumulate"];
  readonly magnitudes: ResidentCodebooks["magnitudes"];
}

/**
 * Both forms are made when they are first needed, from codebooks that their owner leaves alone meanwhile; that on the device at once
 * unless the choice is automatic. A beam of two and more is searched on the processor: the results are the same.
 */
export class CudaPreparedCodebooks implements PreparedCodebooks {
  private device: CudaCodebooks | null = null;
  private cpu: PreparedCodebooks | null = null;
  private withoutDevice = false;
  private disposed = false;

  constructor(private readonly source: CudaCodebooksSource) {
    if (!source.auto) this.device = asRvqErrorSync(source.onDevice);
  }

  encode(request: EncodeRequest): Promise<BadInput | null> {
    return asRvqError(async () => this.forEncode(request).encode(request));
  }

  encodeSync(request: EncodeRequest): BadInput | null {
    return asRvqErrorSync(() => this.forEncode(request).encodeSync(request));
  }

  async decode(request: DecodeRequest): Promise<void> {
    const additions = request.count * request.stages * this.source.dim;
    await asRvqError(async () => this.choose(additions, smallestDeviceWork.decode).decode(request));
  }

  decodeSync(request: DecodeRequest): void {
    const additions = request.count * request.stages * this.source.dim;
    asRvqErrorSync(() => this.choose(additions, smallestDeviceWork.decode).decodeSync(request));
  }

  async distances(request: DistanceRequest): Promise<void> {
    const work = request.count * request.stages * this.source.dim;
    await asRvqError(async () => this.choose(work, smallestDeviceWork.distances).distances(request));
  }

  distancesSync(request: DistanceRequest): void {
    const work = request.count * request.stages * this.source.dim;
    asRvqErrorSync(() => this.choose(work, smallestDeviceWork.distances).distancesSync(request));
  }

  async assign(request: AssignRequest): Promise<void> {
    const { sizes, dim } = this.source;
    const codebooks = this.choose(request.count * sizes[0] * dim, smallestDeviceWork.assign);
    await asRvqError(async () => codebooks.assign(HeldVectors.addTo(request, dim)));
  }

  /** All of it is the device's: nothing goes to the processor, also where the choice is automatic. */
  resident(): ResidentCodebooks {
    const { device, allocate, accumulate, magnitudes } = this.source;
    return {
      device,
      allocate: (bytes) => asRvqErrorSync(() => allocate(bytes)),
      encode: (request) => asRvqError(async () => this.onlyDevice().encodeResident(request)),
      decode: (request) => asRvqError(async () => this.onlyDevice().decodeResident(request)),
      accumulate: (request) => asRvqError(async () => accumulate(request)),
      magnitudes: (request) => asRvqError(async () => magnitudes(request)),
      codewordMagnitudes: (request) => asRvqError(async () => this.onlyDevice().codewordMagnitudesResident(request)),
      learn: (request) => asRvqError(async () => this.onlyDevice().learnResident(request)),
      means: (request) => asRvqError(async () => this.onlyDevice().meansResident(request)),
      loadCodewords: (request) => asRvqError(async () => this.onlyDevice().loadCodewordsResident(request)),
      readCodewords: (request) => asRvqError(async () => this.onlyDevice().readCodewordsResident(request)),
    };
  }

  dispose(): void {
    this.disposed = true;
    this.device?.dispose();
    this.cpu?.dispose();
    this.device = null;
    this.cpu = null;
  }

  private forEncode(request: EncodeRequest): CudaCodebooks | PreparedCodebooks {
    if ((request.beam ?? 1) > 1) return this.onCpu();
    const codewords = this.source.sizes.slice(0, request.stages).reduce((sum, size) => sum + size, 0);
    return this.choose(request.count * codewords * this.source.dim, smallestDeviceWork.encode);
  }

  private choose(work: number, smallest: number): CudaCodebooks | PreparedCodebooks {
    const { auto, lost } = this.source;
    if (auto && (work < smallest || this.withoutDevice || lost())) return this.onCpu();
    return this.onDevice() ?? this.onCpu();
  }

  /** Null where the choice is automatic and they do not fit on the device, or it is lost. */
  private onDevice(): CudaCodebooks | null {
    this.checkInUse();
    if (this.device !== null) return this.device;
    try {
      this.device = asRvqErrorSync(this.source.onDevice);
    } catch (error) {
      if (!isLoss(error)) throw error;
      this.withoutDevice = true;
    }
    return this.device;
  }

  private onlyDevice(): CudaCodebooks {
    this.checkInUse();
    this.device ??= this.source.onDevice();
    return this.device;
  }

  private onCpu(): PreparedCodebooks {
    this.checkInUse();
    this.cpu ??= this.source.onCpu();
    return this.cpu;
  }

  private checkInUse(): void {
    if (this.disposed) throw new RvqError("DISPOSED", "codebooks: expected some in use, got some after dispose()");
  }
}
