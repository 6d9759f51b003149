// Vectors that the device has too, while a training goes over them again and again.

import type { DeviceMemory, HeldRequest, HeldRows } from "../backend.js";
import type { ResidentRows } from "./addon.js";

export class HeldVectors implements HeldRows {
  private constructor(
    readonly memory: DeviceMemory,
    private readonly vectors: Float32Array,
  ) {}

  static async of(vectors: Float32Array, allocate: (bytes: number) => DeviceMemory): Promise<HeldVectors> {
    const memory = allocate(vectors.byteLength);
    try {
      await memory.upload({ source: vectors, offset: 0 });
      return new HeldVectors(memory, vectors);
    } catch (error) {
      memory.dispose();
      throw error;
    }
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
