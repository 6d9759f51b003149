// rvq's side of the comparison: vectors that are on the device, and the time that the device took.

import { ResidualQuantizer } from "../../lib/index.js";

/** One quantizer and its vectors on the card. */
export class ResidentSearch {
  private constructor(
    readonly rq: ResidualQuantizer,
    private readonly vectors: Float32Array,
  ) {}

  /** `vectors` [rows][dim]. */
  static async open(codebooks: readonly Float32Array[], dim: number, vectors: Float32Array): Promise<ResidentSearch> {
    const rq = ResidualQuantizer.fromCodebooks(codebooks, { dim, backend: "cuda" });
    return new ResidentSearch(rq, vectors);
  }

  /** ms of one call. */
  async time(stages: number): Promise<number> {
    const start = performance.now();
    await this.rq.encode(this.vectors, { stages });
    return performance.now() - start;
  }

  /** codes[rows][stages]. */
  async codes(stages: number): Promise<ArrayLike<number>> {
    return (await this.rq.encode(this.vectors, { stages })).data;
  }

  close(): void {
    this.rq.dispose();
  }
}
