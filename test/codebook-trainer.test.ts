// CodebookTrainer against its formulas in plain float64, and what a user relies on: masks, weights, dropout, re-seeding, shapes.

import { describe, expect, it } from "vitest";
import {
  CodebookTrainer,
  type LearningOptions,
  ResidualQuantizer,
  RvqError,
  type StepResult,
  status,
} from "../lib/index.js";
import { Random } from "../lib/random.js";
import { gaussianRows, makeData, normal } from "./contract/families.js";
import { nearest } from "./contract/reference.js";

const dim = 6;
const sizes = [5, 4];

const gaussian = (count: number, width = dim, seed = 1) => gaussianRows(count, width, seed);

/** Two stages around the data, the second smaller. */
const codebooks = () => sizes.map((size, stage) => gaussian(size, dim, 70 + stage).map((c) => c / (1 + 2 * stage)));

/** The formulas, one row and one codeword at a time, in float64 without any grid. */
class Reference {
  readonly usage: number[][];
  readonly averages: number[][];
  readonly codebooks: Float32Array[];

  constructor(
    start: readonly Float32Array[],
    private readonly form: "encodec" | "simple",
    private readonly metric: "l2" | "cosine" = "l2",
    private readonly metricWeights: Float32Array | null = null,
  ) {
    this.codebooks = start.map((codebook) => codebook.slice());
    this.usage = start.map(() => []);
    this.averages = start.map(() => []);
  }

  step(batch: Float32Array, rowWeights: readonly number[], stagesOfRow: ArrayLike<number>, decay: number) {
    const residuals = batch.slice();
    const codes: number[] = [];
    const result = this.codebooks.map((codebook, s) => {
      const before = codebook.slice();
      const size = codebook.length / dim;
      const counts = new Array<number>(size).fill(0);
      const sums = new Array<number>(size * dim).fill(0);
      let error = 0;
      let mass = 0;
      for (let n = 0; n < rowWeights.length; n++) {
        const weight = rowWeights[n];
        if (weight === 0) continue;
        const r = residuals.subarray(n * dim, (n + 1) * dim);
        const k = nearest(r, before, this.metric, this.metricWeights);
        codes[n * this.codebooks.length + s] = k;
        if (stagesOfRow[n] > s) {
          counts[k] += weight;
          mass += weight;
          for (let i = 0; i < dim; i++) {
            sums[k * dim + i] += weight * r[i];
            error += weight * (r[i] - before[k * dim + i]) ** 2;
          }
        }
        for (let i = 0; i < dim; i++) r[i] -= before[k * dim + i];
      }
      this.update(s, counts, sums, decay);
      return { mse: error / (mass * dim), counts };
    });
    return { codes, stages: result };
  }

  private update(s: number, counts: number[], sums: number[], decay: number): void {
    const codebook = this.codebooks[s];
    const size = counts.length;
    const total = counts.reduce((a, b) => a + b, 0);
    if (this.usage[s].length === 0) {
      this.usage[s] = counts.map(() => total / size);
      this.averages[s] = Array.from(codebook, (c) => (this.form === "encodec" ? c * (total / size) : c));
    }
    this.usage[s] = this.usage[s].map((n, k) => decay * n + (1 - decay) * counts[k]);
    this.averages[s] = this.averages[s].map((m, j) => {
      const k = Math.floor(j / dim);
      if (this.form === "encodec") return decay * m + (1 - decay) * sums[j];
      return counts[k] === 0 ? m : decay * m + (1 - decay) * (sums[j] / counts[k]);
    });
    const all = this.usage[s].reduce((a, b) => a + b, 0);
    codebook.set(
      this.averages[s].map((m, j) => {
        const n = this.usage[s][Math.floor(j / dim)];
        return this.form === "encodec" ? m / (((n + 1e-5) / (all + size * 1e-5)) * all) : m;
      }),
    );
  }
}

function expectNear(actual: ArrayLike<number>, expected: ArrayLike<number>, what: string, tolerance = 1e-6): void {
  expect(actual.length, what).toBe(expected.length);
  for (let i = 0; i < expected.length; i++) {
    const within = tolerance * Math.max(1, Math.abs(expected[i]));
    expect(Math.abs(actual[i] - expected[i]), `${what}, element ${i}`).toBeLessThanOrEqual(within);
  }
}

const still: LearningOptions = { reseed: false };

