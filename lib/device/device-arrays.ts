// Vectors and codes that stay on a GPU: what DeviceQuantizer takes and gives.

import type { CodeArray, DeviceMemory } from "../backend.js";
import { allocate, type Codes } from "../check.js";
import { RvqError } from "../errors.js";

/** What both kinds of arrays are. Only a DeviceQuantizer makes them. */
export abstract class DeviceArray {
  private memory: DeviceMemory | null;

  /** @internal */
  constructor(
    memory: DeviceMemory,
    /** The number of the GPU that it is on. */
    readonly device: number,
    /** Device memory in bytes. V8 knows of it: arrays that nothing refers to any more are freed sooner or later. */
    readonly sizeBytes: number,
    /** How long the kernels took that made this, in milliseconds by the device's own clock; 0 where it was uploaded. */
    readonly kernelMs: number,
  ) {
    this.memory = memory;
  }

  /** @internal The memory; throws where it has been disposed of. */
  inUse(name: string): DeviceMemory {
    if (this.memory !== null) return this.memory;
    throw new RvqError("DISPOSED", `${name}: expected a device array in use, got one after dispose()`);
  }

  /** Frees the device memory now; calls in flight finish first, later ones throw. */
  dispose(): void {
    this.memory?.dispose();
    this.memory = null;
  }

  /** For `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
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
