// Few vectors at a time on the device, by both forms of search: what a call costs, and where one form overtakes the other.

import { loadAddon } from "../../lib/addon.js";
import type { CudaAddon } from "../../lib/cuda/addon.js";
import { type DeviceVectors, ResidualQuantizer } from "../../lib/index.js";
import { Random } from "../../lib/random.js";
import { median } from "../interleave.js";

const native = loadAddon().addon as CudaAddon | null;

/** undefined: that which the core chooses. A release has no way to ask for another. */
export type SearchForm = "split" | "whole" | undefined;
export const searchForms: readonly SearchForm[] =
  native?.cudaTestLimits === undefined ? [undefined] : ["split", "whole", undefined];

export async function withSearchForm<Result>(searchForm: SearchForm, run: () => Promise<Result>): Promise<Result> {
  native?.cudaTestLimits?.({ pieceRows: 0, memoryBytes: 0, searchForm });
  try {
    return await run();
  } finally {
    native?.cudaTestLimits?.({ pieceRows: 0, memoryBytes: 0 });
  }
}

/** Around the work from which on the core splits (kLeastStageWork of cuda/split_search.cu) and far above it. */
const shapes = [
  { dim: 8, size: 1024, stages: 9 },
  { dim: 128, size: 128, stages: 8 },
  { dim: 64, size: 1024, stages: 1 },
  { dim: 128, size: 1024, stages: 8 },
  { dim: 256, size: 2048, stages: 8 },
  { dim: 768, size: 1024, stages: 1 },
  { dim: 96, size: 65_536, stages: 1 },
];
/** Up to as many as tests may split (kMostForcedRows). */
const counts = [1, 4, 16, 64, 256];
const calls = 15;

/** Median ms of the kernels of a call, by the device's own clock, for every shape, number of vectors and form. */
export async function measureFewRows(add: (what: string, ms: number, remark: string) => void): Promise<void> {
  for (const { dim, size, stages } of shapes) {
    const random = new Random(1);
    const numbers = (length: number) => Float32Array.from({ length }, () => random.fraction() - 0.5);
    const codebooks = Array.from({ length: stages }, () => numbers(size * dim));
    const rq = ResidualQuantizer.fromCodebooks(codebooks, { dim, backend: "cuda" });
    for (const count of counts) {
      const vectors = await rq.device.upload(numbers(count * dim));
      const times: { form: SearchForm; ms: number }[] = [];
      for (const form of searchForms) {
        times.push({ form, ms: await withSearchForm(form, () => kernelMs(rq, vectors)) });
      }
      const remark = times.map(({ form, ms }) => `${form ?? "as chosen"} ${(1000 * ms).toFixed(1)} µs`).join(", ");
      add(
        `kernels, ${count} vectors, D ${dim} K ${size}, ${stages} stages`,
        Math.min(...times.map(({ ms }) => ms)),
        remark,
      );
      vectors.dispose();
    }
    rq.dispose();
  }
}

async function kernelMs(rq: ResidualQuantizer, vectors: DeviceVectors): Promise<number> {
  const times: number[] = [];
  for (let call = -2; call < calls; call++) {
    const codes = await rq.device.encode(vectors);
    codes.dispose();
    if (call >= 0) times.push(codes.kernelMs);
  }
  return median(times);
}