describe("a step", () => {
  for (const average of ["encodec", "simple"] as const) {
    for (const metric of ["l2", "weighted l2", "cosine"] as const) {
      it(`follows the formulas of the ${average} form with the ${metric} metric`, async () => {
        const weights = metric === "weighted l2" ? Float32Array.of(1, 0.5, 2, 0, 1, 3) : undefined;
        const name = metric === "cosine" ? "cosine" : "l2";
        const options = { ...still, dim, metric: name, weights, average } as const;
        const trainer = CodebookTrainer.fromCodebooks(codebooks(), {
          ...options,
          decay: { from: 0.5, to: 0.9, steps: 4 },
        });
        const reference = new Reference(codebooks(), average, name, weights ?? null);
        for (let step = 0; step < 6; step++) {
          const batch = gaussian(40, dim, 100 + step);
          const before = trainer.quantizer();
          const result = await trainer.step(batch, { reconstruct: true });
          expect(result.codes).toEqual(before.encodeSync(batch));
          expect(result.reconstruction).toEqual(before.decodeSync(result.codes));
          const decay = 0.5 + 0.4 * Math.min(1, step / 4);
          const expected = reference.step(batch, new Array(40).fill(1), new Array(40).fill(2), decay);
          expect([...result.codes.data]).toEqual(expected.codes);
          for (const [s, report] of result.stages.entries()) {
            expect(report.mse).toBeCloseTo(expected.stages[s].mse, 6);
            expect([...report.usage.counts]).toEqual(expected.stages[s].counts);
            expectNear(trainer.codebooks()[s], reference.codebooks[s], `codebook ${s} of step ${step}`);
          }
          const distortion = await before.distortion(batch, result.codes);
          expect(result.stages[1].mse).toBeCloseTo(distortion[1].mse, 6);
          expect(result.stages[1].distortion).toBeCloseTo(distortion[1].distortion, 6);
          expect(result.commitmentLoss).toBeCloseTo(0.25 * distortion[1].mse, 6);
          expect(result).toMatchObject({ step: step + 1, rows: 40, stagesOfRow: null });
        }
      });
    }
  }

  it("counts rows by their weights and leaves out those that are masked or weigh nothing", async () => {
    const random = new Random(3);
    for (const average of ["encodec", "simple"] as const) {
      const trainer = CodebookTrainer.fromCodebooks(codebooks(), { ...still, dim, average, decay: 0.8, beta: 1 });
      const reference = new Reference(codebooks(), average);
      for (let step = 0; step < 4; step++) {
        const batch = gaussian(60, dim, 200 + step);
        const weights = Float32Array.from({ length: 60 }, () => (random.below(4) === 0 ? 0 : 3 * random.fraction()));
        const mask = Uint8Array.from({ length: 60 }, () => random.below(3));
        const effective = [...weights].map((weight, n) => (mask[n] === 0 ? 0 : weight));
        const expected = reference.step(batch, effective, new Array(60).fill(2), 0.8);
        for (let n = 0; n < 60; n++) if (effective[n] === 0) batch.fill(NaN, n * dim, (n + 1) * dim);
        const result = await trainer.step(batch, { mask, weights, reconstruct: true });
        expect(result.rows).toBe(effective.filter((weight) => weight > 0).length);
        expect(result.commitmentLoss).toBeCloseTo(expected.stages[1].mse, 6);
        for (const [s, { usage }] of result.stages.entries()) {
          expectNear(usage.counts, expected.stages[s].counts, `counts ${s}`);
          expectNear(trainer.codebooks()[s], reference.codebooks[s], `codebook ${s} of step ${step}`);
        }
        for (const [n, weight] of effective.entries()) {
          if (weight > 0) continue;
          expect([...result.codes.data.subarray(n * 2, n * 2 + 2)]).toEqual([0, 0]);
          expect(result.reconstruction?.subarray(n * dim, (n + 1) * dim).every((value) => value === 0)).toBe(true);
        }
      }
    }
  });

  it("is the same, bit for bit, whatever the rows that do not count hold, and with weights of one", async () => {
    const batch = gaussian(50);
    const run = async (rows: Float32Array, options: object) => {
      const trainer = CodebookTrainer.fromCodebooks(codebooks(), { dim, dropout: { probability: 0.5 }, seed: 4 });
      const { reconstruction: _, codes: __, stagesOfRow: ___, ...report } = await trainer.step(rows, options);
      await trainer.step(rows, options);
      return { bytes: Buffer.from(trainer.toBytes()), report };
    };
    const alone = await run(batch, {});
    const padded = new Float32Array(batch.length + 10 * dim).fill(1e30);
    padded.set(batch.subarray(0, 20 * dim));
    padded.set(batch.subarray(20 * dim), 30 * dim);
    padded[25 * dim] = NaN;
    const rows = Array.from({ length: 60 }, (_, n) => (n < 20 || n >= 30 ? 1 : 0));
    for (const options of [
      { mask: Uint8Array.from(rows) },
      { weights: Float32Array.from(rows) },
      { mask: Uint8Array.from(rows), weights: new Float32Array(60).fill(1) },
    ]) {
      const other = await run(padded, options);
      expect(other.bytes.equals(alone.bytes)).toBe(true);
      expect(other.report).toEqual(alone.report);
    }
    expect((await run(batch, { weights: new Float32Array(50).fill(1) })).bytes.equals(alone.bytes)).toBe(true);
  });

  it("changes nothing where no row counts", async () => {
    const trainer = CodebookTrainer.fromCodebooks(codebooks(), { dim, dropout: { probability: 1 } });
    await trainer.step(gaussian(30));
    const before = trainer.toBytes();
    for (const [batch, options] of [
      [new Float32Array(0), {}],
      [gaussian(3), { mask: new Uint8Array(3) }],
      [gaussian(3).fill(NaN), { weights: new Float32Array(3) }],
    ] as const) {
      const result = await trainer.step(batch, options);
      expect(result).toMatchObject({ step: 1, rows: 0, commitmentLoss: 0 });
      expect(result.codes.count).toBe(batch.length / dim);
      expect(result.stages.map(({ usage }) => usage.perplexity)).toEqual([0, 0]);
      expect(trainer.toBytes()).toEqual(before);
    }
  });

  it("is undone by an error or an abort", async () => {
    const trainer = CodebookTrainer.fromCodebooks(codebooks(), { dim });
    await trainer.step(gaussian(30));
    const before = trainer.toBytes();
    const bad = gaussian(30);
    bad[7 * dim + 2] = NaN;
    await expect(trainer.step(bad)).rejects.toThrow(/batch: .*NaN in row 7, column 2/);
    const mask = new Uint8Array(30).fill(1, 3);
    await expect(trainer.step(bad, { mask })).rejects.toThrow(/batch: .*NaN in row 7, column 2/);
    bad[7 * dim + 2] = -Infinity;
    await expect(trainer.step(bad)).rejects.toMatchObject({ code: "NOT_FINITE" });
    await expect(trainer.step(gaussian(30).fill(3e38))).resolves.toBeDefined();
    const later = CodebookTrainer.fromBytes(before);
    await expect(later.step(gaussian(30), { signal: AbortSignal.abort(new Error("enough")) })).rejects.toThrow(
      "enough",
    );
    const controller = new AbortController();
    const call = later.step(gaussian(200_000), { signal: controller.signal });
    setTimeout(() => controller.abort(new Error("stop")), 1);
    await expect(call).rejects.toThrow("stop");
    expect(later.toBytes()).toEqual(before);
    const after = await later.step(gaussian(30, dim, 9));
    expect(after.step).toBe(2);
  });

  it("refuses averages that float32 cannot hold, on every backend, and stays as it is", async () => {
    for (const { name } of status().backends.filter(({ available }) => available)) {
      const options = { dim: 1, average: "encodec", decay: 0.01, epsilon: 1, backend: name } as const;
      const trainer = CodebookTrainer.fromCodebooks([Float32Array.of(3.3e38, 1)], options);
      const before = trainer.toBytes();
      // Smoothing takes a tenth of the usage of the first codeword away, and the average of nine in ten is divided by it.
      const batch = new Float32Array(10).fill(3.39e38, 1);
      await expect(trainer.step(batch), name).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
        message: 'batch: expected magnitudes whose averages float32 can hold, got "an overflow in stage 0"',
      });
      expect(trainer.toBytes()).toEqual(before);
      await trainer.step(batch.map((x) => x / 2));
      expect(trainer.codebooks()[0].every(Number.isFinite)).toBe(true);
    }
  });

  it("refuses a batch that is gone when its turn comes", async () => {
    const trainer = CodebookTrainer.fromCodebooks(codebooks(), { dim });
    const first = trainer.step(gaussian(3000));
    const batch = gaussian(30);
    const second = trainer.step(batch);
    structuredClone(batch.buffer, { transfer: [batch.buffer as ArrayBuffer] });
    await first;
    await expect(second).rejects.toThrow(/batch: expected an array left alone during the call/);
    expect(trainer.steps).toBe(1);
  });

  it("waits for the one before", async () => {
    const [together, apart] = [1, 2].map(() => CodebookTrainer.fromCodebooks(codebooks(), { dim }));
    const batches = [1, 2, 3, 4].map((seed) => gaussian(300, dim, seed));
    const steps: Promise<StepResult>[] = batches.map((batch) => together.step(batch));
    expect((await Promise.all(steps)).map(({ step }) => step)).toEqual([1, 2, 3, 4]);
    for (const batch of batches) await apart.step(batch);
    expect(together.toBytes()).toEqual(apart.toBytes());
  });
});

