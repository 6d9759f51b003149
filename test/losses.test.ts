// Losses and gradients against finite differences and the matrices of their definitions, in float64.

import { describe, expect, it } from "vitest";
import { codebookLoss, commitmentLoss, rotationTrickGradient, straightThroughGradient } from "../lib/index.js";
import { Random } from "../lib/random.js";
import { normal } from "./contract/families.js";

const dim = 5;
const count = 7;
const random = new Random(11);
const gaussian = (length: number) => Float32Array.from({ length }, () => normal(random));
const x = gaussian(count * dim);
const q = gaussian(count * dim);
const mask = Uint8Array.of(1, 1, 0, 1, 1, 1, 1);
const weights = Float32Array.of(1, 0.5, 3, 0, 2, 0.25, 1);
/** The weight of each row with both. */
const effective = [1, 0.5, 0, 0, 2, 0.25, 1];

/** (f(x + h) − f(x − h)) / 2h for every element: exact for a quadratic, but for rounding. */
function differences(matrix: Float32Array, f: (moved: Float64Array) => number): number[] {
  const h = 2 ** -10;
  return Array.from(matrix, (value, i) => {
    const at = (step: number) => f(Float64Array.from(matrix, (other, j) => (i === j ? value + step : other)));
    return (at(h) - at(-h)) / (2 * h);
  });
}

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>): void {
  expect(actual.length).toBe(expected.length);
  for (let i = 0; i < expected.length; i++) {
    expect(Math.abs(actual[i] - expected[i]), `element ${i}`).toBeLessThan(1e-6 * (1 + Math.abs(expected[i])));
  }
}

describe("the commitment loss", () => {
  const loss = (rows: ArrayLike<number>, beta: number, rowWeights: readonly number[]) => {
    let sum = 0;
    for (let i = 0; i < q.length; i++) sum += rowWeights[Math.floor(i / dim)] * (rows[i] - q[i]) ** 2;
    return (beta * sum) / (dim * rowWeights.reduce((a, b) => a + b, 0));
  };

  it("is the mean over the elements, and its gradient that of finite differences", () => {
    const ones = new Array<number>(count).fill(1);
    const plain = commitmentLoss(x, q, { dim });
    expect(plain.loss).toBeCloseTo(loss(x, 0.25, ones), 12);
    expectClose(
      plain.dx,
      differences(x, (moved) => loss(moved, 0.25, ones)),
    );
    const weighted = commitmentLoss(x, q, { dim, beta: 2, mask, weights });
    expect(weighted.loss).toBeCloseTo(loss(x, 2, effective), 12);
    expectClose(
      weighted.dx,
      differences(x, (moved) => loss(moved, 2, effective)),
    );
  });

  it("never looks at rows that are left out", () => {
    const padded = x.slice();
    padded.fill(NaN, 2 * dim, 4 * dim);
    expect(commitmentLoss(padded, q, { dim, mask, weights })).toEqual(commitmentLoss(x, q, { dim, mask, weights }));
    const nothing = commitmentLoss(padded, q, { dim, mask: new Uint8Array(count) });
    expect(nothing).toEqual({ loss: 0, dx: new Float32Array(x.length) });
  });

  it("refuses what is not finite where it counts", () => {
    const bad = q.slice();
    bad[dim + 3] = Infinity;
    expect(() => commitmentLoss(x, bad, { dim })).toThrow(/quantized: .*Infinity in row 1, column 3/);
    expect(() => commitmentLoss(x, q.subarray(dim), { dim })).toThrow(/quantized: expected 35 elements/);
    expect(() => commitmentLoss(x, q, { dim, beta: -1 })).toThrow(/beta/);
    expect(() => commitmentLoss(x, q, { dim, mask: new Uint8Array(3) })).toThrow(/mask: expected 7 elements/);
    expect(() => commitmentLoss(x, q, { dim, weights: weights.map((w) => w - 1) })).toThrow(/weights\[1\]/);
  });
});

