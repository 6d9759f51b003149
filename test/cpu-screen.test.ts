// The screen's bound: whatever the data, a codeword that it certifies is the answer. Needs a build with RVQ_TESTING.

import { afterAll, describe, expect, it } from "vitest";
import { loadAddon } from "../lib/addon.js";
import type { Addon, CpuCodebooks } from "../lib/cpu/addon.js";
import { Random } from "../lib/random.js";
import { betweenCodewords, familyNames, hardFamilies, makeData, normal } from "./contract/families.js";

const loaded = loadAddon();
const addon = loaded.addon as Addon;
const canRun = loaded.addon !== null && "screenVerdicts" in addon.CpuCodebooks.prototype;
const levels = canRun ? addon.cpuInfo().instructionSets : [];

/** Every screen of every level, whatever a shape would choose. A level without integer ones uses float32 instead. */
const kinds = ["float32", "int16", "uniform", "int8", "prefix"] as const;
const screens = levels.flatMap((level) => kinds.map((kind) => ({ level, kind })));

/** Rows a family, and sizes: `npm test` runs a sample; `npm run test:screen` runs more than ten million rows. */
const rounds = Number(process.env.RVQ_SCREEN_ROUNDS ?? 1);
const shapes = [
  { count: 300, dim: 1, numCodewords: 200 },
  { count: 300, dim: 3, numCodewords: 64 },
  { count: 200, dim: 8, numCodewords: 100 },
  { count: 100, dim: 33, numCodewords: 129 },
  { count: 48, dim: 200, numCodewords: 90 },
];

let rowsChecked = 0;
let certified = 0;

describe.skipIf(!canRun)("the screen of the CPU core", () => {
  afterAll(() => {
    if (rounds > 1) process.stdout.write(`${rowsChecked} rows, ${certified} verdicts of ${screens.length} screens\n`);
  });

  it.each([...familyNames, ...Object.keys(hardFamilies)])("never certifies a wrong winner on %s data", (family) => {
    for (let round = 0; round < rounds; round++) {
      shapes.forEach((shape, index) => {
        const seed = round * shapes.length + index;
        const { vectors, codebook } =
          family in hardFamilies ? hardFamilies[family](shape, seed) : makeData(family, shape, seed);
        const random = new Random(seed);
        const weights = Float32Array.from({ length: shape.dim }, () => 2 ** (10 * normal(random)));
        for (const w of [null, weights]) {
          const expected = search(vectors, codebook, shape.dim, w);
          rowsChecked += shape.count;
          for (const { level, kind } of screens) {
            const verdicts = screen(level, kind, vectors, codebook, shape, w);
            const wrong = verdicts.findIndex((code, n) => code >= 0 && code !== expected[n]);
            certified += verdicts.filter((code) => code >= 0).length;
            const context = { level, kind, family, seed, weighted: w !== null, ...shape };
            if (wrong >= 0)
              throw new Error(`row ${wrong}: ${verdicts[wrong]}, not ${expected[wrong]}: ${JSON.stringify(context)}`);
          }
        }
      });
    }
  });

  it.each(["gaussian", "correlated", "clustered", "offset", "tiny", "one outlier codeword"])(
    "leaves few rows open on %s data",
    (family) => {
      const shape = { count: 2000, dim: 64, numCodewords: 300 };
      const { vectors, codebook } = makeData(family, shape, 1);
      for (const { level, kind } of screens) {
        const open = screen(level, kind, vectors, codebook, shape, null).filter((code) => code < 0).length;
        // Bytes leave several candidates to most rows, on purpose; integers the group of an outlier to every row.
        if (kind.startsWith("int") && family === "one outlier codeword") continue;
        const most = kind === "int8" ? 0.9 : 0.05;
        expect(open / shape.count, `${level} ${kind}`).toBeLessThan(most);
      }
    },
  );

  it("finds the same codewords without its certificate where it is certain", () => {
    for (const shape of shapes) {
      const { vectors, codebook } = makeData("gaussian", shape, 1);
      for (const { level, kind } of screens) {
        const verdicts = screen(level, kind, vectors, codebook, shape, null);
        const core = open(level, kind, codebook, shape.dim, null);
        const codes = new Int32Array(shape.count);
        core.screenOnly({ vectors, count: shape.count, stage: 0, codes });
        core.dispose();
        const wrong = codes.filter((code, n) => verdicts[n] >= 0 && code !== verdicts[n]).length;
        // Where the 16-bit screen alone is not certain, float32 may have been.
        expect(wrong, JSON.stringify({ level, kind, ...shape })).toBeLessThanOrEqual(
          kind === "int16" || kind === "uniform" ? 0.1 * shape.count : 0,
        );
      }
    }
  });

  it("holds the largest sums that rows and codewords of integers can have", () => {
    for (const dim of [1, 2, 9, 64, 500]) {
      // All along one direction, the rows nearly as far away as the uniform screen takes them.
      const direction = Float32Array.from({ length: dim }, (_, i) => (i % 3 === 1 ? -1 : 1));
      const lengths = [-1, -0.9, -0.5, 0.5, 0.9, 1];
      const codebook = Float32Array.from({ length: lengths.length * dim }, (_, j) => {
        return lengths[Math.floor(j / dim)] * direction[j % dim];
      });
      const rows = [-3.9, -1, -0.01, 0.01, 1, 3.9];
      const count = 48;
      const vectors = Float32Array.from({ length: count * dim }, (_, j) => {
        return rows[Math.floor(j / dim) % rows.length] * direction[j % dim];
      });
      const expected = search(vectors, codebook, dim, null);
      for (const { level, kind } of screens) {
        const verdicts = screen(level, kind, vectors, codebook, { count, dim }, null);
        for (let n = 0; n < count; n++) {
          const context = `${level} ${kind} D${dim} row ${n}`;
          if (verdicts[n] >= 0) expect(verdicts[n], context).toBe(expected[n]);
          else expect(["int8", "prefix"], context).toContain(kind);
        }
      }
    }
  });

  it("is certain of nothing between two codewords", () => {
    const shape = { count: 100, dim: 16, numCodewords: 20 };
    const { vectors, codebook } = betweenCodewords(shape);
    for (const { level, kind } of screens)
      expect(new Set(screen(level, kind, vectors, codebook, shape, null))).toEqual(new Set([-1]));
  });
});

