// The screens of the cuda backend on mma.sync (cuda/screen_bound.h), float16 and two int8 limbs, bit for bit against the definition:
// on a machine with a GPU, or in the build that emulates one, which also counts what they leave open.

import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { loadAddon } from "../lib/addon.js";
import type { CodebookSpec } from "../lib/backend.js";
import type { CudaAddon } from "../lib/cuda/addon.js";
import { openBackend, status } from "../lib/open-backend.js";
import { Random } from "../lib/random.js";
import { expectDefinition, makeSpec } from "./contract/definition.js";
import { familyNames, hardFamilies, normal, type Shape } from "./contract/families.js";
import { d64, encode, nearest } from "./contract/reference.js";
import { countOpenRows, countsOpenRows } from "./open-rows.js";

const native = loadAddon().addon as CudaAddon | null;
const available = status().backends.find(({ name }) => name === "cuda")?.available === true;
const asked = ["float16", "int8"] as const;
// With wgmma there is one screen; only some devices have int8.
const forms = asked.map((form) => ({ form, screen: screenOf(form) }));

/** Every number of steps that limbs have a kernel for, full and not, aligned and not. */
const shapes: readonly Shape[] = [
  { count: 33, dim: 64, numCodewords: 300 },
  { count: 17, dim: 49, numCodewords: 129 },
  { count: 20, dim: 96, numCodewords: 200 },
  { count: 16, dim: 83, numCodewords: 31 },
  { count: 18, dim: 128, numCodewords: 257 },
  { count: 21, dim: 124, numCodewords: 100 },
  { count: 19, dim: 192, numCodewords: 70 },
  { count: 9, dim: 130, numCodewords: 64 },
  { count: 17, dim: 256, numCodewords: 65 },
  { count: 12, dim: 255, numCodewords: 40 },
];
const kinds = [
  { metric: "l2", weighted: false, stages: 2 },
  { metric: "l2", weighted: true, stages: 2 },
  { metric: "cosine", weighted: false, stages: 2 },
] as const;

describe.skipIf(!countsOpenRows)("the emulated device", () => {
  it("has the screens that these tests are of", () => {
    const wgmma = Number(process.env.RVQ_EMULATED_WGMMA ?? 0) > 0;
    expect(forms.map(({ screen }) => screen)).toEqual(wgmma ? ["wgmma", "wgmma"] : asked);
  });
});

for (const { form, screen } of forms) {
  // Of wgmma once.
  const there = screen === form || (screen === "wgmma" && form === "float16");
  const title = there ? `a screen of ${screen}` : `a screen of ${form} (this device has ${screen ?? "none"})`;
  describe.skipIf(!there)(title, () => {
    const before = process.env.RVQ_CUDA_SCREEN;
    beforeEach(() => {
      process.env.RVQ_CUDA_SCREEN = form;
      native?.cudaTestLimits?.({ pieceRows: 0, memoryBytes: 0, searchForm: "whole" });
    });
    afterEach(() => {
      if (before === undefined) delete process.env.RVQ_CUDA_SCREEN;
      else process.env.RVQ_CUDA_SCREEN = before;
      native?.cudaTestLimits?.({ pieceRows: 0, memoryBytes: 0 });
    });

    it.each(familyNames)("equals the definition on %s data", async (family) => {
      for (const [index, shape] of shapes.entries()) {
        const kind = kinds[index % kinds.length];
        const { spec, vectors } = makeSpec(family, shape, kind, index);
        await expectOnCuda(spec, vectors, { form, family, ...shape, ...kind });
      }
    });

    it.each(Object.keys(hardFamilies))("equals the definition on %s", async (family) => {
      for (let seed = 0; seed < 12; seed++) {
        const shape = { ...shapes[seed % shapes.length], count: 40 };
        const { spec, vectors } = makeSpec(family, shape, { metric: "l2", weighted: false, stages: 1 }, seed);
        await expectOnCuda(spec, vectors, { form, family, seed, ...shape });
      }
    });

    it.each(Object.keys(deceptions))("does not believe what limbs say of %s", async (name) => {
      for (const dim of [64, 96, 128, 256]) {
        const found = deceive(deceptions[name], dim);
        expect(found.length, `${name}, dim ${dim}`).toBeGreaterThanOrEqual(4);
        for (const { vector, codebook } of found) {
          const spec: CodebookSpec = { dim, metric: "l2", weights: null, codebooks: [codebook] };
          await expectOnCuda(spec, vector, { form, name, dim });
        }
      }
    });

    it.each(Object.keys(misjudged))("does not believe distances that are of rounded %s", async (name) => {
      for (const dim of [...shapes.map((shape) => shape.dim), 8, 32, 300, 768, 1024, 1040]) {
        for (let seed = 0; seed < 12; seed++) {
          const { vector, codebook, expected } = misjudge(misjudged[name], dim, roundings[form], seed);
          expect(nearest(vector, codebook, "l2", null)).toBe(expected);
          const spec: CodebookSpec = { dim, metric: "l2", weights: null, codebooks: [codebook] };
          await expectOnCuda(spec, vector, { form, name, dim, seed });
        }
      }
    });

    it.skipIf(!countsOpenRows)("leaves few rows of Gaussian data open", async () => {
      const most = { float16: 0.08, int8: 0.025 }[form];
      for (const dim of [64, 128, 256]) {
        const count = 640;
        const random = new Random(dim);
        const numbers = (rows: number) => Float32Array.from({ length: rows * dim }, () => normal(random));
        const spec = { dim, metric: "l2", weights: null, codebooks: [numbers(512)] } as const;
        const prepared = openBackend("cuda", undefined).prepare(spec);
        const leftOpen = countOpenRows();
        prepared.encodeSync({ vectors: numbers(count), count, stages: 1, codes: new Uint16Array(count) });
        const { compared, searched } = leftOpen();
        prepared.dispose();
        const open = compared + searched;
        expect(open / count, `dim ${dim}`).toBeLessThan(most);
        expect(open).toBeGreaterThan(0);
      }
    });
  });
}

