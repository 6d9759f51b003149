// The draws of k-means++ on the device.

import type { DeviceMemory, SeedDraws, SeedDrawsRequest } from "../resident.js";
import type { CudaAddon, CudaOptions } from "./addon.js";
import { asRvqError } from "./errors.js";

/** In the place of a row: all distances are zero. */
const noRow = 2 ** 32 - 1;

export class CudaSeedDraws implements SeedDraws {
  private fresh = true;
  private last: number;

  constructor(
    private readonly addon: CudaAddon,
    private readonly options: CudaOptions,
    private readonly request: SeedDrawsRequest,
    private readonly vectors: DeviceMemory,
    /** distances[count] of float64. */
    private readonly distances: DeviceMemory,
  ) {
    this.last = request.first;
  }

  async draw(fractions: Float64Array): Promise<Uint32Array> {
    const { addon, options, vectors, distances, fresh, last } = this;
    const { count, dim, weights } = this.request;
    const rows = new Uint32Array(fractions.length);
    const draws = { fresh, last, fractions, draws: fractions.length, rows };
    await asRvqError(async () =>
      addon.cudaDrawResident({ vectors, count, dim, weights, distances, ...draws }, options),
    );
    this.fresh = false;
    const end = rows.indexOf(noRow);
    const drawn = end === -1 ? rows : rows.subarray(0, end);
    if (drawn.length > 0) this.last = drawn[drawn.length - 1];
    return drawn;
  }

  dispose(): void {
    this.distances.dispose();
  }
}
