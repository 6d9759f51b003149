// k-means on a device: the codebooks of other backends, what crosses the bus, memory that is freed, and failures.

import { afterEach, describe, expect, it } from "vitest";
import { loadAddon } from "../lib/addon.js";
import type { CudaAddon } from "../lib/cuda/addon.js";
import { ResidualQuantizer, RvqError, status, type TrainOptions, type TrainProgress } from "../lib/index.js";
import { familyNames, gaussianRows, makeData, withoutZeroRows } from "./contract/families.js";
import { intercept, type NativeCall, restore } from "./cuda-intercept.js";

const cuda = status().backends.find(({ name }) => name === "cuda");
const native = (loadAddon().addon ?? {}) as CudaAddon;
const dim = 9;

const trainings: readonly { readonly title: string; readonly options: Partial<TrainOptions> }[] = [
  { title: "defaults", options: {} },
  { title: "weights of the metric", options: { weights: Float32Array.from({ length: dim }, (_, i) => i / 4) } },
  { title: "cosine", options: { metric: "cosine" } },
  { title: "shrinkage", options: { shrinkage: 1.7 } },
  { title: "cosine with shrinkage, from random rows", options: { metric: "cosine", shrinkage: 0.5, init: "random" } },
  { title: "clusters that start again", options: { init: "random", minClusterSize: 6, iterations: 9 } },
  { title: "no iteration more than needed", options: { iterations: 200 } },
  { title: "room for few", options: { capacity: 1.5 } },
];

const gaussian = (count: number, seed = 1, width = dim) => gaussianRows(count, width, seed);

/** The codebooks and all that was reported on the way. */
async function train(backend: "js" | "cuda", vectors: Float32Array, options: Partial<TrainOptions>) {
  const reports: TrainProgress[] = [];
  const onProgress = (progress: TrainProgress) => {
    reports.push(progress);
  };
  const sizes = { dim, stages: 2, codebookSize: [24, 11], iterations: 6, seed: 4 };
  const quantizer = await ResidualQuantizer.train(vectors, { ...sizes, ...options, backend, onProgress });
  return { id: quantizer.id, reports };
}

