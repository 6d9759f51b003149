// k-means on a device: the codebooks of other backends, what crosses the bus, memory that is freed, and failures.

import { afterEach, describe, expect, it } from "vitest";
import { loadAddon } from "../lib/addon.js";
import type { CudaAddon } from "../lib/cuda/addon.js";
import { ResidualQuantizer, status, type TrainOptions, type TrainProgress } from "../lib/index.js";
import { Random } from "../lib/random.js";
import { familyNames, makeData, normal, withoutZeroRows } from "./contract/families.js";
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

function gaussian(count: number, seed = 1, width = dim): Float32Array {
  const random = new Random(seed);
  return Float32Array.from({ length: count * width }, () => normal(random));
}

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
      for (const family of familyNames) {
        const data = makeData(family, { count: 700, dim, numCodewords: 30 }, 31);
        // Residuals of numbers near the limit overflow float32, which training refuses.
        const scale = family === "near overflow" ? 0.05 : 1;
        const vectors = withoutZeroRows(data.vectors, dim).map((x) => x * scale);
        expect(await train("cuda", vectors, options), family).toEqual(await train("js", vectors, options));
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
    for (const limits of [{ memoryBytes: 20_000 }, { memoryBytes: 60_000 }]) {
      limit(limits);
      expect(await train("cuda", vectors, {}), JSON.stringify(limits)).toEqual(expected);
    }
    if (native.cudaTestLimits === undefined) return;
    limit({ memoryBytes: 16 });
    await expect(train("cuda", vectors, {})).rejects.toMatchObject({ code: "OUT_OF_MEMORY" });
  });

  it("does without where the device has no room for its arrays, and fails with what happens later", async () => {
    const vectors = gaussian(500);
    const options = { stages: 1, codebookSize: 24, init: "random", minClusterSize: 6 } as const;
    const expected = await train("js", vectors, options);
    for (const code of ["OUT_OF_MEMORY", "DEVICE_LOST", "CUDA"]) {
      let left = 0;
      intercept(({ method }) => {
        if (method !== "dispose" && --left === 0) throw Object.assign(new Error("by a test"), { code });
      });
      const outcomes: string[] = [];
      for (let call = 1; left <= 0; call++) {
        left = call;
        const outcome = await train("cuda", vectors, options).catch((error: unknown) => error);
        const isError = outcome instanceof Error;
        if (isError) expect(outcome).toMatchObject({ code });
        else expect(outcome, `call ${call}`).toEqual(expected);
        outcomes.push(isError ? "fails" : "goes on");
      }
      // Before the first iteration six arrays are allocated, two filled, and magnitudes asked for.
      const before = 6 + 2 + 1;
      expect(outcomes.slice(0, before)).toEqual(new Array(before).fill(code === "CUDA" ? "fails" : "goes on"));
      // Both calls of six iterations, and some for what starts again.
      expect(outcomes.length).toBeGreaterThan(before + 2 * 6 + 4);
      expect(outcomes.slice(before)).toEqual([...outcomes.slice(before + 1).map(() => "fails"), "goes on"]);
    }
  });

  it("frees all the memory that it takes, however it ends, and sees the signal between its calls", async () => {
    let allocated = 0;
    const disposed = new Set<unknown>();
    let controller = new AbortController();
    let aborted = "";
    intercept(({ method, self }) => {
      if (method === "allocate") allocated++;
      if (method === "dispose") disposed.add(self);
      if (method === aborted) controller.abort(new Error("enough"));
    });
    const weights = new Float32Array(dim).fill(2);
    for (aborted of ["", "encodeResident", "meansResident"]) {
      controller = new AbortController();
      const training = train("cuda", gaussian(500), { weights, signal: controller.signal });
      if (aborted === "") await training;
      else await expect(training).rejects.toThrow("enough");
    }
    // Of four stages, and the rows of which the seeds are drawn.
    expect(allocated).toBeGreaterThanOrEqual(4 * 7);
    expect(disposed.size).toBe(allocated);
  });
});
