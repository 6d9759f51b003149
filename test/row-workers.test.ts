// Training shared among worker threads, which run dist/: the bytes of this thread, its errors, and nothing left over.

import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import { Worker } from "node:worker_threads";
import { afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { CodebookTrainer, type LearningOptions, ResidualQuantizer, type StepOptions } from "../lib/index.js";
import { Random } from "../lib/random.js";
import { RowWorkers } from "../lib/row-workers.js";
import { candidates } from "./contract/backends.js";
import { makeData, withoutZeroRows } from "./contract/families.js";

const library = path.resolve(__dirname, "../dist/index.js");
const dim = 12;
const vectorsOf = (family: string, count: number, seed: number) =>
  makeData(family, { count, dim, numCodewords: 40 }, seed).vectors;
const random = new Random(4);

beforeAll(() => {
  if (!existsSync(path.resolve(__dirname, "../dist/row-worker.js"))) throw new Error("dist/: npm run build");
});

afterEach(() => {
  vi.restoreAllMocks();
});

for (const { title, name, available } of candidates.filter(({ form }) => form !== "plain")) {
  describe.skipIf(!available)(`workers on ${title}`, () => {
    it.each([
      ["plain", {}],
      ["row and metric weights", { weights: Float32Array.from({ length: dim }, (_, i) => i % 3) }],
      ["cosine", { metric: "cosine" }],
      ["balanced clusters", { capacity: [1.2, 1] }],
      ["refinements", { refinements: 2 }],
    ] as const)("train the k-means codebooks of this thread (%s)", async (_, more) => {
      const vectors = withoutZeroRows(vectorsOf("gaussian", 1501, 1), dim);
      const options = { dim, codebookSize: [30, 11], iterations: 7, seed: 2, backend: name, ...more };
      const here = await ResidualQuantizer.train(vectors, options);
      const run = vi.spyOn(RowWorkers.prototype, "run");
      for (const [workers, threads] of [
        [2, 2],
        [5, 1],
      ]) {
        const there = await ResidualQuantizer.train(vectors, { ...options, workers, threads });
        expect(there.id, `${workers} workers`).toBe(here.id);
      }
      // Every request was answered by the workers, none done here instead.
      expect(run.mock.calls.length).toBeGreaterThan(24);
      const settled = await Promise.allSettled(run.mock.results.map(({ value }) => value));
      expect(settled.every(({ status }) => status === "fulfilled")).toBe(true);
    });

    it.each([
      ["defaults", {}],
      ["simple, dropout", { average: "simple", dropout: { probability: 0.5 } }],
      ["metric weights", { weights: Float32Array.from({ length: dim }, (_, i) => i / 4) }],
      ["cosine", { metric: "cosine" }],
      ["groups", { groups: [5, 7] }],
    ] as [string, LearningOptions][])("step as this thread does (%s)", async (_, more) => {
      const first = withoutZeroRows(vectorsOf("clustered", 400, 3), dim);
      const options = { dim, codebookSize: [20, 9], seed: 3, backend: name, deadBelow: { ratio: 0.6 }, ...more };
      const here = await CodebookTrainer.start(first, options);
      const there = CodebookTrainer.fromBytes(here.toBytes(), { backend: name, threads: 2 });
      for (const [step, count] of [500, 90, 3, 700, 0].entries()) {
        const batch = withoutZeroRows(vectorsOf("clustered", count, 10 + step), dim);
        const rows: StepOptions = {
          mask: Uint8Array.from({ length: count }, (_, n) => (n * 7) % 5),
          weights: step % 2 === 0 ? undefined : Float32Array.from({ length: count }, () => random.fraction()),
          reconstruct: true,
        };
        const expected = await here.step(batch, rows);
        expect(await there.step(batch, { ...rows, workers: step === 3 ? 4 : 2 })).toEqual(expected);
        expect(there.toBytes()).toEqual(here.toBytes());
      }
    });

    it("find the first bad row, and change nothing then or when aborted", async () => {
      const trainer = await CodebookTrainer.start(vectorsOf("gaussian", 200, 5), { dim, codebookSize: 8, stages: 2 });
      const before = trainer.toBytes();
      const bad = vectorsOf("gaussian", 3000, 6);
      bad[2900 * dim] = NaN;
      bad[1800 * dim + 3] = NaN;
      await expect(trainer.step(bad, { workers: 3 })).rejects.toThrow(/NaN in row 1800, column 3/);
      const many = vectorsOf("gaussian", 30_000, 6);
      const stop = new AbortController();
      const call = trainer.step(many, { workers: 3, signal: stop.signal });
      setImmediate(() => stop.abort(new Error("enough")));
      await expect(call).rejects.toThrow("enough");
      expect(trainer.toBytes()).toEqual(before);
      await expect(trainer.step(many, { workers: 0 })).rejects.toThrow(/workers/);
      expect((await trainer.step(many, { workers: 3 })).step).toBe(1);

      const abort = new AbortController();
      const options = { dim, codebookSize: 30, stages: 3, backend: name, workers: 2, signal: abort.signal };
      const onProgress = () => abort.abort(new Error("no more"));
      await expect(ResidualQuantizer.train(many, { ...options, onProgress })).rejects.toThrow("no more");
      await expect(ResidualQuantizer.train(many, { ...options, workers: 1.5 })).rejects.toThrow(/workers/);
    });

    it("are done without where they fail", async () => {
      const vectors = vectorsOf("gaussian", 600, 7);
      const options = { dim, codebookSize: [16, 8], iterations: 4, seed: 1, backend: name };
      const here = await ResidualQuantizer.train(vectors, options);
      // The sixth request finds a worker gone: this thread does that and all that follows.
      const { postMessage } = Worker.prototype;
      let requests = 0;
      vi.spyOn(Worker.prototype, "postMessage").mockImplementation(function (this: Worker, message: unknown) {
        if (++requests === 6) void this.terminate();
        postMessage.call(this, message);
      });
      expect((await ResidualQuantizer.train(vectors, { ...options, workers: 2 })).id).toBe(here.id);
      expect(requests).toBe(6);

      const trainer = CodebookTrainer.fromCodebooks(here.codebooks(), { dim, backend: name });
      const same = CodebookTrainer.fromBytes(trainer.toBytes(), { backend: name });
      requests = 5;
      await trainer.step(vectors);
      await same.step(vectors, { workers: 2 });
      expect(same.toBytes()).toEqual(trainer.toBytes());
    });

    it("let the process end as soon as its work is done", () => {
      const source = `
        const { CodebookTrainer, ResidualQuantizer } = require(${JSON.stringify(library)});
        const vectors = Float32Array.from({ length: 4000 }, (_, i) => (i * 7919) % 101);
        const options = { dim: 4, codebookSize: 16, stages: 2, backend: ${JSON.stringify(name)} };
        (async () => {
          await ResidualQuantizer.train(vectors, { ...options, workers: 2 });
          const trainer = await CodebookTrainer.start(vectors, options);
          await trainer.step(vectors, { workers: 2 });
          const done = performance.now();
          process.on("exit", () => console.log(trainer.steps, performance.now() - done < 2000));
        })();
      `;
      const out = execFileSync(process.execPath, ["-e", source], { encoding: "utf8", timeout: 60_000 });
      expect(out.trim()).toBe("1 true");
    });
  });
}
