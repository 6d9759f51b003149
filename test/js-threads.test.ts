// The `js` backend with worker threads: the same answers, the same errors, and nothing left over. Workers run dist/.

import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import type { CodeArray, CodebookSpec, EncodeRequest } from "../lib/backend.js";
import { openJs } from "../lib/js/backend.js";
import { encodeInParts, partRows } from "../lib/js/threads.js";
import { type Form, WorkerPool, workerPool } from "../lib/js/worker-pool.js";
import { ResidualQuantizer } from "../lib/residual-quantizer.js";
import { expectSame, withForm } from "./contract/backends.js";
import { makeData, makeStages, type Shape } from "./contract/families.js";

const library = path.resolve(__dirname, "../dist/index.js");
const forms = (["plain", "wasm"] as const).filter((form) =>
  withForm("", () => openJs().description).startsWith(form === "wasm" ? "WebAssembly" : ""),
);

beforeAll(() => {
  if (!existsSync(library)) throw new Error("dist/ is missing: npm run build");
});

describe.each(forms)("worker threads of the %s form", (form) => {
  const [one, two] = [1, 2].map((threads) => withForm(form, () => openJs({ threads })));
  const shape: Shape = { count: form === "plain" ? 700 : 5000, dim: 65, numCodewords: 1000 };
  const data = makeData("gaussian", shape, 1);
  const spec = (metric: "l2" | "cosine"): CodebookSpec => ({
    dim: shape.dim,
    metric,
    weights: metric === "l2" ? Float32Array.from({ length: shape.dim }, (_, i) => (i % 5) / 2) : null,
    codebooks: makeStages(data, shape, 2, 1),
  });
  const request = (vectors: Float32Array, CodesOf: typeof Uint16Array | typeof Uint32Array) => ({
    vectors: vectors.slice(),
    count: shape.count,
    stages: 2,
    codes: new CodesOf(shape.count * 2),
    residuals: new Float32Array(vectors.length),
  });

  it.each([
    ["l2", Uint16Array],
    ["cosine", Uint32Array],
  ] as const)("give the codes and residuals of one thread (%s)", async (metric, CodesOf) => {
    const results: { codes: CodeArray; residuals: Float32Array; again: Float32Array }[] = [];
    for (const backend of [one, two]) {
      const prepared = backend.prepare(spec(metric));
      const call = request(data.vectors, CodesOf);
      expect(await prepared.encode(call)).toBeNull();
      // A second call while the first one's codebooks are there already; residuals in the place of the vectors.
      const again = { ...request(data.vectors, CodesOf), residuals: call.vectors, vectors: call.vectors };
      expect(await prepared.encode(again)).toBeNull();
      expectSame(again.codes, call.codes, { form, metric, backend: backend.description });
      prepared.dispose();
      results.push({ codes: call.codes, residuals: call.residuals, again: again.residuals });
    }
    expectSame(results[1].codes, results[0].codes, { form, metric, what: "codes" });
    expectSame(results[1].residuals, results[0].residuals, { form, metric, what: "residuals" });
    expectSame(results[1].again, results[0].residuals, { form, metric, what: "residuals in place" });
    expect(workerPool(form)?.size).toBe(2);
  });

  it("give the codes and residuals of one thread in a beam search", async () => {
    const count = form === "plain" ? 90 : 60;
    const results = [one, two].map(async (backend) => {
      const prepared = backend.prepare(spec("l2"));
      const vectors = data.vectors.slice(0, count * shape.dim);
      const codes = new Uint16Array(count * 2);
      const residuals = new Float32Array(vectors.length);
      expect(await prepared.encode({ vectors, count, stages: 2, beam: 3, codes, residuals })).toBeNull();
      prepared.dispose();
      return { codes, residuals };
    });
    const [here, there] = await Promise.all(results);
    expectSame(there.codes, here.codes, { form, what: "codes" });
    expectSame(there.residuals, here.residuals, { form, what: "residuals" });
  });

  it("name the first bad row, whichever part it is in", async () => {
    const prepared = two.prepare(spec("l2"));
    const vectors = data.vectors.slice();
    vectors[(shape.count - 2) * shape.dim + 7] = NaN;
    expect(await prepared.encode(request(vectors, Uint16Array))).toEqual({
      kind: "not finite",
      row: shape.count - 2,
      column: 7,
    });
    vectors[3 * shape.dim + 1] = Infinity;
    expect(await prepared.encode(request(vectors, Uint16Array))).toEqual({ kind: "not finite", row: 3, column: 1 });
  });

  it("are told by the description", () => {
    expect(one.description).toMatch(/, one thread$/);
    expect(two.description).toMatch(/, 2 threads$/);
  });

  it("train the same model", async () => {
    const options = { dim: shape.dim, codebookSize: 1000, stages: 1, seed: 1, iterations: 1, backend: "js" } as const;
    const models: string[] = [];
    for (const threads of [1, 2]) {
      const rq = await withForm(form, () => ResidualQuantizer.train(data.vectors, { ...options, threads }));
      models.push(rq.id);
    }
    expect(models[1]).toBe(models[0]);
  });

  it("stop at the signal, with its reason", async () => {
    const rq = withForm(form, () =>
      ResidualQuantizer.fromCodebooks([data.codebook], { dim: shape.dim, backend: "js", threads: 2 }),
    );
    const vectors = new Float32Array(30 * shape.count * shape.dim);
    const abort = new AbortController();
    const call = rq.encode(vectors, { signal: abort.signal, onProgress: () => abort.abort(new Error("enough")) });
    await expect(call).rejects.toThrow("enough");
  });
});

