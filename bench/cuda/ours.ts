// rvq's side of the comparison: vectors that are on the device, and the time that the device took.

import { type DeviceVectors, ResidualQuantizer } from "../../lib/index.js";
import { median } from "../interleave.js";

/** Shorter calls are made several times a turn, as the peers' are. */
const shortMs = 60;
const mostCalls = 5;

/** One quantizer and its vectors on the card. */
export class ResidentSearch {
  private constructor(
    private readonly rq: ResidualQuantizer,
    private readonly vectors: DeviceVectors,
  ) {}

  /** `vectors` [rows][dim]. */
  static async open(codebooks: readonly Float32Array[], dim: number, vectors: Float32Array): Promise<ResidentSearch> {
    const rq = ResidualQuantizer.fromCodebooks(codebooks, { dim, backend: "cuda" });
    return new ResidentSearch(rq, await rq.device.upload(vectors));
  }

  /** Median ms of a few calls after one that does not count, by the device's own clock. */
  async time(stages: number): Promise<number> {
    const estimate = await this.encodeMs(stages);
    const calls = Math.max(1, Math.min(mostCalls, Math.floor(shortMs / estimate)));
    const times: number[] = [];
    for (let call = 0; call < calls; call++) times.push(await this.encodeMs(stages));
    return median(times);
  }

  /** codes[rows][stages]. */
  async codes(stages: number): Promise<ArrayLike<number>> {
    const codes = await this.rq.device.encode(this.vectors, { stages });
    const { data } = await codes.download();
    codes.dispose();
    return data;
  }

  close(): void {
    this.vectors.dispose();
    this.rq.dispose();
  }

  private async encodeMs(stages: number): Promise<number> {
    const codes = await this.rq.device.encode(this.vectors, { stages });
    codes.dispose();
    return codes.kernelMs;
  }
}
