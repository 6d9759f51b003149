// The generator: its values are part of every trained model, so they are pinned here.

import { describe, expect, it } from "vitest";
import { Random } from "../lib/random.js";

describe("Random", () => {
  it("gives xoshiro128** its published sequence for a known state", () => {
    const random = new Random(0);
    (random as unknown as { state: Uint32Array }).state.set([1, 2, 3, 4]);
    expect(Array.from({ length: 4 }, () => random.uint32())).toEqual([11520, 0, 5927040, 70819200]);
  });

  it("never changes its values for a seed", () => {
    const values = (seed: number) => {
      const random = new Random(seed);
      return Array.from({ length: 3 }, () => random.uint32());
    };
    expect([values(0), values(1), values(2 ** 53 - 1)]).toMatchInlineSnapshot(`
      [
        [
          3809008728,
          1133695204,
          53579671,
        ],
        [
          2442144158,
          3238099751,
          3819917871,
        ],
        [
          3377881813,
          452688998,
          3609769547,
        ],
      ]
    `);
  });

  it("draws integers uniformly below a limit and different integers in a sample", () => {
    const random = new Random(7);
    const counts = new Array<number>(5).fill(0);
    for (let i = 0; i < 50_000; i++) counts[random.below(5)]++;
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(500);

    const sample = random.sample(100, 40);
    expect(new Set(sample).size).toBe(40);
    expect([...sample]).toEqual([...sample].sort((a, b) => a - b));
    expect([...random.sample(6, 6)]).toEqual([0, 1, 2, 3, 4, 5]);
  });
});