/** The screen of this device when `form` is asked for; undefined where there is no device or no build for tests. */
function screenOf(form: string): string | undefined {
  if (!available || native === null) return undefined;
  const before = process.env.RVQ_CUDA_SCREEN;
  process.env.RVQ_CUDA_SCREEN = form;
  const codebooks = [Float32Array.from({ length: 2 * 64 }, (_, i) => i)];
  const prepared = new native.CudaCodebooks({ dim: 64, metric: "l2", weights: null, codebooks, device: 0 });
  if (before === undefined) delete process.env.RVQ_CUDA_SCREEN;
  else process.env.RVQ_CUDA_SCREEN = before;
  const screen = prepared.testScreen?.();
  prepared.dispose();
  return screen;
}

async function expectOnCuda(spec: CodebookSpec, vectors: Float32Array, context: Record<string, unknown>) {
  const expected = encode(vectors, spec.codebooks, spec.dim, spec.metric, spec.weights);
  const prepared = openBackend("cuda", undefined).prepare(spec);
  await expectDefinition(prepared, spec, vectors, expected, context);
  prepared.dispose();
}

type Triple = readonly [vector: number, codeword: number, other: number];

interface Deception {
  /** The first elements, of which the vector's is its largest. */
  readonly first: Triple;
  /** Makes the others. */
  readonly elements: (random: Random) => () => Triple;
}

const alike: Triple = [127, 127, 127];
const alone: Triple = [127, 0, 0];
const sign = (random: Random) => 2 * random.below(2) - 1;
/** Rounded to nearest, it is not there. */
const nearlyHalf = 0.499 / 256;

/**
 * The largest element of all is 127, and codebooks have no mean: then units of limbs are 1/256. What is rounded away is as large as
 * it can be, one way for one codeword and the other way for the other; mostly one term of the bound alone allows for it.
 */
const deceptions: Readonly<Record<string, Deception>> = {
  "low limbs that all have one sign": {
    first: alike,
    elements: (random) => {
      const share = random.fraction();
      return () => {
        const vector = random.below(100) - 50 + 127 / 256;
        const codeword = vector + (random.fraction() < share ? 1 : 0);
        return [vector, codeword, codeword - 255 / 256];
      };
    },
  },
  "middle sums that are rounded": {
    first: alone,
    elements: (random) => () => {
      const vector = random.below(100) - 50 + random.below(256) / 256;
      return [vector, random.below(3) - 1, random.below(3) - 1];
    },
  },
  "the same of vectors that are nearly all in one element": {
    first: alone,
    elements: (random) => () => {
      const vector = random.below(3) - 1 + (random.below(3) - 1) / 256;
      return [vector, random.below(5) - 2, random.below(5) - 2];
    },
  },
  "vectors that are rounded": {
    first: [127, 20, 20],
    elements: (random) => () => {
      const side = sign(random);
      return [side * nearlyHalf, side * random.below(13), -side * random.below(13)];
    },
  },
  "codewords that are rounded": {
    first: alone,
    elements: (random) => () => {
      const vector = random.below(40);
      const units = random.below(3);
      return [vector, units / 256 + nearlyHalf, (units + random.below(3)) / 256 - nearlyHalf];
    },
  },
  "elements that limbs cannot hold": {
    first: alike,
    elements: (random) => {
      const apart = 2 ** -random.below(12);
      return () => {
        const vector = random.below(40) + normal(random);
        return [vector, vector + apart * normal(random), vector + apart * normal(random)];
      };
    },
  },
  "elements below the high limb": {
    first: alike,
    elements: (random) => () => {
      const vector = (random.below(235) - 117) / 256;
      return [vector, vector + (random.below(21) - 10) / 256, vector + (random.below(21) - 10) / 256];
    },
  },
};

