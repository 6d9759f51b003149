// Codewords that the tensor cores' screen cannot tell apart, wherever they are in the codebook: what threads keep of them
// (cuda/piece_ranking.cuh, cuda/ranking.cuh) has to leave all of them to be compared. On a machine with a GPU, or in the build that
// emulates one, which also counts the rows that are compared and those whose places are looked through.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadAddon } from "../lib/addon.js";
import type { CodebookSpec } from "../lib/backend.js";
import type { CudaAddon } from "../lib/cuda/addon.js";
import { openBackend, status } from "../lib/open-backend.js";
import { Random } from "../lib/random.js";
import { expectDefinition } from "./contract/definition.js";
import { gaussianRows } from "./contract/families.js";
import { encode } from "./contract/reference.js";
import { countOpenRows, countsOpenRows } from "./open-rows.js";

const native = loadAddon().addon as CudaAddon | null;
const available = status().backends.find(({ name }) => name === "cuda")?.available === true;
const wgmma = countsOpenRows && Number(process.env.RVQ_EMULATED_WGMMA ?? 0) > 0;

/** Of every number of steps that wgmma has a kernel for; the last by the one for more dimensions. */
const dims = [8, 24, 60, 96, 128, 180, 256, 300];
const pieces = 11;
/** The last piece has few. */
const numCodewords = 64 * pieces + 5;

/** What tells the codewords of a thread's row apart, and the thread that has them. */
interface Place {
  readonly piece: number;
  readonly group: number;
  readonly member: number;
  readonly column: number;
}

const codewordAt = ({ piece, group, member, column }: Place) =>
  64 * piece + 8 * (4 * (member >> 1) + group) + 2 * column + (member & 1);

/** For each row the places of the codewords that are near it. */
interface Arrangement {
  readonly name: string;
  place(random: Random, row: number, contender: number): Place;
  readonly contenders: number;
  /** Whether a thread cannot say which they are. */
  readonly hidden: boolean;
}

const any = (random: Random, values: number) => Math.floor(random.fraction() * values);

const arrangements: readonly Arrangement[] = [
  {
    name: "one",
    place: (random, row) => ({ piece: row % pieces, group: any(random, 4), member: any(random, 4), column: row % 4 }),
    contenders: 1,
    hidden: false,
  },
  {
    name: "two of different threads",
    place: (random, row, i) => ({ piece: any(random, pieces), group: row % 4, member: any(random, 4), column: i }),
    contenders: 2,
    hidden: false,
  },
  {
    name: "two of a thread that differ in the piece",
    place: (_, row, i) => ({ piece: (row + 3 * i) % pieces, group: row % 4, member: (row >> 2) % 4, column: row % 4 }),
    contenders: 2,
    hidden: false,
  },
  {
    name: "two of a thread that differ in the group",
    place: (_, row, i) => ({ piece: row % pieces, group: (row + i) % 4, member: (row >> 2) % 4, column: row % 4 }),
    contenders: 2,
    hidden: false,
  },
  {
    name: "two of a thread that differ in the member",
    place: (_, row, i) => ({ piece: row % pieces, group: row % 4, member: (row + i) % 4, column: row % 4 }),
    contenders: 2,
    hidden: false,
  },
  {
    name: "two of a thread that differ in all",
    place: (_, row, i) => ({
      piece: (row + i) % pieces,
      group: (row + i) % 4,
      member: (row + 3 * i) % 4,
      column: row % 4,
    }),
    contenders: 2,
    hidden: false,
  },
  {
    name: "three of a thread in three pieces",
    place: (_, row, i) => ({ piece: (row + 2 * i) % pieces, group: (row + i) % 4, member: row % 4, column: row % 4 }),
    contenders: 3,
    hidden: true,
  },
  {
    name: "sixteen of a thread's piece",
    place: (_, row, i) => ({ piece: row % pieces, group: i % 4, member: i >> 2, column: row % 4 }),
    contenders: 16,
    hidden: false,
  },
  {
    name: "more than can be listed, of all threads",
    place: (_, row, i) => ({ piece: row % pieces, group: (i >> 2) % 4, member: i >> 4, column: i % 4 }),
    contenders: 24,
    hidden: true,
  },
];

