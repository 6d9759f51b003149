// Vectors and codes that stay on a GPU: what DeviceQuantizer takes and gives.

import type { CodeArray } from "../backend.js";
import { allocate, type Codes } from "../check.js";
import { RvqError } from "../errors.js";
import type { DeviceMemory } from "../resident.js";

/** What both kinds of arrays are. Only a DeviceQuantizer makes them. */
export abstract class DeviceArray {
  private disposed = false;
  /** Calls that go on with the memory although it may have been disposed of. */
  private borrowers = 0;

  /** @internal */
  constructor(
    private readonly memory: DeviceMemory,
    /** The number of the GPU that it is on. */
    readonly device: number,
    /** Device memory in bytes. V8 knows of it: arrays that nothing refers to any more are freed sooner or later. */
    readonly sizeBytes: number,
    /** How long the kernels took that made this, in milliseconds by the device's own clock; 0 where it was uploaded. */
    readonly kernelMs: number,
  ) {}

  /** @internal The memory; throws where it has been disposed of. */
  inUse(name: string): DeviceMemory {
    if (!this.disposed) return this.memory;
    throw new RvqError("DISPOSED", `${name}: expected a device array in use, got one after dispose()`);
  }

  /** @internal The memory, which is there until it is given back (once), for something that makes several calls. */
  protected borrow(name: string): { memory: DeviceMemory; giveBack: () => void } {
    const memory = this.inUse(name);
    this.borrowers++;
    const giveBack = () => {
      this.borrowers--;
      this.freeUnused();
    };
    return { memory, giveBack };
  }

  /** Frees the device memory now; calls in flight finish first, later ones throw. */
  dispose(): void {
    this.disposed = true;
    this.freeUnused();
  }

  /** For `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  private freeUnused(): void {
    if (this.disposed && this.borrowers === 0) this.memory.dispose();
  }
}

/** @internal vectors[count][dim] on a device, whatever becomes of their array until they are given back. */
export interface LentVectors {
  readonly memory: DeviceMemory;
  readonly device: number;
  readonly count: number;
  readonly dim: number;
  readonly giveBack: () => void;
}

/** vectors[count][dim] on a device. */
export class DeviceVectors extends DeviceArray {
  /** @internal */
  constructor(
    memory: DeviceMemory,
    device: number,
    readonly count: number,
    readonly dim: number,
    kernelMs: number,
  ) {
    super(memory, device, count * dim * Float32Array.BYTES_PER_ELEMENT, kernelMs);
  }

  /** @internal */
  lend(name: string): LentVectors {
    const { device, count, dim } = this;
    return { ...this.borrow(name), device, count, dim };
  }

  /**
   * A copy in host memory, [count][dim].
   * @throws RvqError DISPOSED, OUT_OF_MEMORY, DEVICE_LOST
   */
  async download(): Promise<Float32Array> {
    const memory = this.inUse("vectors");
    const target = allocate("the vectors", this.count * this.dim, (length) => new Float32Array(length));
    await memory.download({ target, offset: 0 });
    return target;
  }
}

/** codes[count][stages] on a device. */
export class DeviceCodes extends DeviceArray {
  /** @internal */
  constructor(
    memory: DeviceMemory,
    device: number,
    readonly count: number,
    readonly stages: number,
    /** @internal 32 bits a code, else 16. */
    readonly wide: boolean,
    kernelMs: number,
    /** What the last stage left over, where `encode` was asked for it; an array of its own, to be disposed of apart. */
    readonly residuals: DeviceVectors | null = null,
  ) {
    super(memory, device, count * stages * (wide ? 4 : 2), kernelMs);
  }

  /**
   * A copy in host memory.
   * @throws RvqError DISPOSED, OUT_OF_MEMORY, DEVICE_LOST
   */
  async download(): Promise<Codes> {
    const { count, stages, wide } = this;
    const memory = this.inUse("codes");
    const make = (length: number): CodeArray => (wide ? new Uint32Array(length) : new Uint16Array(length));
    const data = allocate("the codes", count * stages, make);
    await memory.download({ target: data, offset: 0 });
    return { count, stages, data };
  }
}