describe("a call that cannot be done by workers", () => {
  const codebooks: CodebookSpec = { dim: 1, metric: "l2", weights: null, codebooks: [Float32Array.of(0, 1)] };
  const call = () => ({ vectors: Float32Array.of(0, 1, 1), count: 3, stages: 1, codes: new Uint16Array(3) });

  it("is done on the calling thread where none starts", async () => {
    const pool = new WorkerPool(path.join(__dirname, "missing.js"), "plain");
    const prepared = openJs().prepare(codebooks);
    const request = call();
    const parts: number[] = [];
    const encodeHere = (part: EncodeRequest) => {
      parts.push(part.count);
      return prepared.encode(part);
    };
    expect(await encodeInParts(pool, pool.share({}, codebooks), request, 2, 2, encodeHere)).toBeNull();
    expect([...request.codes]).toEqual([0, 1, 1]);
    expect(parts.sort()).toEqual([1, 2]);
    expect(pool.usable).toBe(false);
    expect(pool.size).toBe(0);
  });

  it("is one that is too small", () => {
    expect(partRows(1000, 128 * 1024, 4, "wasm")).toBe(1000);
    expect(partRows(1700, 128 * 1024, 4, "wasm")).toBe(896);
    expect(partRows(800, 256 * 1024, 4, "wasm")).toBe(400);
    expect(partRows(8192, 128 * 1024, 4, "wasm")).toBe(2048);
    expect(partRows(8192, 128 * 1024, 3, "wasm")).toBe(2816);
    expect(partRows(1, 1e12, 4, "plain")).toBe(1);
  });
});

describe("a process with idle workers", () => {
  const setUp = `
    const { ResidualQuantizer } = require(${JSON.stringify(library)});
    const vectors = Float32Array.from({ length: 20000 * 32 }, (_, i) => Math.sin(i));
    const rq = ResidualQuantizer.fromCodebooks([vectors.slice(0, 32768)], { dim: 32, backend: "js", threads: 2 });`;
  const run = (script: string) =>
    execFileSync(process.execPath, ["-e", setUp + script], { encoding: "utf8", timeout: 20_000 });

  it("ends as soon as its work is done, and not before", () => {
    const script = `rq.encode(vectors).then(({ count }) => {
      const done = performance.now();
      process.on("exit", () => console.log(count, performance.now() - done < 2000));
    });`;
    expect(run(script)).toBe("20000 true\n");
  });

  it("may itself be a worker thread that is terminated", () => {
    const inner = `${setUp} (async () => {
      for (;;) { await rq.encode(vectors); require("node:worker_threads").parentPort.postMessage(0); }
    })();`;
    const script = `
      const { Worker } = require("node:worker_threads");
      const worker = new Worker(${JSON.stringify(inner)}, { eval: true });
      worker.once("message", () => setTimeout(() => worker.terminate(), 20));
      worker.on("exit", (code) => rq.encode(vectors).then(({ count }) => console.log(code, count)));`;
    expect(run(script)).toBe("1 20000\n");
  });
});

describe("the pool", () => {
  it.each(forms)("lets workers forget quantizers that are gone (%s)", async (form: Form) => {
    const pool = workerPool(form);
    if (pool === null) throw new Error("no worker.js");
    const shared = pool.share({}, { dim: 1, metric: "l2", weights: null, codebooks: [Float32Array.of(0, 1)] });
    const request = { vectors: Float32Array.of(1), count: 1, stages: 1, codes: new Uint16Array(1) };
    for (let turn = 0; turn < 2; turn++) {
      // Forgotten codebooks are sent again: a worker that still had them would be no worse, one that had not would fail.
      const { codes } = await pool.run(shared, request, 1);
      expect([...codes]).toEqual([1]);
      pool.forget(shared.id);
    }
    expect(pool.usable).toBe(true);
  });
});