describe("moving averages", () => {
  it("add up steps that are smaller than the last digit of a codeword", async () => {
    for (const average of ["encodec", "simple"] as const) {
      // The last digit near 2^20 is 1/8; a step moves by a thousandth of what is missing.
      const codebook = Float32Array.of(2 ** 20);
      const trainer = CodebookTrainer.fromCodebooks([codebook], { dim: 1, average, decay: 0.999, epsilon: 1e-12 });
      for (let step = 0; step < 1000; step++) await trainer.step(Float32Array.of(2 ** 20 + 10));
      expect(trainer.codebooks()[0][0]).toBe(Math.fround(2 ** 20 + 10 * (1 - 0.999 ** 1000)));
    }
  });

  it("leave the event loop free", async () => {
    for (const backend of ["cpu", "js"] as const) {
      if (!status().backends.some(({ name, available }) => name === backend && available)) continue;
      const batch = gaussian(backend === "cpu" ? 60_000 : 6_000, 64, 2);
      const weights = new Float32Array(batch.length / 64).fill(0.5);
      const start = [1, 2].map((seed) => gaussian(512, 64, seed));
      const options = { dim: 64, backend, dropout: { probability: 0.5 }, deadBelow: { ratio: 0.9 } } as const;
      const trainer = CodebookTrainer.fromCodebooks(start, options);
      let longest = 0;
      let last = performance.now();
      const look = () => {
        longest = Math.max(longest, performance.now() - last);
        last = performance.now();
      };
      const timer = setInterval(look, 1);
      for (let step = 0; step < 3; step++) await trainer.step(batch, { weights, reconstruct: true });
      clearInterval(timer);
      look();
      // As in test/residual-quantizer.test.ts: a machine that is busy with other things needs a wide margin.
      expect(longest, backend).toBeLessThan(150);
    }
  });
});