/** Vectors whose nearest codeword, of a codebook for each, is not the one with the largest score of limbs. */
function deceive({ first, elements }: Deception, dim: number) {
  const random = new Random(dim);
  // Of the largest element's codeword: rows are measured by how peaky codewords are.
  const others = [Array.from({ length: dim }, (_, i) => (i < dim - 1 ? 0 : 127)), new Array<number>(dim).fill(127)];
  const found: { vector: Float32Array; codebook: Float32Array }[] = [];
  for (let attempt = 0; attempt < 200_000 && found.length < 12; attempt++) {
    const next = elements(random);
    const triples = Array.from({ length: dim }, (_, i) => (i === 0 ? first : next()));
    const [vector, a, b] = [0, 1, 2].map((which) => Float32Array.from(triples, (triple) => triple[which]));
    const difference = d64(vector, a) - d64(vector, b);
    if (difference === 0 || difference < 0 !== limbScore(vector, a) < limbScore(vector, b)) continue;
    const codewords = [...a, ...b, ...others[found.length % 2]];
    const codebook = Float32Array.from([...codewords, ...codewords.map((x) => -x)]);
    // It means something only where no other codeword is nearer.
    if (nearest(vector, codebook, "l2", null) < 2) found.push({ vector, codebook });
  }
  return found;
}

/** Where numbers lie that a screen rounds to multiples of `unit`; the largest is 127. */
const roundings = { float16: { least: 66, most: 126, unit: 1 / 16 }, int8: { least: -120, most: 120, unit: 1 / 256 } };

/**
 * Elements of a vector and two codewords, in units: near `whole`, and about `apart` to either side of it, the first codeword's being
 * `side`. `share` is how many of the vector's elements come before.
 * Roundings are as large as they can be and all against the codeword that is nearer: rounded, the other is nearer, by about as much
 * as the bound allows.
 */
type Misjudged = (place: { whole: number; side: number; apart: number; share: number }) => Triple;
const rounded = 0.46;
const misjudged: Readonly<Record<string, Misjudged>> = {
  // Together that is nearly two units of the difference: of most elements the first codeword is so much further.
  "vectors and codewords": ({ whole, side, apart, share }) => [
    whole + side * rounded,
    whole + side * (apart + (share < 0.2 ? 1 : 2) - rounded),
    whole - side * (apart + rounded),
  ],
  vectors: ({ whole, side, apart, share }) => [
    whole + side * rounded,
    whole + side * (apart + (share < 0.12 ? 0 : 1)),
    whole - side * apart,
  ],
  // What their norms then are would count for more than how far they are.
  "codewords to other norms": ({ whole, side, apart }) => {
    const [nearer, other] = [whole + side * (apart - 1), whole - side * apart];
    return [whole, nearer + Math.sign(nearer) * rounded, other - Math.sign(other) * rounded];
  },
};

function misjudge(misjudged: Misjudged, dim: number, { least, most, unit }: (typeof roundings)["int8"], seed: number) {
  const random = new Random(1000 * dim + seed);
  const apart = 8 + random.below(Math.floor((most - least) / unit / 4));
  const between = Math.max(1, Math.floor((most - least) / unit - 2 * apart - 8));
  const triples = Array.from({ length: dim }, (_, i): Triple => {
    if (i === dim - 1) return alike;
    const whole = least / unit + apart + 4 + random.below(between);
    const [vector, nearer, other] = misjudged({ whole, side: sign(random), apart, share: i / dim });
    return [vector * unit, nearer * unit, other * unit];
  });
  const [vector, nearer, other] = [0, 1, 2].map((which) => Float32Array.from(triples, (triple) => triple[which]));
  // One that is far, and rounded more than others may be.
  const far = Array.from(other, (x, i) => (i === dim - 1 ? x : (-1) ** i * (80 + random.below(40) + unit * rounded)));
  // Not always with the same code: one that is never written would be the one before.
  const expected = seed % 2;
  const codewords = [...(expected === 0 ? [nearer, other] : [other, nearer]), far].flatMap((codeword) => [...codeword]);
  return { vector, codebook: Float32Array.from([...codewords, ...codewords.map((x) => -x)]), expected };
}

/** What cuda/screen_bound.h says of the score of limbs, of a vector and codeword whose largest element is 127. */
function limbScore(vector: Float32Array, codeword: Float32Array): number {
  const scale = Math.fround((32_512 * (1 - 2 ** -20)) / 127);
  let middle = 128;
  let high = 0;
  let squares = 0;
  let inner = 0;
  for (let i = 0; i < vector.length; i++) {
    const own = limbs(Math.fround(vector[i] * scale));
    const other = limbs(256 * codeword[i]);
    middle += own.high * other.low + own.low * other.high;
    high += own.high * other.high;
    squares += codeword[i] ** 2;
    inner += codeword[i] * ((256 * other.high + other.low) / 256 - codeword[i]);
  }
  return ((high + Math.floor(middle / 256)) * 65_536) / scale / 256 - squares / 2 - inner;
}

function limbs(x: number): { high: number; low: number } {
  const whole = Math.round(x);
  const high = Math.floor((whole + 128) / 256);
  return { high, low: whole - 256 * high };
}
