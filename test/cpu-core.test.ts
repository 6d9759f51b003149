// The native CPU core against the definition, bit for bit: every instruction set of this machine, every data family.

import { describe, expect, it } from "vitest";
import { loadAddon } from "../lib/addon.js";
import type { BadInput, Metric } from "../lib/backend.js";
import type { Addon } from "../lib/cpu/addon.js";
import { Random } from "../lib/random.js";
import { familyNames, makeData, makeStages, normal, type Shape, withoutZeroRows } from "./contract/families.js";
import { d64, encode, sums as exactSums } from "./contract/reference.js";

const loaded = loadAddon();
const addon = loaded.addon as Addon;
const levels = loaded.addon === null ? [] : addon.cpuInfo().instructionSets;

/** Every dimension that is special to some level, with K and N around the sizes of groups and tiles. */
const shapes: Shape[] = [
  { count: 65, dim: 1, numCodewords: 257 },
  { count: 64, dim: 2, numCodewords: 100 },
  { count: 63, dim: 3, numCodewords: 7 },
  { count: 97, dim: 7, numCodewords: 1024 },
  { count: 500, dim: 8, numCodewords: 100 },
  { count: 49, dim: 15, numCodewords: 257 },
  { count: 48, dim: 16, numCodewords: 9 },
  { count: 2, dim: 17, numCodewords: 1024 },
  { count: 33, dim: 31, numCodewords: 100 },
  { count: 70, dim: 64, numCodewords: 257 },
  { count: 1, dim: 100, numCodewords: 1024 },
  { count: 17, dim: 160, numCodewords: 256 },
  { count: 3, dim: 257, numCodewords: 3 },
  { count: 9, dim: 1000, numCodewords: 65 },
  { count: 5, dim: 4, numCodewords: 1 },
  { count: 5, dim: 4, numCodewords: 2 },
  { count: 0, dim: 4, numCodewords: 2 },
];

