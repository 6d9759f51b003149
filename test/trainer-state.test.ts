// The exactness of training: the same bytes on every backend, with any number of threads, from any resume point; and checkpoints.

import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CodebookTrainer, type LearningOptions, RvqError, type StepOptions } from "../lib/index.js";
import { Random } from "../lib/random.js";
import { candidates, withForm } from "./contract/backends.js";
import { familyNames, makeData, withoutZeroRows } from "./contract/families.js";
import { unseal } from "./reseal.js";

const dim = 9;
const available = candidates.filter((candidate) => candidate.available);

interface Training {
  readonly title: string;
  readonly learning: LearningOptions;
  readonly metric?: "l2" | "cosine";
  readonly metricWeights?: Float32Array;
  readonly options: (step: number, count: number) => StepOptions;
}

const random = new Random(8);
const trainings: readonly Training[] = [
  { title: "defaults", learning: {}, options: () => ({}) },
  {
    title: "the simple form, masks, dropout, a schedule",
    learning: {
      average: "simple",
      dropout: { probability: 0.5 },
      decay: { from: 0.5, to: 0.99, steps: 3 },
      deadBelow: { count: 2 },
    },
    options: (step, count) => ({ mask: Uint8Array.from({ length: count }, (_, n) => (n * 7 + step) % 3) }),
  },
  {
    title: "row weights and weights of the metric",
    learning: { deadBelow: { ratio: 0.5 }, decay: 0.7, dropout: { probability: 1, minStages: 2 } },
    metricWeights: Float32Array.from({ length: dim }, (_, i) => i / 4),
    options: (_, count) => ({
      weights: Float32Array.from({ length: count }, () => Math.max(0, random.fraction() - 0.2)),
    }),
  },
  { title: "cosine", learning: { deadBelow: { ratio: 0.3 } }, metric: "cosine", options: () => ({}) },
];

/** Batches of a family, some smaller than the codebooks, and what to do with each. */
function makeBatches(family: string, training: Training) {
  return [150, 40, 200, 7, 120].map((count, step) => {
    const { vectors } = makeData(family, { count, dim, numCodewords: 30 }, 30 + step);
    // Residuals of numbers near the limit overflow float32, which training refuses.
    const scale = family === "near overflow" ? 0.05 : 1;
    return { batch: withoutZeroRows(vectors, dim).map((x) => x * scale), options: training.options(step, count) };
  });
}

/** The checkpoints of a training after 1, 2, … steps. */
async function train(family: string, training: Training, backend: (typeof available)[number], threads: number) {
  const { learning, metric, metricWeights: weights } = training;
  const batches = makeBatches(family, training);
  const trainer = await withForm(backend.form, () =>
    CodebookTrainer.start(batches[0].batch, {
      dim,
      codebookSize: [16, 9, 5],
      metric,
      weights,
      iterations: 2,
      seed: 3,
      backend: backend.name,
      threads,
      ...learning,
    }),
  );
  const bytes: Uint8Array[] = [];
  for (const { batch, options } of batches) {
    await trainer.step(batch, options);
    bytes.push(trainer.toBytes());
  }
  return bytes;
}

describe("training", () => {
  for (const training of trainings) {
    for (const family of familyNames) {
      it(`is the same bytes on every backend and number of threads: ${training.title}, ${family} data`, async () => {
        const replayed = { ...training, options: memorise(training.options) };
        const all: { title: string; bytes: Uint8Array[] }[] = [];
        for (const backend of available) {
          for (const threads of backend.name === "js" ? [1] : [1, 2]) {
            all.push({
              title: `${backend.title}, ${threads} threads`,
              bytes: await train(family, replayed, backend, threads),
            });
          }
        }
        for (const { title, bytes } of all) {
          for (const [step, of] of bytes.entries()) {
            expect(Buffer.compare(of, all[0].bytes[step]), `${title} and ${all[0].title}, step ${step}`).toBe(0);
          }
        }
      });
    }
  }

  it("goes on from any step to the very bytes of a run that was never interrupted", async () => {
    for (const training of trainings) {
      const replayed = { ...training, options: memorise(training.options) };
      const whole = await train("gaussian", replayed, available[0], 1);
      const batches = makeBatches("gaussian", replayed);
      for (let resumed = 0; resumed < whole.length; resumed++) {
        // On another backend, where there is one.
        const { name } = available[available.length - 1];
        const trainer = CodebookTrainer.fromBytes(whole[resumed], { backend: name });
        expect(trainer.steps).toBe(resumed + 1);
        expect(trainer.toBytes()).toEqual(whole[resumed]);
        for (const [step, { batch, options }] of [...batches.entries()].slice(resumed + 1)) {
          await trainer.step(batch, options);
          expect(Buffer.compare(trainer.toBytes(), whole[step]), `${training.title}: step ${step}`).toBe(0);
        }
      }
    }
  });

  it("never changes its bytes for given data, options and seed", async () => {
    const bytes = (await train("clustered", trainings[0], available[0], 1)).at(-1) as Uint8Array;
    expect(createHash("sha256").update(bytes).digest("hex")).toMatchInlineSnapshot(
      `"e7a53ad189c4212da089e92fe1fc96b850ccd5825e3a992fa4fbe78af87734f3"`,
    );
  });
});

/** The same options for every run: those of a step are made once. */
function memorise(make: Training["options"]): Training["options"] {
  const made = new Map<number, StepOptions>();
  return (step, count) => {
    const options = made.get(step) ?? make(step, count);
    made.set(step, options);
    return options;
  };
}

