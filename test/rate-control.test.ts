// Rate control: what a bit rate allows, and stages chosen frame by frame within a leaky bucket.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { allocateStages, frameErrors, ResidualQuantizer, RvqReader, rvqToBytes } from "../lib/index.js";
import { Random } from "../lib/random.js";
import { detach, resizable } from "./lost-memory.js";

const stages = 6;
const bitsPerStage = new Array<number>(stages).fill(8);

/** Frames of very different energy whose error falls to 0.7 with every stage. */
function exampleErrors(frames: number, seed = 1): Float64Array {
  const random = new Random(seed);
  const errors = new Float64Array(frames * (stages + 1));
  for (let frame = 0; frame < frames; frame++) {
    const energy = Math.exp(8 * random.fraction());
    for (let n = 0; n <= stages; n++) errors[frame * (stages + 1) + n] = energy * 0.7 ** n;
  }
  return errors;
}

/** The highest the bucket gets. */
function highestLevel(stageCounts: Uint16Array, drain: number, start = 0): number {
  let [level, highest] = [start, 0];
  for (const n of stageCounts) {
    level = Math.max(0, level + 8 * n - drain);
    highest = Math.max(highest, level);
  }
  return highest;
}

describe("rq.plan", () => {
  const rq = ResidualQuantizer.fromCodebooks(
    [1024, 1024, 600, 2].map((size) => new Float32Array(size)),
    { dim: 1 },
  );

  it("says how many stages a bit rate allows", () => {
    const plan = rq.plan({ frameRate: 75, kbps: 2 });
    // 26.67 bits a frame: two stages of 10, and two thirds of a third one.
    expect(plan).toMatchObject({ stages: 2, bitsPerSecond: 1500 });
    expect(plan.averageStages).toBeCloseTo(2 + 20 / 30, 10);
    expect(plan.rates.map((rate) => [rate.bitsPerFrame, rate.bitsPerSecond, rate.fits])).toEqual([
      [10, 750, true],
      [20, 1500, true],
      [30, 2250, false],
      [31, 2325, false],
    ]);
  });

  it("knows the ends: no stage fits, or all do", () => {
    expect(rq.plan({ frameRate: 75, kbps: 0.5 })).toMatchObject({ stages: 0, bitsPerSecond: 0 });
    expect(rq.plan({ frameRate: 75, kbps: 100 })).toMatchObject({ stages: 4, averageStages: 4 });
    expect(() => rq.plan({ frameRate: 0, kbps: 1 })).toThrow(/frameRate: expected a positive number, got 0/);
    expect(() => rq.plan({ frameRate: 1, kbps: Number.NaN })).toThrow(/kbps: expected a number that is not negative/);
  });
});

