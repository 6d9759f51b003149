// Vectors that the device has too, while a training goes over them again and again.

import type { HeldRequest } from "../backend.js";
import type { DeviceMemory, HeldRows } from "../resident.js";
import type { CudaAddon, CudaOptions, ResidentRows } from "./addon.js";
import { asRvqError } from "./errors.js";

export class HeldVectors implements HeldRows {
  private constructor(
    private readonly addon: CudaAddon,
    private readonly options: CudaOptions,
    readonly memory: DeviceMemory,
    private readonly vectors: Float32Array,
    private readonly dim: number,
  ) {}

  /** Of vectors[…][dim], for which it fills the memory. */
  static async of(
    addon: CudaAddon,
    options: CudaOptions,
    memory: DeviceMemory,
    vectors: Float32Array,
    dim: number,
  ): Promise<HeldVectors> {
    try {
      await memory.upload({ source: vectors, offset: 0 });
      return new HeldVectors(addon, options, memory, vectors, dim);
    } catch (error) {
      memory.dispose();
      throw error;
    }
  }

  async gather(rows: Uint32Array): Promise<Float32Array> {
    const { addon, options, memory, vectors, dim } = this;
    const gathered = new Float32Array(rows.length * dim);
    const request = { vectors: memory, count: vectors.length / dim, dim, rows, wanted: rows.length, gathered };
    await asRvqError(async () => addon.cudaGatherResident(request, options));
    return gathered;
  }

  dispose(): void {
    this.memory.dispose();
  }

  /** The request with where its rows are on the device. */
  static addTo<Request extends HeldRequest & { readonly vectors: Float32Array }>(
    request: Request,
    dim: number,
  ): Request & ResidentRows {
    const { held, vectors } = request;
    if (!(held instanceof HeldVectors) || held.vectors.buffer !== vectors.buffer) return request;
    const firstRow = (vectors.byteOffset - held.vectors.byteOffset) / (dim * Float32Array.BYTES_PER_ELEMENT);
    return { ...request, resident: held.memory, firstRow };
  }
}