describe("options", () => {
  const trainer = CodebookTrainer.fromCodebooks(codebooks(), { dim });
  const wrong = (options: object) => () => CodebookTrainer.fromCodebooks(codebooks(), { dim, ...options });
  const batch = gaussian(4);
  const refused: [call: () => unknown, message: RegExp][] = [
    [wrong({ average: "mean" }), /average: expected "encodec" or "simple", got "mean"/],
    [wrong({ decay: 1.5 }), /decay: expected a number from 0 to 1, got 1\.5/],
    [wrong({ decay: "slow" }), /decay: expected a number from 0 to 1 or \{ from, to, steps \}/],
    [wrong({ decay: { from: 0.5, to: 0.9, steps: 0 } }), /decay\.steps/],
    [wrong({ decay: { from: 0.5, to: NaN, steps: 1 } }), /decay\.to/],
    [wrong({ epsilon: 0 }), /epsilon: expected a finite number > 0, got 0/],
    [wrong({ deadBelow: 2 }), /deadBelow: expected an object, got 2/],
    [wrong({ deadBelow: { count: -1 } }), /deadBelow\.count/],
    [wrong({ deadBelow: { ratio: 2 } }), /deadBelow\.ratio/],
    [wrong({ reseed: 1 }), /reseed: expected true or false, got 1/],
    [wrong({ beta: Infinity }), /beta/],
    [wrong({ dropout: { probability: -0.1 } }), /dropout\.probability/],
    [
      wrong({ dropout: { probability: 0.1, minStages: 3 } }),
      /dropout\.minStages: expected an integer from 1 to 2, got 3/,
    ],
    [wrong({ seed: -1 }), /seed/],
    [wrong({ dim: 7 }), /codebooks\[0\]: expected a length that is a multiple of dim 7/],
    [() => CodebookTrainer.fromCodebooks([], { dim }), /codebooks/],
    [() => CodebookTrainer.start([], { dim }), /vectors: expected at least one vector/],
    [() => CodebookTrainer.start([batch, [1] as never], { dim }), /firstBatches\[1\]: expected a Float32Array/],
    [() => CodebookTrainer.start(batch, { dim, codebookSize: 4, stages: 1, decay: -1 }), /decay/],
    [() => CodebookTrainer.start(batch.slice().fill(NaN), { dim }), /vectors: expected finite numbers, got NaN/],
    [() => trainer.step([1] as never), /batch: expected a Float32Array, got an array of 1/],
    [() => trainer.step(batch.subarray(1)), /batch: expected a length that is a multiple of dim 6/],
    [() => trainer.step(batch, { mask: [1] as never }), /mask: expected a Uint8Array/],
    [() => trainer.step(batch, { mask: new Uint8Array(3) }), /mask: expected 4 elements, one a row, got 3/],
    [() => trainer.step(batch, { weights: new Float32Array(5) }), /weights: expected 4 elements, one a row, got 5/],
    [() => trainer.step(batch, { weights: Float32Array.of(1, 1, -1, 1) }), /weights\[2\]/],
    [() => trainer.step(batch, { reconstruct: 1 as never }), /reconstruct/],
    [() => trainer.step(batch, { signal: {} as never }), /signal/],
    [() => trainer.step(batch.slice().fill(3e38), { weights: new Float32Array(4).fill(2) }), /batch: .*magnitudes/],
  ];

  it("that are wrong are refused by name", async () => {
    for (const [call, message] of refused) {
      await expect((async () => call())()).rejects.toThrow(message);
      await expect((async () => call())()).rejects.toBeInstanceOf(RvqError);
    }
    expect(trainer.steps).toBe(0);
  });
});

