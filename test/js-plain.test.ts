// The plain search of the `js` backend: certain only of what is true, whoever else searches in between; and when it need not look.

import { describe, expect, it } from "vitest";
import { openJs } from "../lib/js/backend.js";
import { boxAround, isEquallyFar } from "../lib/js/reach.js";
import { Random } from "../lib/random.js";
import { expectSame, withForm } from "./contract/backends.js";
import { hardFamilies, makeData, normal, type Shape } from "./contract/families.js";
import { d64, nearest } from "./contract/reference.js";

const plain = () => withForm("plain", () => openJs());

describe("the plain search", () => {
  it.each(Object.keys(hardFamilies))("finds the nearest of %s", (family) => {
    for (const [seed, shape] of [
      { count: 100, dim: 1, numCodewords: 50 },
      { count: 100, dim: 7, numCodewords: 65 },
      { count: 50, dim: 33, numCodewords: 128 },
    ].entries()) {
      const { vectors, codebook } = hardFamilies[family](shape, seed);
      const random = new Random(seed);
      const weights = Float32Array.from({ length: shape.dim }, () => 2 ** (10 * normal(random)));
      for (const w of [null, weights]) {
        const codes = new Uint16Array(shape.count);
        const prepared = plain().prepare({ dim: shape.dim, metric: "l2", weights: w, codebooks: [codebook] });
        expect(prepared.encodeSync({ vectors, count: shape.count, stages: 1, codes })).toBeNull();
        const expected = Array.from({ length: shape.count }, (_, n) =>
          nearest(vectors.subarray(n * shape.dim, (n + 1) * shape.dim), codebook, "l2", w),
        );
        expectSame(codes, expected, { family, seed, weighted: w !== null, ...shape });
      }
    }
  });

  it("gives the same codes when calls on one quantizer take turns", async () => {
    // Every tile takes several steps, and a step takes a slice.
    const shape: Shape = { count: 12, dim: 512, numCodewords: 6000 };
    const { vectors, codebook } = makeData("gaussian", shape, 5);
    const prepared = plain().prepare({ dim: shape.dim, metric: "l2", weights: null, codebooks: [codebook] });
    const request = (rows: Float32Array) => {
      const count = rows.length / shape.dim;
      return { vectors: rows, count, stages: 1, codes: new Uint16Array(count) };
    };
    const together = request(vectors);
    prepared.encodeSync(together);
    const halves = [vectors.slice(0, 5 * shape.dim), vectors.slice(5 * shape.dim)].map(request);
    await Promise.all(halves.map((half) => prepared.encode(half)));
    expectSame([...halves[0].codes, ...halves[1].codes], together.codes, { ...shape });
  });
});

describe("a row that is equally far from a box", () => {
  it("has one distance to every codeword in it", () => {
    const random = new Random(9);
    const told = { far: 0, near: 0 };
    for (let turn = 0; turn < 4000; turn++) {
      const dim = 1 + random.below(20);
      const codebook = Float32Array.from({ length: 12 * dim }, () => normal(random));
      const scale = 2 ** (40 + random.below(40));
      const row = Float32Array.from({ length: dim }, () => scale * normal(random));
      const weights = turn % 2 === 0 ? null : Float32Array.from({ length: dim }, (_, i) => i % 3);
      if (!isEquallyFar(boxAround(codebook, dim), row, 0, weights)) {
        told.near++;
        continue;
      }
      told.far++;
      const distances = Array.from({ length: 12 }, (_, k) =>
        d64(row, codebook.subarray(k * dim, (k + 1) * dim), weights),
      );
      expect(new Set(distances).size, JSON.stringify({ turn, dim, scale })).toBe(1);
    }
    expect(told.far).toBeGreaterThan(500);
    expect(told.near).toBeGreaterThan(500);
  });

  it("is not one that is inside it", () => {
    const codebook = Float32Array.of(-1, -1, 1, 1);
    expect(isEquallyFar(boxAround(codebook, 2), Float32Array.of(0, 0), 0, null)).toBe(false);
    expect(isEquallyFar(boxAround(codebook, 2), Float32Array.of(2 ** 60, 2 ** 60), 0, null)).toBe(true);
  });
});