// Few rows would be searched otherwise.
beforeAll(() => native?.cudaTestLimits?.({ pieceRows: 0, memoryBytes: 0, searchForm: "whole" }));
afterAll(() => native?.cudaTestLimits?.({ pieceRows: 0, memoryBytes: 0 }));

describe.skipIf(!available)("codewords that are nearly alike", () => {
  for (const arrangement of arrangements) {
    it(`are compared: ${arrangement.name}`, async () => {
      for (const dim of dims) {
        // As many rows as have their codewords to themselves, in warps of sixteen.
        const count = Math.min(16, Math.floor(300 / arrangement.contenders));
        const { spec, vectors } = arranged(arrangement, dim, count);
        const expected = encode(vectors, spec.codebooks, dim, spec.metric, spec.weights);
        const prepared = openBackend("cuda", undefined).prepare(spec);
        const leftOpen = countOpenRows();
        prepared.encodeSync({ vectors, count, stages: 1, codes: new Uint16Array(count) });
        const { compared, searched } = leftOpen();
        await expectDefinition(prepared, spec, vectors, expected, { name: arrangement.name, dim });
        prepared.dispose();
        if (!wgmma || dim > 256) continue;
        expect(compared > 0 || searched > 0, `${dim} dimensions`).toBe(arrangement.contenders > 1);
        expect(searched > 0, `${dim} dimensions`).toBe(arrangement.hidden);
      }
    });
  }
});

describe.skipIf(!available)("rows far to one side of all codewords", () => {
  // Scores are below zero then, for all of them: their centre is a corner, because float32 has no quarters there.
  it.each([70, 128])("have their codes, of %i codewords, and are not looked through", async (size) => {
    const base = 2 ** 23;
    for (const dim of dims) {
      const random = new Random(dim);
      const codebook = Float32Array.from({ length: size * dim }, () => base + (any(random, 4) === 0 ? 1 : 0));
      const vectors = Float32Array.from({ length: 20 * dim }, () => base - 1000 - any(random, 5));
      const spec: CodebookSpec = { dim, metric: "l2", weights: null, codebooks: [codebook] };
      const prepared = openBackend("cuda", undefined).prepare(spec);
      const expected = encode(vectors, spec.codebooks, dim, spec.metric, spec.weights);
      const leftOpen = countOpenRows();
      await expectDefinition(prepared, spec, vectors, expected, { size, dim });
      const { searched } = leftOpen();
      prepared.dispose();
      if (wgmma && dim <= 256) expect(searched, `${dim} dimensions`).toBe(0);
    }
  });
});

/** Rows far from each other, and codewords a few units in the last place from them; the others far from all. */
function arranged(arrangement: Arrangement, dim: number, count: number): { spec: CodebookSpec; vectors: Float32Array } {
  const random = new Random(dim);
  const vectors = gaussianRows(count, dim, dim).map((x) => 4 * x);
  const codebook = gaussianRows(numCodewords, dim, dim + 1).map((x) => 4 * x);
  const taken = new Set<number>();
  for (let row = 0; row < count; row++) {
    const own: number[] = [];
    for (let i = 0; i < arrangement.contenders; i++) {
      const k = codewordAt(arrangement.place(random, row, i));
      if (taken.has(k)) continue;
      own.push(k);
    }
    for (const k of own) {
      taken.add(k);
      for (let j = 0; j < dim; j++) {
        codebook[k * dim + j] = vectors[row * dim + j] * (1 + (any(random, 9) - 4) * 2 ** -22);
      }
    }
  }
  return { spec: { dim, metric: "l2", weights: null, codebooks: [codebook] }, vectors };
}
