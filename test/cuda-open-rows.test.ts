// What the tensor cores' screen leaves open, on the emulated device, which counts it: a screen that proves nothing gives the
// same codes, but slowly.

import { describe, expect, it } from "vitest";
import { loadAddon } from "../lib/addon.js";
import type { CudaAddon } from "../lib/cuda/addon.js";
import { openBackend } from "../lib/open-backend.js";
import { Random } from "../lib/random.js";

const native = loadAddon().addon as CudaAddon | null;
const openRows = native?.cudaTestOpenRows;

describe.skipIf(openRows === undefined)("the screen of the tensor cores", () => {
  for (const dim of [
    3, 8, 17, 32, 50, 64, 96, 100, 128, 180, 192, 256, 257, 288, 300, 320, 352, 500, 608, 768, 1000, 1024, 1030,
  ]) {
    it(`closes most rows of ${dim} dimensions`, async () => {
      const random = new Random(dim);
      const numbers = (rows: number) => Float32Array.from({ length: rows * dim }, () => random.fraction() - 0.5);
      const count = 320;
      const codebooks = [numbers(300), numbers(129)];
      const prepared = openBackend("cuda", undefined).prepare({ dim, metric: "l2", weights: null, codebooks });
      const before = openRows?.() ?? { compared: 0, searched: 0 };
      const request = { vectors: numbers(count), count, stages: 2, codes: new Uint16Array(count * 2) };
      await prepared.encode(request);
      const after = openRows?.() ?? before;
      prepared.dispose();
      expect((after.compared - before.compared) / (count * 2)).toBeLessThan(0.2);
      expect((after.searched - before.searched) / (count * 2)).toBeLessThan(0.025);
    });
  }
});