describe("the codebook loss", () => {
  const codebook = gaussian(3 * dim);
  const codes = Uint16Array.of(0, 2, 1, 0, 2, 2, 0);
  const loss = (c: ArrayLike<number>, rowWeights: readonly number[]) => {
    let sum = 0;
    for (let n = 0; n < count; n++) {
      for (let i = 0; i < dim; i++) sum += rowWeights[n] * (x[n * dim + i] - c[codes[n] * dim + i]) ** 2;
    }
    return sum / (dim * rowWeights.reduce((a, b) => a + b, 0));
  };

  it("is the mean over the elements, and its gradient that of finite differences", () => {
    const ones = new Array<number>(count).fill(1);
    for (const [options, rowWeights] of [
      [{ dim }, ones],
      [{ dim, mask, weights }, effective],
    ] as const) {
      const { loss: value, dCodebook } = codebookLoss(x, codes, codebook, options);
      expect(value).toBeCloseTo(loss(codebook, rowWeights), 12);
      expectClose(
        dCodebook,
        differences(codebook, (moved) => loss(moved, rowWeights)),
      );
    }
    // Codeword 1 serves only the masked row.
    expect([...codebookLoss(x, codes, codebook, { dim, mask }).dCodebook.subarray(dim, 2 * dim)]).toEqual([
      0, 0, 0, 0, 0,
    ]);
  });

  it("refuses codes without a codeword", () => {
    expect(() => codebookLoss(x, Uint16Array.of(0, 3, 0, 0, 0, 0, 0), codebook, { dim })).toThrow(/codebook size 3/);
    expect(() => codebookLoss(x, codes.subarray(1), codebook, { dim })).toThrow(/codes\.data/);
  });
});

describe("the straight-through gradient", () => {
  it("is that of the quantized vectors, zero where rows are left out", () => {
    expect(straightThroughGradient(q, { dim })).toEqual(q);
    const masked = straightThroughGradient(q, { dim, mask });
    expect([...masked.subarray(2 * dim, 3 * dim)]).toEqual([0, 0, 0, 0, 0]);
    expect(masked.subarray(3 * dim)).toEqual(q.subarray(3 * dim));
  });
});

describe("the gradient of the rotation trick", () => {
  const g = gaussian(count * dim);
  const row = (matrix: Float32Array, n: number) => [...matrix.subarray(n * dim, (n + 1) * dim)];
  const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, value, i) => sum + value * b[i], 0);
  const unit = (a: readonly number[]) => a.map((value) => value / Math.sqrt(dot(a, a)));

  /** λ·R by its definition, R[i][j] = δ_ij − 2·r_i·r_j + 2·q̂_i·x̂_j. */
  const rotation = (xRow: readonly number[], qRow: readonly number[]) => {
    const [xUnit, qUnit] = [unit(xRow), unit(qRow)];
    const r = unit(xUnit.map((value, i) => value + qUnit[i]));
    const scale = Math.sqrt(dot(qRow, qRow) / dot(xRow, xRow));
    return xRow.map((_, i) =>
      xRow.map((_, j) => scale * ((i === j ? 1 : 0) - 2 * r[i] * r[j] + 2 * qUnit[i] * xUnit[j])),
    );
  };

  it("is that of a map which turns x into q, held constant", () => {
    const dx = rotationTrickGradient(x, q, g, { dim });
    for (let n = 0; n < count; n++) {
      const map = rotation(row(x, n), row(q, n));
      const image = (from: readonly number[]) => map.map((line) => dot(line, from));
      expectClose(image(row(x, n)), row(q, n));
      // A loss whose gradient at q is g: g·y + ½‖y − q‖².
      const loss = (from: Float64Array) => {
        const y = image([...from]);
        const away = y.map((value, i) => value - row(q, n)[i]);
        return dot(row(g, n), y) + dot(away, away) / 2;
      };
      expectClose(row(dx, n), differences(Float32Array.from(row(x, n)), loss));
    }
  });

  it("keeps the angle between gradient and vector: that of dx and x is that of dq and q", () => {
    const dx = rotationTrickGradient(x, q, g, { dim });
    for (let n = 0; n < count; n++) {
      expect(dot(unit(row(dx, n)), unit(row(x, n)))).toBeCloseTo(dot(unit(row(g, n)), unit(row(q, n))), 5);
    }
  });

  it("has an answer where there is no rotation", () => {
    const one = Float32Array.of(3, 4, 0, 0, 0);
    const grad = Float32Array.of(1, 2, 3, 4, 5);
    const zero = new Float32Array(dim);
    expect(rotationTrickGradient(zero, one, grad, { dim })).toEqual(grad);
    expect(rotationTrickGradient(one, zero, grad, { dim })).toEqual(grad);
    // Opposite directions: the reflection that turns x into q = −2x, R = I − 2·x̂·x̂ᵀ.
    const along = (3 * 1 + 4 * 2) / 25;
    const reflected = [2 * (1 - 2 * along * 3), 2 * (2 - 2 * along * 4), 6, 8, 10];
    expectClose(
      rotationTrickGradient(
        one,
        one.map((value) => -2 * value),
        grad,
        { dim },
      ),
      reflected,
    );
    expect(rotationTrickGradient(one, one, grad, { dim, mask: Uint8Array.of(0) })).toEqual(zero);
  });
});