describe.skipIf(loaded.addon === null)("the native CPU core", () => {
  it.each(familyNames)("equals the definition at every level on %s data", (family) => {
    shapes.forEach((shape, seed) => {
      const data = makeData(family, shape, seed);
      compare(family, shape, seed, "l2", null, data.vectors, [data.codebook]);
    });
  });

  it("tells codewords apart whose hashes are equal, and those that differ where it does not look first", () => {
    const dim = 8;
    const [one, other] = collidingCodewords(dim);
    const zero = new Float32Array(dim);
    const rows = [one, zero, other, one, other, one.with(7, 3), other.with(7, 3), zero, one.with(1, -1)];
    const codebook = Float32Array.from(rows.flatMap((row) => Array.from(row)));
    const shape = { count: rows.length, dim, numCodewords: rows.length };
    compare("equal hashes", shape, 0, "l2", null, codebook, [codebook]);
  });

  it.each(familyNames)("equals the definition with weights, some of them zero, on %s data", (family) => {
    shapes.forEach((shape, seed) => {
      const random = new Random(seed);
      const weights = Float32Array.from({ length: shape.dim }, () => random.below(3) * random.fraction());
      const data = makeData(family, shape, seed);
      compare(family, shape, seed, "l2", weights, data.vectors, makeStages(data, shape, 2, seed));
    });
  });

  it.each(familyNames)("equals the definition with the cosine metric on %s data", (family) => {
    shapes.forEach((shape, seed) => {
      const data = makeData(family, shape, seed);
      const vectors = withoutZeroRows(data.vectors, shape.dim);
      const codebooks = makeStages(data, shape, 3, seed).map((codebook) => withoutZeroRows(codebook, shape.dim));
      compare(family, shape, seed, "cosine", null, vectors, codebooks);
    });
  });

  it("equals the definition over many stages, whose residuals become tiny", () => {
    const shape = { count: 130, dim: 12, numCodewords: 40 };
    const data = makeData("gaussian", shape, 1);
    compare("gaussian", shape, 1, "l2", null, data.vectors, makeStages(data, shape, 32, 1));
  });

  it("equals the definition with more codewords than one chunk of the screen holds", () => {
    const shape = { count: 50, dim: 6, numCodewords: 4097 };
    for (const family of ["gaussian", "integer grid", "one-ulp neighbours", "one outlier codeword"]) {
      const data = makeData(family, shape, 2);
      compare(family, shape, 2, "l2", null, data.vectors, [data.codebook]);
    }
  });

  it("equals the definition while the 8-bit screen stops and starts to pay", () => {
    // A thousand rows that lie at a codeword, then as many between all of them: over and over, also within a block.
    const shape = { count: 6010, dim: 64, numCodewords: 128 };
    const { vectors, codebook } = makeData("gaussian", shape, 4);
    for (let n = 0; n < shape.count; n++) {
      const easy = n % 2000 < 1000;
      for (let i = 0; i < shape.dim; i++) {
        const at = n * shape.dim + i;
        vectors[at] = easy ? codebook[(n % 128) * shape.dim + i] + 0.01 * vectors[at] : 0.001 * vectors[at];
      }
    }
    compare("easy and hard", shape, 4, "l2", null, vectors, [codebook]);
  });

  it("gives a residual that overflowed code 0", () => {
    const vectors = Float32Array.of(3e38, 3e38, 1, 1);
    const stages = [Float32Array.of(-3e38, 3e38), Float32Array.of(5, 5, 1, 0, 0, 1)];
    for (const weights of [null, Float32Array.of(0, 1)]) {
      compare("overflow", { count: 2, dim: 2, numCodewords: 3 }, 0, "l2", weights, vectors, stages);
    }
  });

  it("decodes in stage order from +0, and measures distances to every prefix", async () => {
    for (const dim of [1, 7, 8, 33, 160]) {
      const shape = { count: 300, dim, numCodewords: 20 };
      const data = makeData("gaussian", shape, dim);
      const stages = makeStages(data, shape, 4, dim);
      const random = new Random(dim);
      const weights = Float32Array.from({ length: dim }, () => random.fraction());
      const codes = Uint16Array.from({ length: shape.count * 4 }, (_, i) => random.below(stages[i % 4].length / dim));
      for (const level of levels) {
        const core = open(level, 2, { dim, weights, codebooks: stages });
        for (const used of [1, 3, 4]) {
          const vectors = new Float32Array(shape.count * dim);
          const distances = new Float64Array(shape.count * used);
          const request = { codes, count: shape.count, codeStages: 4, stages: used };
          await core.decode({ ...request, vectors });
          await core.distances({ ...request, vectors: data.vectors, weighted: true, distances });
          for (let n = 0; n < shape.count; n++) {
            const sum = new Float32Array(dim);
            for (let s = 0; s < used; s++) {
              const code = codes[n * 4 + s];
              for (let i = 0; i < dim; i++) sum[i] += stages[s][code * dim + i];
              const expected = d64(data.vectors.subarray(n * dim, (n + 1) * dim), sum, weights);
              expect(distances[n * used + s], `${level} D ${dim} row ${n} stage ${s}`).toBe(expected);
            }
            expect(vectors.subarray(n * dim, (n + 1) * dim), `${level} D ${dim} row ${n}`).toEqual(sum);
          }
        }
        core.dispose();
      }
    }
  });

  it("accumulates exact integers, adding to what is there", async () => {
    for (const [dim, numCodewords, count] of [
      [1, 1, 10],
      [5, 3, 1000],
      [128, 300, 5000],
    ]) {
      const random = new Random(dim);
      const vectors = Float32Array.from({ length: count * dim }, () => 1000 * normal(random));
      vectors[0] = 2.5;
      vectors[count * dim - 1] = -0.5;
      const codes = Uint16Array.from({ length: count }, () => random.below(numCodewords) ** 2 % numCodewords);
      const gridExponents = new Int32Array(dim);
      const expected = {
        counts: new Float64Array(numCodewords).fill(7),
        sums: Float64Array.from(exactSums(vectors, codes, numCodewords, dim, gridExponents), Number),
      };
      for (const code of codes) expected.counts[code]++;
      for (const instructionSet of levels) {
        for (const threads of [1, 2]) {
          const counts = new Float64Array(numCodewords).fill(7);
          const sums = new Float64Array(numCodewords * dim);
          const request = { vectors, count, dim, codes, numCodewords, gridExponents, counts, sums };
          await addon.accumulate(request, { threads, instructionSet });
          expect({ counts, sums }, `${instructionSet} D ${dim}`).toEqual(expected);
        }
      }
    }
  });

  it("assigns without a search what no codeword moved for", async () => {
    const dim = 6;
    const { vectors, codebook } = makeData("gaussian", { count: 100, dim, numCodewords: 64 }, 1);
    // Not the nearest: seen only by a search.
    const codes = new Uint16Array(100).fill(63);
    const spec = { dim, metric: "l2" as const, weights: null, codebooks: [codebook], threads: 1 };
    for (const instructionSet of levels) {
      const core = new addon.CpuCodebooks({ ...spec, previous: codebook, instructionSet });
      await core.assign({ vectors, count: 100, codes, distances: new Float64Array(100) });
      expect(codes).toEqual(new Uint16Array(100).fill(63));
      core.dispose();
    }
  });

  it("lowers distances to what the definition gives", async () => {
    for (const dim of [1, 7, 64, 100, 257]) {
      const count = 2100;
      const random = new Random(dim);
      const vectors = Float32Array.from({ length: count * dim }, () => normal(random));
      const weights = Float32Array.from({ length: dim }, () => random.below(2) * random.fraction());
      const centre = Float32Array.from({ length: dim }, () => normal(random));
      for (const w of [null, weights]) {
        const distanceOf = (n: number) => d64(vectors.subarray(n * dim, (n + 1) * dim), centre, w);
        // Far, anywhere, and at the distance itself but for the last bits of float64.
        const start = Float64Array.from({ length: count }, (_, n) => {
          if (n % 3 === 0) return Infinity;
          if (n % 3 === 1) return dim * random.fraction();
          return distanceOf(n) * (1 + (random.below(5) - 2) * 2 ** -52);
        });
        const expected = start.map((d, n) => Math.min(d, distanceOf(n)));
        for (const instructionSet of levels) {
          const distances = start.slice();
          const options = { threads: 2, instructionSet };
          await addon.lowerDistances({ vectors, count, dim, weights: w, centre, distances }, options);
          expect(distances, `${instructionSet} D ${dim}`).toEqual(expected);
        }
      }
    }
  });

  it("names the first bad row and column, for any number of threads", () => {
    const dim = 5;
    const count = 5000;
    const clean = new Float32Array(count * dim).fill(1);
    const cases: [Metric, (vectors: Float32Array) => void, BadInput | null][] = [
      ["l2", () => {}, null],
      ["l2", (v) => v.fill(0, 20, 25), null],
      ["cosine", () => {}, null],
      ["l2", (v) => v.fill(Number.NaN, 4999 * dim + 4), { kind: "not finite", row: 4999, column: 4 }],
      ["l2", (v) => v.fill(-Infinity, 3), { kind: "not finite", row: 0, column: 3 }],
      ["cosine", (v) => v.fill(0, 100 * dim), { kind: "zero", row: 100, column: 0 }],
      [
        "cosine",
        (v) => v.fill(0, 101 * dim).fill(Infinity, 100 * dim + 2),
        { kind: "not finite", row: 100, column: 2 },
      ],
      [
        "cosine",
        (v) => v.fill(Number.NaN, 101 * dim).fill(-0, 100 * dim, 101 * dim),
        { kind: "zero", row: 100, column: 0 },
      ],
    ];
    for (const [metric, spoil, expected] of cases) {
      const vectors = clean.slice();
      spoil(vectors);
      for (const level of levels) {
        for (const threads of [1, 2, 3]) {
          const core = open(level, threads, { dim, metric, codebooks: [new Float32Array(3 * dim).fill(2)] });
          const codes = new Uint16Array(count);
          expect(core.encodeSync({ vectors, count, stages: 1, codes }), `${level} ${threads}`).toEqual(expected);
          core.dispose();
        }
      }
    }
  });
});