describe("a checkpoint", () => {
  let folder = "";
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), "rvq-trainer-"));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  const { vectors } = makeData("gaussian", { count: 60, dim: 3, numCodewords: 1 }, 1);
  const start = () =>
    CodebookTrainer.start(vectors, {
      dim: 3,
      codebookSize: [4, 3],
      weights: Float32Array.of(1, 2, 3),
      metadata: { note: "ä" },
      seed: 2,
    });

  it("comes back from a file, which an interrupted write leaves as it was", async () => {
    const trainer = await start();
    const file = path.join(folder, "a.rvqt");
    await trainer.save(file);
    await trainer.step(vectors);
    const loaded = await CodebookTrainer.load(file);
    expect(loaded.metadata).toEqual({ note: "ä" });
    expect(loaded.steps).toBe(0);
    await loaded.step(vectors);
    expect(loaded.toBytes()).toEqual(trainer.toBytes());
    await expect(trainer.save(path.join(file, "below-a-file"))).rejects.toMatchObject({ code: "IO" });
    expect((await CodebookTrainer.load(file)).steps).toBe(0);
    await expect(CodebookTrainer.load(path.join(folder, "none"))).rejects.toMatchObject({ code: "IO" });
    await expect(CodebookTrainer.load(folder)).rejects.toMatchObject({ code: "IO" });
  });

  it("is that of the last step which is done, while the next one runs", async () => {
    const trainer = await start();
    const before = trainer.toBytes();
    const { vectors: many } = makeData("gaussian", { count: 50_000, dim: 3, numCodewords: 1 }, 2);
    const call = trainer.step(many);
    let looks = 0;
    const timer = setInterval(() => {
      looks++;
      expect(trainer.toBytes()).toEqual(before);
    }, 1);
    await call;
    clearInterval(timer);
    expect(looks).toBeGreaterThan(0);
    expect(trainer.toBytes()).not.toEqual(before);
  });

  it("is refused after any truncation or flipped bit", async () => {
    const bytes = (await start()).toBytes();
    const file = path.join(folder, "damaged.rvqt");
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.nat(7), fc.boolean(), (position, bit, cut) => {
        const damaged = cut ? bytes.slice(0, position) : bytes.slice();
        if (!cut) damaged[position] ^= 1 << bit;
        expect(() => CodebookTrainer.fromBytes(damaged)).toThrow(RvqError);
      }),
      { numRuns: 500 },
    );
    expect(() => CodebookTrainer.fromBytes(Buffer.concat([bytes, Uint8Array.of(0)]))).toThrow(/SHA-256/);
    await writeFile(file, bytes.subarray(1));
    await expect(CodebookTrainer.load(file)).rejects.toMatchObject({ code: "INVALID_CHECKPOINT" });
    expect((await readFile(file)).length).toBe(bytes.length - 1);
  });

  it("is refused when its header or its numbers lie, even with a valid digest", async () => {
    const bytes = Buffer.from((await start()).toBytes());
    const { arrays, reseal } = unseal(bytes);
    const withFloat64 = (offset: number, value: number) => {
      const body = Buffer.from(arrays);
      body.writeDoubleLE(value, offset);
      return body;
    };
    expect(CodebookTrainer.fromBytes(reseal({})).codebookSizes).toEqual([4, 3]);
    const lies: [Buffer, RegExp][] = [
      [reseal({ dim: 60_000 }), /bytes of arrays/],
      [reseal({ dim: 0 }), /dim/],
      [reseal({ codebookSizes: [16_000_000, 16_000_000] }), /bytes of arrays/],
      [reseal({ codebookSizes: [4, 4] }), /bytes of arrays/],
      [reseal({ codebookSizes: "4" }), /codebookSizes/],
      [reseal({ weighted: false }), /bytes of arrays/],
      [reseal({ metric: "cosine" }), /weights/],
      [reseal({ rule: { average: "other" } }), /average/],
      [reseal({ rule: { decay: 2 } }), /decay/],
      [reseal({ rule: { dropout: { probability: 0.5, minStages: 3 } } }), /minStages/],
      [reseal({ rule: null }), /rule/],
      [reseal({ steps: -1 }), /steps/],
      [reseal({ random: [0, 0, 0, 0] }), /random/],
      [reseal({ random: [1, 2, 3, 2 ** 32] }), /random\[3\]/],
      [reseal({ metadata: [] }), /metadata/],
      [reseal({}, withFloat64(12, -1)), /usage/],
      [reseal({}, withFloat64(12, NaN)), /usage/],
      [reseal({}, withFloat64(12 + 32, Infinity)), /averages/],
      [reseal({}, withFloat64(12 + 32 + 96 + 8, NaN)), /codebooks\[0\]/],
    ];
    for (const [lie, message] of lies) {
      expect(() => CodebookTrainer.fromBytes(lie)).toThrow(message);
      expect(() => CodebookTrainer.fromBytes(lie)).toThrow(expect.objectContaining({ code: "INVALID_CHECKPOINT" }));
    }
    const deep = Buffer.from(`${"[".repeat(200_000)}`);
    const fixed = Buffer.from(bytes.subarray(0, 12));
    fixed.writeUInt32LE(deep.length, 8);
    const content = Buffer.concat([fixed, deep]);
    const sealed = Buffer.concat([content, createHash("sha256").update(content).digest()]);
    expect(() => CodebookTrainer.fromBytes(sealed)).toThrow(RvqError);
  });
});