describe.skipIf(cuda?.available !== true)("k-means on a device", () => {
  const limit = (limits: { pieceRows?: number; memoryBytes?: number }) =>
    native.cudaTestLimits?.({ pieceRows: 0, memoryBytes: 0, ...limits });
  afterEach(() => {
    restore();
    limit({});
  });

  for (const { title, options } of trainings) {
    it(`gives codebooks and reports of the definition: ${title}`, async () => {
      let iterations = 0;
      intercept(({ method }) => {
        if (method === "meansResident") iterations++;
      });
      for (const family of familyNames) {
        const data = makeData(family, { count: 700, dim, numCodewords: 30 }, 31);
        // Residuals of numbers near the limit overflow float32, which training refuses.
        const scale = family === "near overflow" ? 0.05 : 1;
        const vectors = withoutZeroRows(data.vectors, dim).map((x) => x * scale);
        iterations = 0;
        const { id, reports } = await train("cuda", vectors, options);
        expect({ id, reports }, family).toEqual(await train("js", vectors, options));
        expect(iterations).toBe(options.capacity === undefined ? reports.length : 0);
      }
    });
  }

  it("adds up errors of more rows than a block of the kernel brings at once, and codes of 32 bits", async () => {
    const rows = gaussian(70_001, 3, 1);
    for (const codebook of [gaussian(3, 5, 1), gaussian(66_000, 6, 1)]) {
      const options = { dim: 1, stages: 1, codebookSize: codebook.length, init: [codebook], iterations: 2 };
      const vectors = codebook.length > 65_536 ? rows.subarray(0, 40) : rows;
      expect(await train("cuda", vectors, options)).toEqual(await train("js", vectors, options));
    }
  });

  it("draws seeds on the device: many in a call, of many blocks of rows, and any rows where no distance is left", async () => {
    const distinct = gaussian(19, 8);
    const repeated = Float32Array.from({ length: 2_100 * dim }, (_, i) => distinct[i % distinct.length]);
    const cases: [title: string, vectors: Float32Array, options: Partial<TrainOptions>][] = [
      ["many draws", gaussian(2_500), { codebookSize: [600, 2] }],
      ["a sample", gaussian(5_000), { codebookSize: [40, 3], sampleSize: 1_500 }],
      ["fewer rows than codewords", gaussian(20), { codebookSize: [24, 300] }],
      ["few different rows", repeated, { codebookSize: [12, 300] }],
      ["the same, in one stage", repeated, { codebookSize: 400, stages: 1 }],
      ["weights of zero", gaussian(300), { weights: new Float32Array(dim).fill(0, 1).with(0, 2) }],
    ];
    for (const [title, vectors, options] of cases) {
      const calls: string[] = [];
      intercept(({ method }) => calls.push(method));
      const shallow = { iterations: 1, ...options };
      expect(await train("cuda", vectors, shallow), title).toEqual(await train("js", vectors, shallow));
      expect(calls, title).not.toContain("cudaLowerDistances");
      const draws = calls.filter((method) => method === "cudaDrawResident").length;
      if (title === "many draws") expect(draws).toBe(Math.ceil(599 / 256) + 1);
      else expect(draws).toBeGreaterThan(0);
      restore();
    }
  });

  it("draws seeds by arrays of the host where the device has no room or is lost, and the best of several draws", async () => {
    const cases: [title: string, options: Partial<TrainOptions>][] = [
      ["all rows", {}],
      ["a sample", { sampleSize: 100 }],
      ["cosine", { metric: "cosine" }],
    ];
    const vectors = gaussian(300);
    for (const [title, options] of cases) {
      const few = { iterations: 1, stages: 1, codebookSize: 24, ...options };
      const expected = await train("js", vectors, few);
      for (const code of ["OUT_OF_MEMORY", "DEVICE_LOST"]) {
        for (const failing of ["cudaDrawResident", "allocate"]) {
          const calls: string[] = [];
          intercept(({ method }) => {
            calls.push(method);
            // Memory for distances; that for vectors comes before it.
            const seen = calls.filter((call) => call === "allocate").length;
            const fails = failing === "allocate" ? seen > (title === "all rows" ? 1 : 2) : true;
            if (method === failing && fails) throw Object.assign(new Error("by a test"), { code });
          });
          expect(await train("cuda", vectors, few), `${title}, ${failing}`).toEqual(expected);
          expect(calls.filter((call) => call === "cudaDrawResident")).toHaveLength(failing === "allocate" ? 0 : 1);
          expect(calls.filter((call) => call === "cudaLowerDistances").length).toBeGreaterThan(22);
          restore();
        }
      }
    }
    const greedy = { init: "greedy-k-means++", iterations: 1, codebookSize: 5 } as const;
    const calls: string[] = [];
    intercept(({ method }) => calls.push(method));
    expect(await train("cuda", vectors, greedy)).toEqual(await train("js", vectors, greedy));
    expect(calls).toContain("cudaLowerDistances");
    expect(calls).not.toContain("cudaDrawResident");
  });

  it("subtracts a stage from rows that stay there, and brings single ones", async () => {
    const vectors = gaussian(900);
    const cases: [title: string, options: Partial<TrainOptions>, gathers: number][] = [
      // Seeds of three stages.
      ["k-means++", {}, 2],
      ["a sample", { sampleSize: 700 }, 2],
      ["random rows", { init: "random" }, 2],
      ["clusters that start again", { init: "random", minClusterSize: 6 }, 3],
    ];
    for (const [title, options, gathers] of cases) {
      const calls: NativeCall[] = [];
      intercept((call) => calls.push(call));
      const three = { stages: 3, codebookSize: [24, 11, 30], iterations: 7, ...options };
      expect(await train("cuda", vectors, three), title).toEqual(await train("js", vectors, three));
      const methods = calls.map(({ method }) => method);
      for (const method of ["encode", "assign", "cudaAccumulate"]) expect(methods, title).not.toContain(method);
      expect(methods.filter((method) => method === "cudaGatherResident").length, title).toBeGreaterThanOrEqual(gathers);
      const sent = calls.filter(({ method, request }) => method === "upload" && request.source instanceof Float32Array);
      const whole = sent.filter(({ request }) => (request.source as Float32Array).length === vectors.length);
      expect(whole, title).toHaveLength(1);
      restore();
    }
  });

  it("says where residuals overflow, as other backends do", async () => {
    // One is far from the mean of all.
    const vectors = gaussian(300).map((x, i) => (i === 40 * dim ? -3.3e38 : i % dim === 0 ? 3.3e38 : x));
    const options = { codebookSize: [1, 2], iterations: 1 };
    const expected = await train("js", vectors, options).catch((error: unknown) => error);
    expect(expected).toMatchObject({ code: "INVALID_ARGUMENT", message: expect.stringContaining("1.7e38") });
    await expect(train("cuda", vectors, options)).rejects.toEqual(expected);
  });

  it("leaves vectors, codes and distances there, and asks for codewords once a stage", async () => {
    const calls: NativeCall[] = [];
    intercept((call) => calls.push(call));
    const vectors = gaussian(900);
    const codebook = gaussian(4, 9);
    const iterations = 5;
    const options = { stages: 1, codebookSize: 4, init: [codebook], iterations, minClusterSize: 1 };
    await train("cuda", vectors, options);
    const numberOf = (wanted: string) => calls.filter(({ method }) => method === wanted).length;
    const bytesOf = (key: "source" | "target") =>
      calls.reduce((sum, { request }) => sum + ((request?.[key] as Float32Array | undefined)?.byteLength ?? 0), 0);
    expect(numberOf("encodeResident")).toBe(iterations);
    expect(numberOf("meansResident")).toBe(iterations);
    expect(numberOf("assign") + numberOf("cudaAccumulate")).toBe(0);
    expect(bytesOf("source")).toBe(vectors.byteLength + codebook.byteLength);
    expect(bytesOf("target")).toBe(codebook.byteLength);
  });

  it("goes over rows in pieces where a lane has no room for all, or fails as a whole", async () => {
    const vectors = gaussian(3000);
    const expected = await train("js", vectors, {});
    let calls: string[] = [];
    let limits: { memoryBytes: number; from?: string } = { memoryBytes: 0 };
    intercept(({ method }) => {
      calls.push(method);
      if (method === limits.from) limit(limits);
    });
    for (limits of [{ memoryBytes: 20_000 }, { memoryBytes: 60_000 }]) {
      limit(limits);
      calls = [];
      expect(await train("cuda", vectors, {}), JSON.stringify(limits)).toEqual(expected);
      expect(calls.filter((method) => method === "meansResident")).toHaveLength(expected.reports.length);
    }
    if (native.cudaTestLimits === undefined) return;
    for (const from of ["cudaDrawResident", "encodeResident", "meansResident"]) {
      limit({});
      limits = { memoryBytes: 16, from };
      await expect(train("cuda", vectors, {}), from).rejects.toMatchObject({ code: "OUT_OF_MEMORY" });
    }
  });

  it("starts over from arrays of the host where the device has no room or is lost, with every report once", async () => {
    const vectors = gaussian(120);
    const options = { stages: 2, codebookSize: [12, 8], minClusterSize: 6, iterations: 3 };
    const expected = await train("js", vectors, options);
    for (const code of ["OUT_OF_MEMORY", "DEVICE_LOST", "CUDA"]) {
      let left = 0;
      intercept(({ method }) => {
        if (method !== "dispose" && --left === 0) throw Object.assign(new Error("by a test"), { code });
      });
      let calls = 0;
      for (let call = 1; left <= 0; call++) {
        left = call;
        const outcome = await train("cuda", vectors, options).catch((error: unknown) => error);
        if (left > 0) break;
        calls = call;
        if (code === "CUDA") expect(outcome, `call ${call}`).toMatchObject({ code });
        else expect(outcome, `call ${call}`).toEqual(expected);
      }
      // Of two stages: arrays allocated and filled, seeds drawn and brought, magnitudes asked for, two calls for each of three
      // iterations, some for what starts again; and between them residuals.
      expect(calls).toBeGreaterThan(2 * (6 + 1 + 2 + 1 + 2 * 3 + 4) + 3);
    }
  });

  it("rejects, or comes to the same, where the device fails and then the host's residuals do", async () => {
    const vectors = gaussian(200);
    for (const init of ["k-means++", "greedy-k-means++"] as const) {
      const options = { init, stages: 3, codebookSize: 8, iterations: 2 };
      const expected = await train("js", vectors, options);
      for (const code of ["OUT_OF_MEMORY", "DEVICE_LOST"]) {
        // What fails once, from when on; from the second stage on there are residuals to be made.
        for (const failing of ["encode", "loadCodewordsResident", "cudaGatherResident", "meansResident"]) {
          for (const after of [0, 1]) {
            const seen: Record<string, number> = {};
            let failed = 0;
            intercept(({ method }) => {
              seen[method] = (seen[method] ?? 0) + 1;
              const fails =
                method === failing ? seen[method] > after && failed === 0 : method === "encode" && failed === 1;
              if (!fails) return;
              failed++;
              throw Object.assign(new Error("by a test"), { code });
            });
            const outcome = await train("cuda", vectors, options).catch((error: unknown) => error);
            restore();
            const where = `${init}, ${code}, ${failing}, ${after}`;
            if (outcome instanceof Error) expect(outcome, where).toMatchObject({ code });
            else expect(outcome, where).toEqual(expected);
          }
        }
      }
    }
  });

  it("does not start over where a report throws, whatever that is", async () => {
    const error = new RvqError("OUT_OF_MEMORY", "of another call");
    let reports = 0;
    const onProgress = () => {
      reports++;
      throw error;
    };
    const training = ResidualQuantizer.train(gaussian(300), {
      dim,
      codebookSize: 9,
      stages: 1,
      backend: "cuda",
      onProgress,
    });
    await expect(training).rejects.toBe(error);
    expect(reports).toBe(1);
  });

  it("frees all the memory that it takes, however it ends, and sees the signal between its calls", async () => {
    let allocated = 0;
    const disposed = new Set<unknown>();
    let controller = new AbortController();
    let aborted = "";
    const sent: number[] = [];
    intercept(({ method, self, request }) => {
      if (method === "upload") sent.push((request.source as Float32Array).length);
      if (method === "allocate") allocated++;
      if (method === "dispose") disposed.add(self);
      if (method === aborted) controller.abort(new Error("enough"));
    });
    const weights = new Float32Array(dim).fill(2);
    // Rows that the first stage leaves nothing of: those of the second are the others.
    const repeated = gaussian(300, 6).map((x, i, all) => (i < 200 * dim ? all[i % dim] : x));
    await train("cuda", repeated, { metric: "cosine", stages: 4, codebookSize: 40 });
    expect(Math.min(...sent)).toBeLessThan(100 * dim);
    for (aborted of ["", "cudaDrawResident", "cudaGatherResident", "encodeResident", "meansResident"]) {
      controller = new AbortController();
      const training = train("cuda", gaussian(500), { weights, signal: controller.signal });
      if (aborted === "") await training;
      else await expect(training).rejects.toThrow("enough");
    }
    // Of four stages and of two, of three in which it was aborted, and distances for seeds.
    expect(allocated).toBeGreaterThanOrEqual(4 * 7 + 2);
    expect(disposed.size).toBe(allocated);
  });
});
