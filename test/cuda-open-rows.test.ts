// What the tensor cores' screen leaves open, on the emulated device, which counts it: a screen that proves nothing gives the
// same codes, but slowly.

import { describe, expect, it } from "vitest";
import { openBackend } from "../lib/open-backend.js";
import { Random } from "../lib/random.js";
import { normal } from "./contract/families.js";
import { countOpenRows, countsOpenRows } from "./open-rows.js";

/** The shares of rows that are compared with some codewords, and of those for which whole places are looked through. */
async function openShares(dim: number, codebooks: readonly Float32Array[], vectors: Float32Array) {
  const prepared = openBackend("cuda", undefined).prepare({ dim, metric: "l2", weights: null, codebooks });
  const [count, stages] = [vectors.length / dim, codebooks.length];
  const leftOpen = countOpenRows();
  await prepared.encode({ vectors, count, stages, codes: new Uint16Array(count * stages) });
  const { compared, searched } = leftOpen();
  prepared.dispose();
  return { compared: compared / (count * stages), searched: searched / (count * stages) };
}

describe.skipIf(!countsOpenRows)("the screen of the tensor cores", () => {
  for (const dim of [
    3, 8, 17, 32, 50, 64, 96, 100, 128, 180, 192, 256, 257, 288, 300, 320, 352, 500, 608, 768, 1000, 1024, 1030,
  ]) {
    it(`closes most rows of ${dim} dimensions`, async () => {
      const random = new Random(dim);
      const numbers = (rows: number) => Float32Array.from({ length: rows * dim }, () => random.fraction() - 0.5);
      const { compared, searched } = await openShares(dim, [numbers(300), numbers(129)], numbers(320));
      expect(compared).toBeLessThan(0.2);
      expect(searched).toBeLessThan(0.025);
    });
  }

  // Nearly twice as many without what nearness is worth (cuda/screen_bound.h).
  for (const [dim, most] of [
    [64, 0.3],
    [128, 0.35],
    [256, 0.48],
    [512, 0.65],
    [768, 0.8],
  ] as const) {
    it(`closes most rows of ${dim} dimensions that are near each other and far from zero`, async () => {
      const random = new Random(dim);
      const clusters = Float32Array.from({ length: 8 * dim }, () => normal(random));
      const numbers = (rows: number) =>
        Float32Array.from(
          { length: rows * dim },
          (_, i) => clusters[(Math.floor(i / dim) % 8) * dim + (i % dim)] + 0.2 * normal(random),
        );
      const { compared, searched } = await openShares(dim, [numbers(1000)], numbers(320));
      expect(compared + searched).toBeLessThan(most);
    });
  }
});
