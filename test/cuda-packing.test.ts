// Codebooks packed on the device (cuda/pack_codebooks.h): what is repeated, far away or changed. A wrong bound gives wrong codes; a
// repeated codeword that is not found, or a centre far away, only rows that are left open, which the emulated device counts.

import { describe, expect, it } from "vitest";
import { loadAddon } from "../lib/addon.js";
import type { CodebookSpec } from "../lib/backend.js";
import type { CudaAddon, CudaCodebooks } from "../lib/cuda/addon.js";
import { status } from "../lib/open-backend.js";
import { Random } from "../lib/random.js";
import { gaussianRows } from "./contract/families.js";
import { encode } from "./contract/reference.js";
import { countOpenRows, countsOpenRows } from "./open-rows.js";

const native = loadAddon().addon as CudaAddon | null;
const available = status().backends.find(({ name }) => name === "cuda")?.available === true;
const count = 320;
/** More than are searched in another way, few for the definition. */
const few = 80;

/** One of each way in which codewords are packed: whole tiles, chunks of them, shared operands of wgmma; odd ones. */
const dims = [8, 64, 67, 128, 300, 1030];

describe.skipIf(!countsOpenRows)("codewords that equal an earlier one", () => {
  it.each(dims)("leave no row of %i dimensions open", (dim) => {
    const codebook = withRepeats(gaussianRows(300, dim, dim), dim);
    expect(openShare(plain(dim, [codebook]), gaussianRows(count, dim, 7))).toBeLessThan(0.2);
  });

  it("are found whatever the sign of a zero", () => {
    const codebook = withRepeats(
      gaussianRows(300, 64, 1).map((x, i) => (i % 3 === 0 ? 0 : x)),
      64,
    );
    const signed = codebook.map((x, i) => (x === 0 && Math.floor(i / 64) % 2 === 1 ? -0 : x));
    expect(openShare(plain(64, [signed]), gaussianRows(count, 64, 2))).toBeLessThan(0.2);
  });

  it("are found whatever they have in a dimension of weight zero", () => {
    const codebook = withRepeats(gaussianRows(300, 64, 1), 64);
    const noise = gaussianRows(300, 64, 2);
    const spec: CodebookSpec = {
      ...plain(64, [codebook.map((x, i) => (i % 4 === 1 ? noise[i] : x))]),
      weights: Float32Array.from({ length: 64 }, (_, i) => (i % 4 === 1 ? 0 : 1 + (i % 3))),
    };
    expect(openShare(spec, gaussianRows(count, 64, 3))).toBeLessThan(0.2);
  });

  it("are found whatever their length, with the cosine metric", () => {
    const codebook = withRepeats(gaussianRows(300, 64, 1), 64).map((x, i) =>
      Math.floor(i / 64) % 2 === 1 ? 4 * x : x,
    );
    expect(openShare({ ...plain(64, [codebook]), metric: "cosine" }, gaussianRows(count, 64, 3))).toBeLessThan(0.2);
  });

  it("are found in a codebook of one codeword over and over", () => {
    const codebook = Float32Array.from({ length: 3000 * 16 }, (_, i) => Math.sin(i % 16));
    const spec = plain(16, [codebook]);
    expect(openShare(spec, gaussianRows(count, 16, 3))).toBe(0);
  });
});

describe.skipIf(!countsOpenRows)("some codewords far from all others", () => {
  it.each(dims)("leave few rows of %i dimensions open", (dim) => {
    const codebook = gaussianRows(300, dim, dim).map((x, i) => x + (Math.floor(i / dim) % 10 === 0 ? 100 : 0));
    expect(openShare(plain(dim, [codebook]), gaussianRows(count, dim, 7))).toBeLessThan(0.65);
  });
});

