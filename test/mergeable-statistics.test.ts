// Statistics: shards merge to the very numbers of a single pass, in any order, on any backend; bytes; refusals.

import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  CodebookTrainer,
  mergeRanges,
  ResidualQuantizer,
  RvqError,
  Statistics,
  type VectorRange,
  vectorRange,
} from "../lib/index.js";
import { Random } from "../lib/random.js";
import { candidates, withForm } from "./contract/backends.js";
import { familyNames, makeData, makeStages, withoutZeroRows } from "./contract/families.js";
import { unseal } from "./reseal.js";

const dim = 7;
const count = 500;
const available = candidates.filter((candidate) => candidate.available);

function makeQuantizer(family: string, metric: "l2" | "cosine" = "l2") {
  const shape = { count, dim, numCodewords: 12 };
  const data = makeData(family, shape, 5);
  const scale = family === "near overflow" ? 0.05 : 1;
  const scaled = (matrix: Float32Array) => withoutZeroRows(matrix, dim).map((x) => x * scale);
  const codebooks = makeStages(data, shape, 3, 5).map(scaled);
  return { vectors: scaled(data.vectors), rq: ResidualQuantizer.fromCodebooks(codebooks, { dim, metric }) };
}

/** Rows cut at random places, empty shards among them. */
function cut(rows: number, shards: number, random: Random): [from: number, to: number][] {
  const places = Array.from({ length: shards - 1 }, () => random.below(rows + 1)).sort((a, b) => a - b);
  return [0, ...places].map((from, i) => [from, places[i] ?? rows]);
}