describe("allocateStages", () => {
  const errors = exampleErrors(1000);
  const constant = (n: number) => allocateStages(errors, bitsPerStage, { frameRate: 100, minStages: n, maxStages: n });

  it("gives every frame the same number where that is asked for", () => {
    const { stageCounts, bits, bitsPerSecond } = constant(3);
    expect(stageCounts).toEqual(new Uint16Array(1000).fill(3));
    expect([bits, bitsPerSecond]).toEqual([24_000, 2400]);
  });

  it("fills a bit rate, never beyond the bucket, and better than a constant number", () => {
    for (const bucketSeconds of [0.1, 1, 10]) {
      const { stageCounts, bitsPerSecond, error } = allocateStages(errors, bitsPerStage, {
        frameRate: 100,
        kbps: 2.4,
        bucketSeconds,
      });
      expect(bitsPerSecond).toBeLessThanOrEqual(2400);
      expect(bitsPerSecond).toBeGreaterThan(0.97 * 2400);
      expect(highestLevel(stageCounts, 24)).toBeLessThanOrEqual(2400 * bucketSeconds);
      expect(error).toBeLessThan(0.8 * constant(3).error);
    }
  });

  it("goes on from the bucket of the call before", () => {
    const half = 500 * (stages + 1);
    const options = { frameRate: 100, kbps: 2.4, bucketSeconds: 0.5 };
    const first = allocateStages(errors.slice(0, half), bitsPerStage, options);
    const second = allocateStages(errors.slice(half), bitsPerStage, { ...options, bucketBits: first.bucketBits });
    const all = Uint16Array.from([...first.stageCounts, ...second.stageCounts]);
    expect(highestLevel(all, 24)).toBeLessThanOrEqual(1200);
    expect(first.bits + second.bits).toBeLessThanOrEqual(24_000);
  });

  it("takes the fewest stages under an error ceiling", () => {
    const { stageCounts } = allocateStages(errors, bitsPerStage, { frameRate: 100, maxError: 50, minStages: 0 });
    for (const [frame, n] of stageCounts.entries()) {
      const at = (k: number) => errors[frame * (stages + 1) + k];
      if (n < stages) expect(at(n)).toBeLessThanOrEqual(50);
      if (n > 0) expect(at(n - 1)).toBeGreaterThan(50);
    }
    const limited = allocateStages(errors, bitsPerStage, { frameRate: 100, maxError: 50, kbps: 1, bucketSeconds: 0.2 });
    expect(highestLevel(limited.stageCounts, 10)).toBeLessThanOrEqual(200);
  });

  it("takes a stage where its gain is worth its bits", () => {
    const { stageCounts } = allocateStages(errors, bitsPerStage, { frameRate: 100, weight: 5 });
    for (const [frame, n] of stageCounts.entries()) {
      const cost = (k: number) => errors[frame * (stages + 1) + k] + 5 * 8 * k;
      for (let k = 1; k <= stages; k++) expect(cost(n)).toBeLessThanOrEqual(cost(k) + 1e-9);
    }
  });

  it("holds its limits for any errors and options", () => {
    fc.assert(
      fc.property(
        fc.nat(60),
        fc.nat(),
        fc.double({ min: 0.9, max: 8, noNaN: true }),
        fc.double({ min: 0, max: 2, noNaN: true }),
        fc.nat(100),
        (frames, seed, kbps, bucketSeconds, bucketBits) => {
          const some = exampleErrors(frames, seed);
          const options = { frameRate: 100, kbps, bucketSeconds, bucketBits };
          const { stageCounts, bits } = allocateStages(some, bitsPerStage, options);
          const drain = (1000 * kbps) / 100;
          const allowed = Math.max(1000 * kbps * bucketSeconds, bucketBits);
          expect(highestLevel(stageCounts, drain, bucketBits)).toBeLessThanOrEqual(allowed + 1e-6);
          expect(bits).toBe(stageCounts.reduce((sum, n) => sum + 8 * n, 0));
          expect(stageCounts.every((n) => n >= 1 && n <= stages)).toBe(true);
          expect(bits).toBeLessThanOrEqual(Math.max(8 * frames, drain * frames));
        },
      ),
      { seed: 1, numRuns: 300 },
    );
  });

  it.each([
    [{ frameRate: 100 }, /options: expected kbps, maxError, weight, or minStages equal to maxStages/],
    [
      { frameRate: 100, kbps: 0.5 },
      /kbps: expected at least 0\.8, which minStages 1 take at 100 frames a second, got 0\.5/,
    ],
    [{ frameRate: 100, kbps: 2, minStages: 7 }, /minStages: expected an integer from 0 to 6, got 7/],
    [{ frameRate: 100, weight: -1 }, /weight: expected a number that is not negative/],
    [{ frameRate: 100, maxError: Number.NaN }, /maxError: expected a number that is not negative/],
  ])("names what is wrong: %o", (options, message) => {
    expect(() => allocateStages(errors, bitsPerStage, options)).toThrow(message);
    expect(() => allocateStages(errors.slice(1), bitsPerStage, { frameRate: 1, kbps: 1 })).toThrow(/errors: expected/);
  });
});

describe("errors of frames", () => {
  it("are not measured from arrays that are detached or shrink meanwhile", async () => {
    const [dim, count] = [16, 300_000];
    const rq = ResidualQuantizer.fromCodebooks([new Float32Array(8 * dim)], { dim });
    const measure = (vectors: Float32Array, data: Uint16Array) => frameErrors(rq, vectors, { count, stages: 1, data });
    const lost = (name: string) => ({
      code: "INVALID_ARGUMENT",
      message: expect.stringMatching(`^${name}: .*left alone`),
    });

    const vectors = new Float32Array(count * dim);
    const data = new Uint16Array(count);
    const ofLostCodes = measure(vectors, data);
    detach(data);
    await expect(ofLostCodes).rejects.toMatchObject(lost("codes.data"));

    const ofLostVectors = measure(vectors, new Uint16Array(count));
    detach(vectors);
    await expect(ofLostVectors).rejects.toMatchObject(lost("vectors"));

    const shrinking = resizable(4 * count * dim);
    const ofFewerVectors = measure(new Float32Array(shrinking), new Uint16Array(count));
    shrinking.resize(64);
    await expect(ofFewerVectors).rejects.toMatchObject(lost("vectors"));
  });
});

describe("from vectors to a file and back", () => {
  it("keeps the stages that were chosen", async () => {
    const dim = 4;
    const random = new Random(2);
    const vectors = Float32Array.from({ length: 300 * dim }, (_, i) => (random.fraction() - 0.5) * (1 + (i % 5)));
    const rq = await ResidualQuantizer.train(vectors, { dim, codebookSize: 8, stages: 4, seed: 1, iterations: 3 });
    const codes = await rq.encode(vectors);
    const errors = await frameErrors(rq, vectors, codes);
    const distortion = await rq.distortion(vectors, codes);
    for (let n = 1; n <= 4; n++) {
      let sum = 0;
      for (let frame = 0; frame < 300; frame++) sum += errors[frame * 5 + n];
      expect(sum / 300).toBeCloseTo(distortion[n - 1].distortion, 10);
    }
    const bits = rq.codebookSizes.map(Math.log2);
    const { stageCounts, error } = allocateStages(errors, bits, { frameRate: 50, kbps: 0.3 });
    const bytes = rvqToBytes(
      { ...codes, stageCounts },
      { modelId: rq.id, codebookSizes: rq.codebookSizes, frameRate: 50 },
    );
    const back = await rq.decode(await (await RvqReader.open(bytes)).read());
    expect(vectors.reduce((sum, x, i) => sum + (x - back[i]) ** 2, 0)).toBeCloseTo(error, 6);
  });
});