describe.skipIf(!available || native?.cudaTestLimits === undefined)("codebooks that are packed again", () => {
  it.each(dims)("are searched as if they had been prepared so, %i dimensions", (dim) => {
    const weights = Float32Array.from({ length: dim }, (_, i) => (i % 5 === 2 ? 0 : 0.5 + (i % 3)));
    for (const kind of [{ metric: "l2" }, { metric: "l2", weights }, { metric: "cosine" }] as const) {
      const specs = changes(dim).map((codebooks): CodebookSpec => ({ ...plain(dim, codebooks), ...kind }));
      const prepared = open(specs[0]);
      for (const [i, spec] of [...specs.entries(), [0, specs[0]] as const]) {
        prepared.testReplace?.(spec);
        const vectors = gaussianRows(few, dim, i);
        const again = search(prepared, spec, vectors);
        const fresh = open(spec);
        expect(again, `change ${i}, ${kind.metric}`).toEqual(search(fresh, spec, vectors));
        expect(prepared.testScreen?.()).toBe(fresh.testScreen?.());
        fresh.dispose();
        expect(again.codes, `change ${i}, ${kind.metric}`).toEqual(expected(spec, vectors));
      }
      prepared.dispose();
    }
  });

  it.each(dims)("have nothing left of a codeword that is now repeated, %i dimensions", (dim) => {
    // Long ones, in the directions of the vectors; then short ones.
    const signs = gaussianRows(80, dim, 1).map((x) => Math.sign(x));
    const short = Float32Array.from({ length: 80 * dim }, (_, i) =>
      i % dim === Math.floor(i / dim) % Math.min(20, dim) ? 1 : 0,
    );
    const prepared = open(plain(dim, [signs]));
    const spec = plain(dim, [short]);
    prepared.testReplace?.(spec);
    expect(search(prepared, spec, signs).codes).toEqual(expected(spec, signs));
    prepared.dispose();
  });

  it("lose their screen and get it back", () => {
    const dim = 64;
    const weights = Float32Array.from({ length: dim }, (_, i) => (i === 0 ? 3e38 : 1e-30));
    const tiny = gaussianRows(100, dim, 1).map((x, i) => (i % dim === 0 ? 0 : 1e-38 * x));
    const specs = [gaussianRows(100, dim, 2), tiny, gaussianRows(100, dim, 3)].map((codebook) => ({
      ...plain(dim, [codebook]),
      weights,
    }));
    const prepared = open(specs[0]);
    const screen = prepared.testScreen?.();
    const screens = specs.map((spec) => {
      prepared.testReplace?.(spec);
      const vectors = gaussianRows(few, dim, 4);
      expect(search(prepared, spec, vectors).codes).toEqual(expected(spec, vectors));
      return prepared.testScreen?.();
    });
    prepared.dispose();
    expect(screens).toEqual([screen, "none", screen]);
    expect(screen).not.toBe("none");
  });
});

/** Of two stages: repeated codewords where others were distinct, another scale, another centre, an outlier, all alike. */
function changes(dim: number): Float32Array[][] {
  const [first, second] = [gaussianRows(200, dim, 1), gaussianRows(70, dim, 2).map((x) => 0.5 * x)];
  const outlier = first.slice();
  outlier.fill(1e4, 5 * dim, 6 * dim);
  return [
    [first, second],
    [withRepeats(first, dim), withRepeats(second, dim)],
    [first.map((x) => 1e-3 * x), second.map((x) => 300 * x)],
    [first.map((x) => x + 100), second],
    [outlier, second.map(() => 0.25)],
  ];
}

/** With every odd codeword replaced by one of the others, before it or after it. */
function withRepeats(codebook: Float32Array, dim: number): Float32Array {
  const random = new Random(9);
  const numCodewords = codebook.length / dim;
  const repeated = codebook.slice();
  for (let k = 1; k < numCodewords; k += 2) {
    const original = 2 * random.below(Math.ceil(numCodewords / 2)) * dim;
    repeated.copyWithin(k * dim, original, original + dim);
  }
  return repeated;
}

function plain(dim: number, codebooks: readonly Float32Array[]): CodebookSpec {
  return { dim, metric: "l2", weights: null, codebooks };
}

function open(spec: CodebookSpec): CudaCodebooks {
  if (native === null) throw new Error("no addon");
  return new native.CudaCodebooks({ ...spec, device: 0 });
}

/** The codes, and how many rows, once a stage, were left open; where nobody counts, 0. */
function search(prepared: CudaCodebooks, { codebooks, dim }: CodebookSpec, vectors: Float32Array) {
  const rows = vectors.length / dim;
  const codes = new Uint16Array(rows * codebooks.length);
  const leftOpen = countOpenRows();
  prepared.encodeSync({ vectors, count: rows, stages: codebooks.length, codes });
  const { compared, searched } = leftOpen();
  return { codes, open: compared + searched };
}

function openShare(spec: CodebookSpec, vectors: Float32Array): number {
  const prepared = open(spec);
  const { codes, open: left } = search(prepared, spec, vectors);
  prepared.dispose();
  expect(codes).toEqual(expected(spec, vectors));
  return left / count;
}

function expected({ codebooks, dim, metric, weights }: CodebookSpec, vectors: Float32Array): Uint16Array {
  return Uint16Array.from(encode(vectors, codebooks, dim, metric, weights).codes);
}