function shuffled<Item>(items: readonly Item[], random: Random): Item[] {
  const order = [...items];
  for (let i = order.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

const rowsOf = (matrix: Float32Array, [from, to]: [number, number], width = dim) =>
  matrix.subarray(from * width, to * width);

describe("statistics of shards", () => {
  for (const family of familyNames) {
    it(`merge in any order, on any backend, to the bytes of a single pass: ${family} data`, async () => {
      const random = new Random(3);
      for (const metric of ["l2", "cosine"] as const) {
        const { vectors, rq } = makeQuantizer(family, metric);
        for (const weights of [undefined, Float32Array.from({ length: count }, () => 2 * random.fraction())]) {
          const range = await vectorRange(vectors, { dim, weights });
          const whole = await Statistics.start(rq, range);
          await whole.add(vectors, { weights });
          expect(whole.rows).toBe(count);
          for (const shards of [1, 2, 5, 16]) {
            const pieces = cut(count, shards, random);
            const part = (piece: [number, number]) => ({ weights: weights && rowsOf(weights, piece, 1) });
            const ranges = await Promise.all(
              pieces.map((piece) => vectorRange(rowsOf(vectors, piece), { dim, ...part(piece) })),
            );
            // As if they had come from other machines.
            const agreed: VectorRange = mergeRanges(JSON.parse(JSON.stringify(shuffled(ranges, random))));
            expect(agreed).toEqual(range);
            const bytes: Uint8Array[] = [];
            for (const [i, piece] of pieces.entries()) {
              const { form, name } = available[(i + shards) % available.length];
              const shard = await withForm(form, () => Statistics.start(rq, agreed, { backend: name }));
              await shard.add(rowsOf(vectors, piece), part(piece));
              bytes.push(shard.toBytes());
            }
            const [first, ...others] = shuffled(bytes, random).map((of) => Statistics.fromBytes(of));
            for (const other of others) first.merge(other);
            expect(Buffer.compare(first.toBytes(), whole.toBytes()), `${metric}, ${shards} shards`).toBe(0);
            expect(first.codebooks(rq)).toEqual(whole.codebooks(rq));
            expect(first.usage()).toEqual(whole.usage());
          }
        }
      }
    });
  }

  it("give the means of what each codeword serves, and leave codewords without vectors as they are", async () => {
    const random = new Random(9);
    for (const weights of [undefined, Float32Array.from({ length: count }, () => 3 * random.fraction())]) {
      const { vectors, rq } = makeQuantizer("gaussian");
      const statistics = await Statistics.start(rq, await vectorRange(vectors, { dim, weights }));
      await statistics.add(vectors, { weights });
      const codes = await rq.encode(vectors);
      const residuals = vectors.slice();
      for (const [stage, codebook] of rq.codebooks().entries()) {
        const size = codebook.length / dim;
        const masses = new Array<number>(size).fill(0);
        const sums = new Array<number>(codebook.length).fill(0);
        for (let n = 0; n < count; n++) {
          const k = codes.data[n * 3 + stage];
          const weight = weights?.[n] ?? 1;
          masses[k] += weight;
          for (let i = 0; i < dim; i++) {
            sums[k * dim + i] += weight * residuals[n * dim + i];
            residuals[n * dim + i] -= codebook[k * dim + i];
          }
        }
        const found = statistics.codebooks(rq)[stage];
        for (const [j, value] of found.entries()) {
          const mass = masses[Math.floor(j / dim)];
          if (mass === 0) expect(value).toBe(codebook[j]);
          else expect(value).toBeCloseTo(sums[j] / mass, 5);
        }
        for (const [k, mass] of statistics.usage()[stage].counts.entries()) expect(mass).toBeCloseTo(masses[k], 5);
      }
    }
  });

  it("may have row weights in some shards: the rows of the others weigh 1", async () => {
    const { vectors, rq } = makeQuantizer("gaussian");
    const [half, rest] = [vectors.subarray(0, 200 * dim), vectors.subarray(200 * dim)];
    const weights = new Float32Array(200).fill(0.25);
    const all = Float32Array.from({ length: count }, (_, n) => (n < 200 ? 0.25 : 1));
    const ranges = [
      await vectorRange(new Float32Array(0), { dim }),
      await vectorRange(half, { dim, weights }),
      await vectorRange(rest, { dim }),
    ];
    expect(mergeRanges(ranges.slice(0, 2)).maxWeight).toBe(0.25);
    const range = mergeRanges(ranges);
    expect(range).toEqual(await vectorRange(vectors, { dim, weights: all }));
    const [mixed, whole] = [await Statistics.start(rq, range), await Statistics.start(rq, range)];
    await mixed.add(rest);
    await mixed.add(half, { weights });
    await whole.add(vectors, { weights: all });
    expect(mixed.toBytes()).toEqual(whole.toBytes());
  });

  it("are an iteration of k-means for a single stage: distortion never rises", async () => {
    const { vectors } = makeQuantizer("correlated");
    let rq = ResidualQuantizer.fromCodebooks([vectors.slice(0, 9 * dim)], { dim });
    let last = Infinity;
    for (let iteration = 0; iteration < 8; iteration++) {
      const [{ mse }] = await rq.distortion(vectors, await rq.encode(vectors));
      expect(mse).toBeLessThanOrEqual(last);
      last = mse;
      const statistics = await Statistics.start(rq, await vectorRange(vectors, { dim }));
      await statistics.add(vectors);
      rq = ResidualQuantizer.fromCodebooks(statistics.codebooks(rq), { dim });
    }
  });

  it("count rows by masks as training does", async () => {
    const { vectors, rq } = makeQuantizer("gaussian");
    const mask = Uint8Array.from({ length: count }, (_, n) => n % 2);
    const kept = Float32Array.from(vectors.filter((_, i) => mask[Math.floor(i / dim)] === 1));
    const padded = vectors.map((x, i) => (mask[Math.floor(i / dim)] === 1 ? x : NaN));
    const statistics: Uint8Array[] = [];
    for (const rows of [kept, padded]) {
      const options = rows === kept ? {} : { mask };
      const made = await Statistics.start(rq, await vectorRange(rows, { dim, ...options }));
      await made.add(rows, options);
      statistics.push(made.toBytes());
    }
    expect(statistics[0]).toEqual(statistics[1]);
  });
});

describe("a trainer's update by statistics", () => {
  it("is the very step of the whole batch, however it was sharded", async () => {
    const random = new Random(4);
    for (const average of ["encodec", "simple"] as const) {
      const { vectors, rq } = makeQuantizer("clustered");
      const options = { dim, average, reseed: false, decay: { from: 0.5, to: 0.9, steps: 2 } };
      const [whole, sharded] = [1, 2].map(() => CodebookTrainer.fromCodebooks(rq.codebooks(), options));
      for (let step = 0; step < 4; step++) {
        const weights = step % 2 === 0 ? undefined : Float32Array.from({ length: count }, () => random.fraction());
        await whole.step(vectors, { weights });
        const model = sharded.quantizer();
        const range = await vectorRange(vectors, { dim, weights });
        const merged = await Statistics.start(model, range);
        for (const piece of shuffled(cut(count, 4, random), random)) {
          const shard = await Statistics.start(model, range);
          await shard.add(rowsOf(vectors, piece), { weights: weights && rowsOf(weights, piece, 1) });
          merged.merge(shard);
        }
        await sharded.update(merged);
        expect(sharded.toBytes()).toEqual(whole.toBytes());
      }
    }
  });

  it("takes statistics by its own codebooks only, and none without rows", async () => {
    const { vectors, rq } = makeQuantizer("gaussian");
    const trainer = CodebookTrainer.fromCodebooks(rq.codebooks(), { dim });
    const statistics = await Statistics.start(rq, await vectorRange(vectors, { dim }));
    const before = trainer.toBytes();
    await trainer.update(statistics);
    expect(trainer.toBytes()).toEqual(before);
    await statistics.add(vectors);
    await trainer.update(statistics);
    expect(trainer.steps).toBe(1);
    await expect(trainer.update(statistics)).rejects.toThrow(/statistics: expected ones by the quantizer/);
    const forged = Buffer.from(await lie(trainer, vectors));
    await expect(trainer.update(Statistics.fromBytes(forged))).rejects.toThrow(/statistics: expected sums/);
    expect(trainer.steps).toBe(1);
    await expect(trainer.update({} as never)).rejects.toThrow(/statistics: expected Statistics/);
  });
});

/** Statistics by the trainer's codebooks whose first sum and grid are as large as they can be. */
async function lie(trainer: CodebookTrainer, vectors: Float32Array): Promise<Uint8Array> {
  const statistics = await Statistics.start(trainer.quantizer(), await vectorRange(vectors, { dim }));
  await statistics.add(vectors);
  const bytes = Buffer.from(statistics.toBytes());
  const arrays = 12 + bytes.readUInt32LE(8);
  bytes.writeInt32LE(200, arrays);
  bytes.writeDoubleLE(2 ** 51, arrays + 4 * dim + 8 * 13);
  createHash("sha256")
    .update(bytes.subarray(0, -32))
    .digest()
    .copy(bytes, bytes.length - 32);
  return bytes;
}

describe("statistics", () => {
  it("refuse what does not fit, and are then as they were", async () => {
    const { vectors, rq } = makeQuantizer("gaussian");
    const range = await vectorRange(vectors, { dim });
    const statistics = await Statistics.start(rq, range);
    await statistics.add(vectors.subarray(0, 100 * dim));
    const before = statistics.toBytes();
    const larger = vectors.slice(0, dim).fill(100);
    await expect(statistics.add(larger)).rejects.toThrow(
      /vectors: expected magnitudes of at most .* in column 0, got 100/,
    );
    await expect(statistics.add(vectors)).rejects.toThrow(/rows: expected at most 500, as the range says, got 600/);
    await expect(statistics.add(vectors.subarray(0, dim), { weights: Float32Array.of(1) })).rejects.toThrow(/weights/);
    const bad = vectors.slice(0, 2 * dim);
    bad[dim] = NaN;
    await expect(statistics.add(bad)).rejects.toMatchObject({ code: "NOT_FINITE" });
    await expect(statistics.add(vectors, { signal: AbortSignal.abort(new Error("no")) })).rejects.toThrow("no");
    const other = ResidualQuantizer.fromCodebooks(rq.codebooks().slice(0, 2), { dim });
    const ofOther = await Statistics.start(other, range);
    expect(() => statistics.merge(ofOther)).toThrow(/other: expected statistics by the same quantizer and range/);
    const ofOtherRange = await Statistics.start(rq, { ...range, rows: 501 });
    expect(() => statistics.merge(ofOtherRange)).toThrow(/same quantizer and range/);
    expect(() => statistics.codebooks(other)).toThrow(/quantizer/);
    await expect(Statistics.fromBytes(before).add(vectors)).rejects.toThrow(/made by start/);
    expect(statistics.toBytes()).toEqual(before);
    expect(() => mergeRanges([])).toThrow(/ranges/);
    expect(() => mergeRanges([range, { ...range, magnitudes: [1] }])).toThrow(/ranges\[1\]\.magnitudes/);
    await expect(Statistics.start(rq, { ...range, rows: -1 })).rejects.toThrow(/range\.rows/);
    const largest = range.magnitudes.map(() => Math.fround(3e38));
    await expect(Statistics.start(rq, { ...range, magnitudes: largest })).resolves.toBeDefined();
    const weighted = { ...range, magnitudes: largest, maxWeight: 2 };
    await expect(Statistics.start(rq, weighted)).rejects.toThrow(/range: .*magnitudes/);
  });

  it("are refused as bytes when these are damaged or lie", async () => {
    const { vectors, rq } = makeQuantizer("gaussian");
    const weights = new Float32Array(count).fill(0.5);
    const statistics = await Statistics.start(rq, await vectorRange(vectors, { dim, weights }));
    await statistics.add(vectors, { weights });
    const bytes = Buffer.from(statistics.toBytes());
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.nat(7), fc.boolean(), (position, bit, isCut) => {
        const damaged = Uint8Array.from(isCut ? bytes.subarray(0, position) : bytes);
        if (!isCut) damaged[position] ^= 1 << bit;
        expect(() => Statistics.fromBytes(damaged)).toThrow(RvqError);
      }),
      { numRuns: 300 },
    );

    const { header, arrays, reseal } = unseal(bytes);
    const { range } = header as { range: object };
    const edited = (edit: (body: Buffer) => void) => {
      const body = Buffer.from(arrays);
      edit(body);
      return body;
    };
    expect(Statistics.fromBytes(reseal({})).toBytes()).toEqual(new Uint8Array(bytes));
    const lies: [Buffer, RegExp][] = [
      [reseal({ dim: 65_536 }), /magnitudes/],
      [reseal({ codebookSizes: [2 ** 24, 2 ** 24] }), /bytes of arrays/],
      [reseal({ codebookSizes: [] }), /codebookSizes/],
      [reseal({ codebookSizes: null }), /codebookSizes/],
      [reseal({ quantizerId: "x" }), /quantizerId/],
      [reseal({ rows: 501 }), /rows/],
      [reseal({ rows: 499 }), /counts/],
      [reseal({ range: null }), /range/],
      [reseal({ range: { ...range, maxWeight: null } }), /weightExponent/],
      [reseal({ range: { ...range, maxWeight: 0.1 } }), /float32/],
      [reseal({ weightExponent: 5000 }), /weightExponent/],
      [
        reseal(
          {},
          edited((body) => body.writeInt32LE(-150, 0)),
        ),
        /gridExponents/,
      ],
      [
        reseal(
          {},
          edited((body) => body.writeDoubleLE(0.5, 4 * dim)),
        ),
        /counts/,
      ],
      [
        reseal(
          {},
          edited((body) => body.writeDoubleLE(NaN, 4 * dim + 8 * 13)),
        ),
        /sums/,
      ],
      [
        reseal(
          {},
          edited((body) => body.writeDoubleLE(2 ** 52, 4 * dim + 8 * 13)),
        ),
        /sums/,
      ],
    ];
    for (const [lie, message] of lies) {
      expect(() => Statistics.fromBytes(lie)).toThrow(message);
      expect(() => Statistics.fromBytes(lie)).toThrow(expect.objectContaining({ code: "INVALID_STATISTICS" }));
    }
    expect(() => Statistics.fromBytes(new Uint8Array(10))).toThrow(/statistics of at least 44 bytes/);
    expect(() => Statistics.fromBytes("x" as never)).toThrow(RvqError);
  });
});