describe("quantize dropout", () => {
  it("has rows count in a random number of first stages, and in the loss by these", async () => {
    const start = [6, 5, 4].map((size, stage) => gaussian(size, dim, 80 + stage).map((c) => c / 2 ** stage));
    for (const average of ["encodec", "simple"] as const) {
      const dropout = { probability: 0.6, minStages: 2 };
      const options = { ...still, dim, average, dropout, seed: 5, decay: 0.9, beta: 1 };
      const trainer = CodebookTrainer.fromCodebooks(start, options);
      const reference = new Reference(start, average);
      const seen = [0, 0, 0, 0];
      for (let step = 0; step < 3; step++) {
        const batch = gaussian(200, dim, 300 + step);
        const before = trainer.quantizer();
        const { stagesOfRow, codes, reconstruction, commitmentLoss } = await trainer.step(batch, { reconstruct: true });
        const used = stagesOfRow as Uint16Array;
        reference.step(batch, new Array(200).fill(1), used, 0.9);
        for (const s of start.keys()) expectNear(trainer.codebooks()[s], reference.codebooks[s], `codebook ${s}`);
        expect(codes).toEqual(before.encodeSync(batch));
        const prefixes = [1, 2, 3].map((stages) => before.decodeSync(codes, { stages }));
        let loss = 0;
        for (let i = 0; i < batch.length; i++) {
          const row = Math.floor(i / dim);
          expect(reconstruction?.[i]).toBe(prefixes[used[row] - 1][i]);
          loss += (batch[i] - prefixes[used[row] - 1][i]) ** 2;
        }
        expect(commitmentLoss).toBeCloseTo(loss / batch.length, 6);
        for (const stages of used) seen[stages]++;
      }
      // 40 % of 600 rows have all stages anyway; the others draw from 2 and 3.
      expect(seen.slice(0, 2)).toEqual([0, 0]);
      expect(seen[2]).toBeGreaterThan(140);
      expect(seen[2]).toBeLessThan(220);
    }
  });

  it("leaves a stage that no row reaches as it is", async () => {
    const trainer = CodebookTrainer.fromCodebooks(codebooks(), { dim, dropout: { probability: 1 }, seed: 2 });
    const result = await trainer.step(gaussian(1));
    expect([...(result.stagesOfRow as Uint16Array)]).toEqual([1]);
    expect(trainer.codebooks()[1]).toEqual(codebooks()[1]);
    expect(trainer.codebooks()[0]).not.toEqual(codebooks()[0]);
  });
});