interface Spec {
  readonly dim: number;
  readonly metric?: Metric;
  readonly weights?: Float32Array | null;
  readonly codebooks: Float32Array[];
}

function open(
  instructionSet: string,
  threads: number,
  { dim, metric = "l2", weights = null, codebooks }: Spec,
  screen?: "int16" | "int8",
) {
  return new addon.CpuCodebooks({ dim, metric, weights, codebooks, threads, instructionSet, screen });
}

/** Codes and residuals of every level and of one and two threads, with both code widths, against the definition. */
function compare(
  family: string,
  shape: Shape,
  seed: number,
  metric: Metric,
  weights: Float32Array | null,
  vectors: Float32Array,
  codebooks: Float32Array[],
): void {
  const { count, dim } = shape;
  const stages = codebooks.length;
  const expected = encode(vectors, codebooks, dim, metric, weights);
  for (const level of levels) {
    // Once with the screen that the shape would get, and with integers where the level has them.
    for (const [threads, screen] of [[1], [2, "int16"], [2, "int8"]] as const) {
      const core = open(level, threads, { dim, metric, weights, codebooks }, screen);
      const codes = threads === 1 ? new Uint16Array(count * stages) : new Uint32Array(count * stages);
      const residuals = vectors.slice();
      const bad = core.encodeSync({ vectors: residuals, count, stages, codes, residuals });
      core.dispose();
      const context = () => JSON.stringify({ level, threads, screen, family, metric, seed, ...shape });
      if (bad !== null) throw new Error(`${JSON.stringify(bad)}: ${context()}`);
      const code = codes.findIndex((value, i) => value !== expected.codes[i]);
      if (code >= 0) throw new Error(`code ${code} is ${codes[code]}, not ${expected.codes[code]}: ${context()}`);
      const element = residuals.findIndex((value, i) => !Object.is(value, expected.residuals[i]));
      if (element >= 0) throw new Error(`residual ${element} is ${residuals[element]}: ${context()}`);
    }
  }
}

