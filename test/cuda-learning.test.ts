// Steps of CodebookTrainer on a device: the results of other backends, what goes over the bus, and a state that no failure changes.

import { afterEach, describe, expect, it, vi } from "vitest";
import { loadAddon } from "../lib/addon.js";
import type { CudaAddon } from "../lib/cuda/addon.js";
import {
  CodebookTrainer,
  type LearningOptions,
  ResidualQuantizer,
  RvqError,
  Statistics,
  type StepOptions,
  type StepResult,
  status,
  vectorRange,
} from "../lib/index.js";
import { familyNames, gaussianRows, makeData, withoutZeroRows } from "./contract/families.js";
import { intercept, type NativeCall, restore } from "./cuda-intercept.js";

const cuda = status().backends.find(({ name }) => name === "cuda");
const emulated = cuda?.description.startsWith("emulated device") === true;
const native = (loadAddon().addon ?? {}) as CudaAddon;
const dim = 9;
const sizes = [16, 9, 5];

interface Training {
  readonly title: string;
  readonly learning: LearningOptions;
  readonly metric?: "l2" | "cosine";
  readonly weights?: Float32Array;
  readonly groups?: readonly number[];
  readonly options?: (count: number) => StepOptions;
}

const trainings: readonly Training[] = [
  { title: "defaults", learning: {} },
  {
    title: "the simple form, dropout, many dead codewords",
    learning: { average: "simple", dropout: { probability: 0.6 }, deadBelow: { ratio: 0.9 }, decay: 0.5 },
  },
  {
    title: "weights of the metric",
    learning: { deadBelow: { ratio: 0.5 }, decay: 0.7 },
    weights: Float32Array.from({ length: dim }, (_, i) => i / 4),
  },
  { title: "cosine", learning: { deadBelow: { ratio: 0.3 }, dropout: { probability: 0.3 } }, metric: "cosine" },
  {
    title: "masks",
    learning: {},
    options: (count) => ({ mask: Uint8Array.from({ length: count }, (_, n) => (n * 7) % 3) }),
  },
  {
    title: "row weights",
    learning: { deadBelow: { ratio: 0.5 } },
    options: (count) => ({ weights: Float32Array.from({ length: count }, (_, n) => (n % 5) / 4) }),
  },
  { title: "groups", learning: { dropout: { probability: 0.5 } }, groups: [4, 5] },
];

const gaussian = (count: number, seed = 1, width = dim) => gaussianRows(count, width, seed);

/** Trainers in the same state, one a backend. */
async function open({ learning, metric, weights, groups }: Training, first: Float32Array) {
  const options = { dim, codebookSize: sizes, metric, weights, groups, iterations: 2, seed: 3, ...learning };
  const js = await CodebookTrainer.start(first, { ...options, backend: "js" });
  return { js, gpu: CodebookTrainer.fromBytes(js.toBytes(), { backend: "cuda" }) };
}