function screen(
  instructionSet: string,
  kind: (typeof kinds)[number],
  vectors: Float32Array,
  codebook: Float32Array,
  { count, dim }: { count: number; dim: number },
  weights: Float32Array | null,
): Int32Array {
  const core = open(instructionSet, kind, codebook, dim, weights);
  const verdicts = new Int32Array(count);
  core.screenVerdicts({ vectors, count, stage: 0, verdicts });
  core.dispose();
  return verdicts;
}

function open(
  instructionSet: string,
  screen: (typeof kinds)[number],
  codebook: Float32Array,
  dim: number,
  weights: Float32Array | null,
): Required<CpuCodebooks> {
  const spec = { dim, metric: "l2", weights, codebooks: [codebook], threads: 1, instructionSet, screen } as const;
  return new addon.CpuCodebooks(spec) as Required<CpuCodebooks>;
}

/** The definition. */
function search(vectors: Float32Array, codebook: Float32Array, dim: number, weights: Float32Array | null): Uint32Array {
  const codes = new Uint32Array(vectors.length / dim);
  const s = new Float64Array(8);
  for (let n = 0; n < codes.length; n++) {
    let smallest = Infinity;
    for (let k = 0; k < codebook.length / dim; k++) {
      s.fill(0);
      for (let i = 0; i < dim; i++) {
        const t = vectors[n * dim + i] - codebook[k * dim + i];
        s[i & 7] += weights === null ? t * t : weights[i] * (t * t);
      }
      const distance = s[0] + s[4] + (s[2] + s[6]) + (s[1] + s[5] + (s[3] + s[7]));
      if (distance < smallest) [smallest, codes[n]] = [distance, k];
    }
  }
  return codes;
}