/** Two codewords that binding/cpu/distinct_codes.cpp takes for equal until it compares all elements. */
function collidingCodewords(dim: number): [Float32Array, Float32Array] {
  const multiply = (sum: bigint, bits: number) => BigInt.asUintN(64, (sum ^ BigInt(bits)) * 0x9e3779b97f4a7c15n);
  const bitsOfOne = 0x3f800000;
  const start = multiply(0n, bitsOfOne);
  // Among so many pairs of elements 1 and 2 some leave sums that differ in their low halves alone, for which element 3 can make up.
  const random = new Random(1);
  const seen = new Map<bigint, { elements: number[]; sum: bigint }>();
  for (;;) {
    const elements = [bitsOfOne + random.below(2 ** 23), bitsOfOne + random.below(2 ** 23)];
    const sum = elements.reduce(multiply, start);
    const before = seen.get(sum >> 32n);
    seen.set(sum >> 32n, { elements, sum });
    if (before === undefined) continue;
    const words = [before.elements, elements].map((pair) =>
      Uint32Array.from({ length: dim }, (_, i) => pair[i - 1] ?? bitsOfOne),
    );
    words[1][3] = (words[0][3] ^ Number(before.sum ^ sum)) >>> 0;
    const [one, other] = words.map(({ buffer }) => new Float32Array(buffer));
    const size = Math.abs(other[3]);
    if (size > 1e-3 && size < 1e3) return [one, other];
  }
}