describe.skipIf(cuda?.available !== true)("a step on a device", () => {
  const limit = (limits: { pieceRows?: number; memoryBytes?: number }) =>
    native.cudaTestLimits?.({ pieceRows: 0, memoryBytes: 0, ...limits });
  afterEach(() => {
    restore();
    vi.useRealTimers();
    limit({});
    delete process.env.RVQ_EMULATED_MEMORY;
  });

  for (const training of trainings) {
    it(`gives results and checkpoints of the definition: ${training.title}`, async () => {
      for (const family of familyNames) {
        // Residuals of numbers near the limit overflow float32, which training refuses.
        const scale = family === "near overflow" ? 0.05 : 1;
        const batches = [150, 40, 7, 0, 200].map((count, step) => {
          const { vectors } = makeData(family, { count, dim, numCodewords: 30 }, 30 + step);
          return withoutZeroRows(vectors, dim).map((x) => x * scale);
        });
        const { js, gpu } = await open(training, batches[0]);
        const { device } = training.groups === undefined ? gpu.quantizer() : { device: null };
        const ofDevice = CodebookTrainer.fromBytes(js.toBytes(), { backend: "cuda" });
        for (const [step, batch] of batches.entries()) {
          limit({ pieceRows: step === 4 ? 33 : 0 });
          const options = { ...training.options?.(batch.length / dim), reconstruct: step % 2 === 0 };
          const expected = await js.step(batch, options);
          expect(await gpu.step(batch, options), `${family}, step ${step}`).toEqual(expected);
          expect(Buffer.compare(gpu.toBytes(), js.toBytes()), `${family}, step ${step}`).toBe(0);
          if (device === null || training.options !== undefined) continue;
          const resident = await device.upload(batch);
          expect(await ofDevice.step(resident, options), `${family}, step ${step}, on the device`).toEqual(expected);
          expect(Buffer.compare(ofDevice.toBytes(), js.toBytes())).toBe(0);
          expect(await resident.download(), "the batch is left alone").toEqual(batch);
          resident.dispose();
        }
      }
    });
  }

  it("counts residuals that are zero as the definition does, with the cosine metric", async () => {
    const codebooks = sizes.map((size, stage) => gaussian(size, 40 + stage));
    const batch = gaussian(60, 5);
    // Rows that their codeword meets exactly, in the first stage and in the second.
    batch.set(codebooks[0].subarray(3 * dim, 8 * dim), 10 * dim);
    for (let n = 30; n < 34; n++) {
      for (let i = 0; i < dim; i++) batch[n * dim + i] = Math.fround(64 * codebooks[0][i]);
    }
    const options = { dim, metric: "cosine", deadBelow: { ratio: 0.5 } } as const;
    const [js, gpu] = (["js", "cuda"] as const).map((backend) =>
      CodebookTrainer.fromCodebooks(codebooks, { ...options, backend }),
    );
    for (let step = 0; step < 3; step++) {
      const expected = await js.step(batch);
      if (step === 0) expect(expected.stages[1].usage.counts.reduce((a, b) => a + b)).toBeLessThan(60);
      expect(await gpu.step(batch)).toEqual(expected);
      expect(gpu.toBytes()).toEqual(js.toBytes());
    }
  });

  it("makes a first step of no rows, and one whose rows are all masked", async () => {
    for (const [rows, options] of [
      [0, {}],
      [5, { mask: new Uint8Array(5) }],
    ] as const) {
      const { js, gpu } = await open({ title: "", learning: {} }, gaussian(300));
      expect(await gpu.step(gaussian(rows), options)).toEqual(await js.step(gaussian(rows), options));
      expect(gpu.toBytes()).toEqual(js.toBytes());
    }
  });

  it("has 32-bit codes where a codebook is that large", async () => {
    const codebooks = [gaussian(65_536, 1, 2), gaussian(70_000, 2, 2)];
    const options = { dim: 2, dropout: { probability: 0.5 } };
    for (const some of [codebooks, codebooks.slice(0, 1)]) {
      const [js, gpu] = (["js", "cuda"] as const).map((backend) =>
        CodebookTrainer.fromCodebooks(some, { ...options, backend }),
      );
      const batch = gaussian(20, 9, 2);
      expect(await gpu.step(batch)).toEqual(await js.step(batch));
      expect(Buffer.compare(gpu.toBytes(), js.toBytes())).toBe(0);
    }
  });

  it("brings the vectors up once and nothing of their size down, and the state up once and down at every step", async () => {
    const count = 500;
    const calls: NativeCall[] = [];
    intercept((call) => calls.push(call));
    const { gpu } = await open({ title: "", learning: { reseed: false } }, gaussian(300));
    const numberOf = (wanted: string) => calls.filter(({ method }) => method === wanted).length;
    const bytesOf = (key: "source" | "target") =>
      calls.reduce((sum, { request }) => sum + ((request?.[key] as Float32Array | undefined)?.byteLength ?? 0), 0);
    const numCodewords = sizes.reduce((sum, size) => sum + size, 0);
    const down = count * sizes.length * 2 + numCodewords * dim * 12;
    await gpu.step(gaussian(count, 2));
    expect(numberOf("encode")).toBe(0);
    expect(numberOf("encodeResident")).toBe(1);
    expect(bytesOf("source")).toBe(count * dim * 4 + numCodewords * (8 + dim * 12));
    expect(bytesOf("target")).toBe(down);
    calls.length = 0;
    await gpu.step(gaussian(count, 2));
    expect(bytesOf("source")).toBe(count * dim * 4);
    expect(bytesOf("target")).toBe(down);
    const resident = await gpu.quantizer().device.upload(gaussian(count, 2));
    calls.length = 0;
    await gpu.step(resident);
    expect(bytesOf("source")).toBe(0);
    expect(bytesOf("target")).toBe(down);
  });

  it("follows what other steps have made of the state", async () => {
    const { js, gpu } = await open(trainings[1], gaussian(300));
    const weights = Float32Array.from({ length: 200 }, (_, n) => n % 3);
    for (const [step, options] of [{}, { weights }, {}, {}].entries()) {
      const batch = gaussian(200, 60 + step);
      expect(await gpu.step(batch, options), `step ${step}`).toEqual(await js.step(batch, options));
    }
    expect(gpu.toBytes()).toEqual(js.toBytes());
    const { js: here, gpu: there } = await open({ title: "", learning: {} }, gaussian(300));
    for (const seed of [1, 2, 3]) {
      const batch = gaussian(200, seed);
      if (seed === 2) {
        const statistics = await Statistics.start(here.quantizer(), await vectorRange(batch, { dim }));
        await statistics.add(batch);
        for (const trainer of [here, there]) await trainer.update(statistics);
      } else {
        expect(await there.step(batch)).toEqual(await here.step(batch));
      }
      expect(there.toBytes()).toEqual(here.toBytes());
    }
  });

  it("keeps its memory for the next step, but not for long", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const made: unknown[] = [];
    const disposed = new Set<unknown>();
    intercept(({ method, self, request }) => {
      if (method === "dispose") disposed.add(self);
      if (method === "learnResident") made.push(request.usage, request.distances);
    });
    const { js, gpu } = await open({ title: "", learning: {} }, gaussian(300));
    for (const seed of [1, 2]) {
      await js.step(gaussian(400, seed));
      await gpu.step(gaussian(400, seed));
    }
    expect(new Set(made).size).toBe(2 * sizes.length);
    expect(made.some((memory) => disposed.has(memory))).toBe(false);
    vi.advanceTimersByTime(5_000);
    expect(made.every((memory) => disposed.has(memory))).toBe(true);
    expect(await gpu.step(gaussian(100, 3))).toEqual(await js.step(gaussian(100, 3)));
    expect(gpu.toBytes()).toEqual(js.toBytes());
  });

  it("frees all the memory that it takes, however it ends", async () => {
    const used = new Set<unknown>();
    const disposed = new Set<unknown>();
    intercept(({ method, self, request }) => {
      if (method === "upload" || method === "download") used.add(self);
      if (method === "encodeResident") for (const memory of [request.vectors, request.codes]) used.add(memory);
      const { residuals, distances, usage, averages } = method === "learnResident" ? request : {};
      for (const memory of [residuals, distances, usage, averages]) if (memory !== undefined) used.add(memory);
      if (method === "dispose") disposed.add(self);
    });
    const { gpu } = await open(trainings[1], gaussian(300));
    const resident = await gpu.quantizer().device.upload(gaussian(400, 2));
    expect(used.size).toBe(1);
    const bad = gaussian(400, 2);
    bad[77] = Number.NaN;
    for (const batch of [gaussian(400, 3), resident, bad]) await gpu.step(batch).catch(() => {});
    expect(used.size).toBeGreaterThan(7);
    expect([...used].filter((memory) => !disposed.has(memory))).toHaveLength(1);
    resident.dispose();
    expect([...used].filter((memory) => !disposed.has(memory))).toHaveLength(0);
  });

  it("refuses bad vectors in the words of other backends, and is then as before", async () => {
    for (const metric of ["l2", "cosine"] as const) {
      const { js, gpu } = await open({ title: "", learning: {}, metric }, gaussian(300));
      const before = gpu.toBytes();
      const { device } = gpu.quantizer();
      const spoil: ((batch: Float32Array) => unknown)[] = [
        (batch) => batch.fill(0, 5 * dim, 6 * dim).set([Number.NaN], 7 * dim + 2),
        (batch) => batch.fill(0, 5 * dim, 6 * dim).set([-Infinity], 7 * dim + 2),
        (batch) => batch.set([3e38], 3),
        (batch) => batch.fill(0, 99 * dim),
      ];
      for (const [place, change] of spoil.entries()) {
        const batch = gaussian(100, 4);
        change(batch);
        const error = await js.step(batch).then(
          () => null,
          (reason: RvqError) => reason,
        );
        if (error === null) continue;
        await expect(gpu.step(batch), `${metric} ${place}`).rejects.toMatchObject({
          code: error.code,
          message: error.message,
        });
        const onDevice = expect(gpu.step(await device.upload(batch)), `${metric} ${place}`).rejects;
        const where = /row \d+(, column \d+)?/.exec(error.message)?.[0] ?? "batch";
        await onDevice.toMatchObject({ code: error.code, message: expect.stringContaining(where) });
        expect(gpu.toBytes()).toEqual(before);
      }
    }
  });

  it("refuses vectors of a device with what needs them on the host", async () => {
    const { js, gpu } = await open({ title: "", learning: {} }, gaussian(300));
    const batch = await gpu.quantizer().device.upload(gaussian(40));
    const grouped = (await open({ title: "", learning: {}, groups: [4, 5] }, gaussian(300))).gpu;
    const narrow = CodebookTrainer.fromCodebooks([gaussian(4, 1, 3)], { dim: 3, backend: "cuda" });
    const refused: [trainer: CodebookTrainer, options: StepOptions, code: string, message: RegExp][] = [
      [js, {}, "BACKEND_UNAVAILABLE", /batch: expected the backend "cuda", got "js"/],
      [narrow, {}, "INVALID_ARGUMENT", /batch\.dim: expected dim 3, got 9/],
      [grouped, {}, "INVALID_ARGUMENT", /groups: expected none with a batch on a device/],
      [gpu, { mask: new Uint8Array(40) }, "INVALID_ARGUMENT", /mask: expected none with a batch on a device/],
      [gpu, { weights: new Float32Array(40) }, "INVALID_ARGUMENT", /weights: expected none with a batch on a device/],
      [gpu, { workers: 2 }, "INVALID_ARGUMENT", /workers: expected 1 with a batch on a device/],
    ];
    for (const [trainer, options, code, message] of refused) {
      const before = trainer.toBytes();
      const error = await trainer.step(batch, options).catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(RvqError);
      expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
      expect(trainer.toBytes()).toEqual(before);
    }
    const codes = await gpu.quantizer().device.encode(batch);
    await expect(gpu.step(codes as never)).rejects.toThrow(/batch: expected a Float32Array/);
    batch.dispose();
    await expect(gpu.step(batch)).rejects.toMatchObject({ code: "DISPOSED" });
  });

  it("reads vectors that are disposed of meanwhile to the end, and learns in line", async () => {
    const { js, gpu } = await open({ title: "", learning: { deadBelow: { ratio: 0.9 } } }, gaussian(300));
    const { device } = gpu.quantizer();
    const batches = [1, 2, 3].map((seed) => gaussian(700, seed));
    const resident = await Promise.all(batches.map((batch) => device.upload(batch)));
    const steps = resident.map((batch) => gpu.step(batch));
    for (const batch of resident) batch.dispose();
    const expected: StepResult[] = [];
    for (const batch of batches) expected.push(await js.step(batch));
    expect(await Promise.all(steps)).toEqual(expected);
    expect(gpu.toBytes()).toEqual(js.toBytes());
    await expect(resident[0].download()).rejects.toMatchObject({ code: "DISPOSED" });
  });

  it("refuses a batch that is gone when its turn comes", async () => {
    const { gpu } = await open({ title: "", learning: {} }, gaussian(300));
    const first = gpu.step(gaussian(900));
    const batch = gaussian(30);
    const second = gpu.step(batch);
    structuredClone(batch.buffer, { transfer: [batch.buffer as ArrayBuffer] });
    await first;
    await expect(second).rejects.toThrow(/batch: expected an array left alone during the call/);
    expect(gpu.steps).toBe(1);
  });

  /**
   * Every native call that a step makes fails in turn, with the code; `step` looks at what becomes of it. How many there are.
   * `prepare` makes what steps use and need not fail.
   */
  async function failEach<Used>(
    code: string,
    prepare: () => Promise<Used>,
    step: (used: Used, call: number) => Promise<void>,
  ): Promise<number> {
    let left = 0;
    intercept(({ method }) => {
      if (method !== "dispose" && method !== "encode" && method !== "assign" && --left === 0) {
        throw Object.assign(new Error("by a test"), { code });
      }
    });
    const used = await prepare();
    for (let call = 1; ; call++) {
      left = call;
      await step(used, call);
      if (left > 0) return call - 1;
    }
  }

  it.each(["OUT_OF_MEMORY", "DEVICE_LOST"])(
    "goes on from the host's arrays after %s, to the same bytes",
    async (code) => {
      const { js } = await open(trainings[1], gaussian(300));
      const start = js.toBytes();
      const batch = gaussian(500, 7);
      const expected = await js.step(batch);
      const calls = await failEach(
        code,
        async () => batch,
        async (used, call) => {
          const trainer = CodebookTrainer.fromBytes(start, { backend: "cuda" });
          expect(await trainer.step(used), `call ${call}`).toEqual(expected);
          expect(trainer.toBytes()).toEqual(js.toBytes());
        },
      );
      // Vectors up, magnitudes of both kinds, search, codes down, stages of rows up, and memory for vectors, codes, stages of rows and
      // distances of three stages; of each stage three calls for the state up, one for the step, two for the state down, distances down
      // for dead codewords, and memory for usage and averages.
      expect(calls).toBe(12 + 9 * sizes.length);
    },
  );

  it.each(["OUT_OF_MEMORY", "DEVICE_LOST", "CUDA"])(
    "has changed nothing after %s with vectors of a device",
    async (code) => {
      const { js } = await open(trainings[1], gaussian(300));
      const start = js.toBytes();
      const batch = gaussian(500, 7);
      const expected = await js.step(batch);
      const upload = () => CodebookTrainer.fromBytes(start, { backend: "cuda" }).quantizer().device.upload(batch);
      const calls = await failEach(code, upload, async (used, call) => {
        const trainer = CodebookTrainer.fromBytes(start, { backend: "cuda" });
        const outcome = await trainer.step(used).catch((error: unknown) => error);
        if (trainer.steps === 1) {
          expect(outcome).toEqual(expected);
          expect(trainer.toBytes()).toEqual(js.toBytes());
        } else {
          expect(outcome, `call ${call}`).toBeInstanceOf(RvqError);
          expect(outcome).toMatchObject({ code });
          expect(trainer.toBytes()).toEqual(start);
        }
      });
      // The rows that codewords start again on come from the device too, and the vectors are there.
      expect(calls).toBe(11 + 10 * sizes.length);
    },
  );

  it("has changed nothing when it is aborted between stages", async () => {
    const controller = new AbortController();
    let calls = 0;
    intercept(({ method }) => {
      if (method === "learnResident" && ++calls === 2) controller.abort(new Error("enough"));
    });
    const { gpu } = await open({ title: "", learning: {} }, gaussian(300));
    const before = gpu.toBytes();
    await expect(gpu.step(gaussian(400, 2), { signal: controller.signal })).rejects.toThrow("enough");
    expect(gpu.toBytes()).toEqual(before);
    await gpu.step(gaussian(400, 2));
    expect(gpu.steps).toBe(1);
  });

  it.skipIf(!emulated)(
    "is done in pieces where the device has no room for the batch, or fails as a whole",
    async () => {
      const { js, gpu } = await open({ title: "", learning: {} }, gaussian(300));
      const start = js.toBytes();
      const batch = gaussian(30_000, 7);
      const resident = await gpu.quantizer().device.upload(batch);
      const expected = await js.step(batch);
      // Lanes are there from now on; what is allocated beside them does not fit.
      limit({ memoryBytes: 150_000 });
      process.env.RVQ_EMULATED_MEMORY = String(batch.byteLength);
      await expect(gpu.step(resident)).rejects.toMatchObject({ code: "OUT_OF_MEMORY" });
      expect(gpu.toBytes()).toEqual(start);
      delete process.env.RVQ_EMULATED_MEMORY;
      expect(await gpu.step(batch)).toEqual(expected);
      expect(gpu.toBytes()).toEqual(js.toBytes());

      const tiny = CodebookTrainer.fromBytes(start, { backend: "cuda" });
      limit({ memoryBytes: 16 });
      await expect(tiny.step(batch)).rejects.toMatchObject({ code: "OUT_OF_MEMORY" });
      await expect(tiny.step(resident)).rejects.toMatchObject({ code: "OUT_OF_MEMORY" });
      expect(tiny.toBytes()).toEqual(start);
      limit({});
      expect(await tiny.step(resident)).toEqual(expected);
    },
  );

  it("trains what ResidualQuantizer then encodes with, batch after batch on the device", async () => {
    const { js, gpu } = await open({ title: "", learning: {} }, gaussian(300));
    const { device } = gpu.quantizer();
    for (let seed = 0; seed < 5; seed++) {
      const batch = gaussian(256, 50 + seed);
      const resident = await device.upload(batch);
      await gpu.step(resident);
      resident.dispose();
      await js.step(batch);
    }
    const [here, there] = [js, gpu].map((trainer) => trainer.quantizer());
    expect(there).toBeInstanceOf(ResidualQuantizer);
    expect(there.id).toBe(here.id);
  });
});