describe("dead codewords", () => {
  /** 64 clusters far apart, the first far from all others; batch after batch of them. */
  const centres = gaussian(64, 8, 42).map((c, i) => (i < 8 ? 200 : 10 * c));
  const clustered = (count: number, seed: number) => {
    const random = new Random(seed);
    const vectors = new Float32Array(count * 8);
    for (let start = 0; start < vectors.length; start += 8) {
      const centre = random.below(64) * 8;
      for (let i = 0; i < 8; i++) vectors[start + i] = centres[centre + i] + 0.1 * normal(random);
    }
    return vectors;
  };
  /** All codewords beyond that far cluster, one behind the other; those of the second stage around zero, as small as can be. */
  const collapsed = () => [
    new Float32Array(64 * 8).map((_, i) => 205 + 0.01 * Math.floor(i / 8)),
    gaussian(32, 8, 50).map((c) => 1e-4 * c),
  ];

  for (const average of ["encodec", "simple"] as const) {
    for (const deadBelow of [{ ratio: 0.03 }, { count: 0.5 }]) {
      it(`come back to 90 % usage with re-seeding, and stay dead without (${average}, ${JSON.stringify(deadBelow)})`, async () => {
        const used: number[][] = [];
        const snr: number[] = [];
        for (const reseed of [true, false]) {
          const options = { dim: 8, average, deadBelow, reseed, decay: 0.9, seed: 2 };
          const trainer = CodebookTrainer.fromCodebooks(collapsed(), options);
          for (let step = 0; step < 200; step++) await trainer.step(clustered(512, 1000 + step));
          const test = clustered(4096, 7);
          const rq = trainer.quantizer();
          const codes = await rq.encode(test);
          used.push(rq.usage(codes).map((usage) => usage.used));
          snr.push((await rq.distortion(test, codes))[1].snrDb);
        }
        const [on, off] = used;
        expect(Math.min(...on)).toBeGreaterThanOrEqual(0.9);
        // EnCodec's smoothing draws codewords without rows towards zero, where a few of them find some.
        expect(off[0]).toBeLessThan(0.35);
        expect(snr[0]).toBeGreaterThan(snr[1] + 15);
      });
    }
  }

  it("survive the step after: codeword, usage and average are set together", async () => {
    for (const average of ["encodec", "simple"] as const) {
      const options = { dim: 8, average, deadBelow: { ratio: 0.5 }, decay: 0.5 };
      const trainer = CodebookTrainer.fromCodebooks([collapsed()[0]], options);
      // Codewords that serve nothing lose half of their usage in a step: after two they are dead.
      const batch = clustered(2048, 1);
      await trainer.step(batch);
      const { stages, codes } = await trainer.step(batch);
      expect(stages[0].dead).toBeGreaterThan(30);
      expect(stages[0].reseeded).toBe(stages[0].dead);
      // The mean usage is higher now: one or two that were above its part may be below.
      expect(trainer.deadCodewords()[0]).toBeLessThan(4);
      const reseeded = trainer.codebooks()[0];
      // What started again lies sqrt(64/2048) of the way from a row's codeword to the row.
      const isStarted = (k: number) =>
        codes.data.some((code, n) => {
          for (let i = 0; i < 8; i++) {
            const from = reseeded[code * 8 + i];
            const expected = from + Math.sqrt(64 / 2048) * (batch[n * 8 + i] - from);
            if (reseeded[k * 8 + i] !== Math.fround(expected)) return false;
          }
          return true;
        });
      const started = Array.from({ length: 64 }, (_, k) => k).filter(isStarted);
      expect(started.length).toBe(stages[0].reseeded);
      // Rows of one cluster only: all others serve nothing in the next step, and stay where they are.
      const one = new Float32Array(512 * 8).map((_, i) => centres[i % 8]);
      await trainer.step(one);
      const served = new Set(trainer.quantizer().encodeSync(one).data);
      for (const k of started) {
        if (served.has(k)) continue;
        for (let i = k * 8; i < (k + 1) * 8; i++) expect(trainer.codebooks()[0][i]).toBeCloseTo(reseeded[i], 4);
      }
      expect(started.length - served.size).toBeGreaterThan(20);
    }
  });

  it("start on different rows, on none that the codebook meets already, and wait where there are too few", async () => {
    const batch = Float32Array.of(5, 5, 7, 7, 5, 5, 1, 2);
    const codebook = new Float32Array(8 * 2).fill(100).fill(5, 0, 2);
    const options = { dim: 2, deadBelow: { count: 10 }, decay: 0 } as const;
    const trainer = CodebookTrainer.fromCodebooks([codebook], { ...options, average: "simple" });
    const { stages } = await trainer.step(batch);
    // Rows 1 and 3 are the only ones that are not met.
    expect(stages[0]).toMatchObject({ dead: 8, reseeded: 2 });
    const [first] = trainer.codebooks();
    expect([...first.subarray(0, 4)].sort()).toEqual([1, 2, 7, 7]);
  });

  it("are counted, but left alone, with re-seeding off", async () => {
    const trainer = CodebookTrainer.fromCodebooks(collapsed(), {
      dim: 8,
      reseed: false,
      deadBelow: { count: 1 },
      decay: 0,
    });
    const { stages } = await trainer.step(clustered(512, 1));
    expect(stages[0].dead).toBe(64 * (1 - stages[0].usage.used));
    expect(stages[0].reseeded).toBe(0);
  });
});

describe("start", () => {
  it("learns each stage on its own residuals by k-means, with sums that are mean times count", async () => {
    const { vectors } = makeData("clustered", { count: 600, dim, numCodewords: 12 }, 3);
    const batches = [0, 1, 2].map((b) => vectors.slice(b * 200 * dim, (b + 1) * 200 * dim));
    const options = { dim, codebookSize: [12, 8], seed: 6 };
    for (const average of ["encodec", "simple"] as const) {
      const trainer = await CodebookTrainer.start(batches, { ...options, average, ...still, decay: 0.9 });
      const trained = await ResidualQuantizer.train(vectors, { ...options, iterations: 10 });
      expect(trainer.codebooks()).toEqual(trained.codebooks());
      expect(trainer.codebookSizes).toEqual([12, 8]);

      // A batch of the very mean rows moves nothing: had the sums been means, every codeword would shrink.
      const means = trained.decodeSync({ count: 12, stages: 1, data: Uint16Array.from({ length: 12 }, (_, k) => k) });
      const first = await CodebookTrainer.start(batches, {
        ...options,
        codebookSize: 12,
        stages: 1,
        average,
        ...still,
      });
      await first.step(means);
      for (const [i, value] of first.codebooks()[0].entries()) expect(value).toBeCloseTo(trained.codebooks()[0][i], 4);
    }
    const whole = await CodebookTrainer.start(vectors, options);
    expect(whole.codebooks()).toEqual((await CodebookTrainer.start(batches, options)).codebooks());
  });

  it("improves with the steps after it", async () => {
    const { vectors } = makeData("correlated", { count: 4000, dim, numCodewords: 1 }, 9);
    const trainer = await CodebookTrainer.start(vectors.slice(0, 100 * dim), { dim, codebookSize: 32, stages: 2 });
    const before = trainer.quantizer();
    for (let epoch = 0; epoch < 5; epoch++) {
      for (let first = 0; first < 4000; first += 400) {
        await trainer.step(vectors.subarray(first * dim, (first + 400) * dim));
      }
    }
    expect(trainer.steps).toBe(50);
    const mse = async (rq: ResidualQuantizer) => (await rq.distortion(vectors, await rq.encode(vectors)))[1].mse;
    expect(await mse(trainer.quantizer())).toBeLessThan(0.8 * (await mse(before)));
  });

  it("hands weights, metric and metadata to its quantizers", async () => {
    const weights = Float32Array.of(1, 2, 3, 4, 5, 6);
    const trainer = await CodebookTrainer.start(gaussian(50), {
      dim,
      codebookSize: 4,
      stages: 2,
      weights,
      metadata: { a: 1 },
    });
    const rq = trainer.quantizer();
    expect(rq.weights()).toEqual(weights);
    expect(rq.metadata).toEqual({ a: 1 });
    expect(rq.codebooks()).toEqual(trainer.codebooks());
    expect(trainer.backend).toBe(rq.backend);
  });
});
