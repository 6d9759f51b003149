// The native addon as a guest in a process: bad arguments, lifetimes, threads, workers and the event loop.

import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { afterEach, describe, expect, it, vi } from "vitest";
import { loadAddon } from "../lib/addon.js";
import type { Addon } from "../lib/cpu/addon.js";
import { openCpu } from "../lib/cpu/backend.js";
import type { CudaAddon } from "../lib/cuda/addon.js";
import { Random } from "../lib/random.js";
import { accumulateOperation, cpuOperations } from "./cpu-operations.js";
import { detach } from "./lost-memory.js";

const loaded = loadAddon();
const addon = loaded.addon as Addon;
const dim = 16;
const options = { threads: 2, instructionSet: loaded.addon === null ? "" : addon.cpuInfo().instructionSet };

describe.skipIf(loaded.addon === null)("the native addon", () => {
  afterEach(() => vi.unstubAllEnvs());

  it("answers every request that does not fit with a TypeError", async () => {
    const detached = detach(new Float32Array(4 * dim));
    const odd: unknown[] = [undefined, -1, 1.5, Number.NaN, 1e300, 2 ** 40, "x", {}, Symbol("x"), 7n, true, () => 1];
    odd.push([], [1], new Float32Array(3), new Float64Array(1), new Uint8Array(999), new ArrayBuffer(8), detached);
    for (const { request, run } of cpuOperations(addon, options)) {
      expect(() => run(undefined as never)).toThrow(TypeError);
      expect(() => run(1 as never)).toThrow(TypeError);
      await run(request as never);
      for (const name of Object.keys(request)) {
        for (const value of odd) {
          try {
            await run({ ...request, [name]: value } as never);
          } catch (error) {
            expect(error).toBeInstanceOf(Error);
          }
        }
        // No value that is nothing fits, but for those that may be left out.
        const optional = [
          "weights",
          "bias",
          "plainDistances",
          "previous",
          "previousCodes",
          "beam",
          "residuals",
        ].includes(name);
        if (!optional) expect(() => run({ ...request, [name]: undefined } as never), name).toThrow(TypeError);
        if (name !== "weights") expect(() => run({ ...request, [name]: detached } as never), name).toThrow(TypeError);
      }
    }
    const inChunks = { ...makeRequest(4), chunkOf: 1 as never };
    expect(() => makeCore(50).encode(inChunks)).toThrow("chunkOf: expected an object or nothing");
    const { request: accumulate } = accumulateOperation(addon, options);
    expect(() => addon.accumulate(accumulate, { threads: 0, instructionSet: "portable" })).toThrow(TypeError);
    expect(() => addon.accumulate(accumulate, { threads: 1, instructionSet: "mmx" })).toThrow(TypeError);
  });

  it("does not read beyond the tables of codebooks that are smaller than codes say, nor write beyond them", async () => {
    const rest = { dim: 1, count: 1, queries: Float64Array.of(1), factor: -1, candidates: 2, norms: null };
    const found = { keys: new Float64Array(2), ids: new Uint32Array(2) };
    const small = { codebooks: [Float32Array.of(1, 2)], vectors: 2, stages: 1, numWords: 0, words: new Int32Array(0) };
    for (const singles of [Uint8Array.of(255, 1), Uint16Array.of(65_535, 1), Uint32Array.of(2 ** 32 - 1, 1)])
      await addon.scanCodes({ ...small, ...rest, ...found, singles }, options);
    const large = { ...small, codebooks: [new Float32Array(257)], singles: new Uint8Array(2) };
    expect(() => addon.scanCodes({ ...large, ...rest, ...found }, options)).toThrow(
      /codebooks: expected codewords of dim/,
    );
    const fewer = { ...small, codebooks: [], singles: new Uint8Array(2) };
    expect(() => addon.scanCodes({ ...fewer, ...rest, ...found }, options)).toThrow(
      "codebooks: expected one for each stage",
    );
  });

  it("refuses packed codes that it has no arithmetic for", () => {
    const codes = { codes: new Uint32Array(8), count: 4, stages: 2, codebookSizes: Int32Array.of(5, 2) };
    const request = { ...codes, ...{ groupLengths: Int32Array.of(1, 1), groups: 2, stageMajor: false } };
    const bytes = { bytes: new Uint8Array(200), sizeBytes: 2 };
    expect(addon.unpackCodes({ ...request, ...bytes })).toBe(0);
    for (const [change, message] of [
      [{ codebookSizes: Int32Array.of(0, 2) }, /codebookSizes: expected sizes/],
      [{ codebookSizes: Int32Array.of(2 ** 24 + 1, 2) }, /codebookSizes: expected sizes/],
      [{ groupLengths: Int32Array.of(1, 2) }, /groupLengths: expected lengths that add up/],
      [{ groupLengths: Int32Array.of(2, 0) }, /groupLengths: expected lengths that add up/],
      [{ groupLengths: Int32Array.of(1), groups: 1 }, /groupLengths: expected lengths that add up/],
      [{ groupLengths: Int32Array.of(53, 1), stageMajor: true }, /groupLengths: expected lengths in/],
      [{ groupLengths: Int32Array.of(23, 1), stageMajor: true }, /groups of at most 52 bits/],
      [{ groups: 1, groupLengths: Int32Array.of(2), stageMajor: true }, /groups: expected as many as stages/],
      [
        { codebookSizes: Int32Array.of(2 ** 24, 2 ** 24), groups: 1, groupLengths: Int32Array.of(2), sizeBytes: 24 },
        undefined,
      ],
      [{ sizeBytes: 3 }, /sizeBytes: expected 2/],
      [{ bytes: new Uint8Array(1) }, /bytes: expected a Uint8Array of at least 2/],
      [{ count: 2 ** 53 - 1 }, /sizes are too large/],
    ] as const) {
      const run = () => addon.packCodes({ ...request, ...bytes, ...change });
      if (message === undefined) expect(run()).toBe(true);
      else expect(run).toThrow(message);
    }
  });

  it("refuses a code that has no codeword", async () => {
    const core = makeCore(50);
    const codes = Uint32Array.of(49, 50, 0);
    const vectors = new Float32Array(3 * dim);
    const request = { codes, count: 3, codeStages: 1, stages: 1, vectors };
    expect(() => core.decodeSync(request)).toThrow(RangeError);
    await expect(core.decode(request)).rejects.toThrow(RangeError);
    const measured = { ...request, weighted: false, distances: new Float64Array(3) };
    expect(() => core.distancesSync(measured)).toThrow(RangeError);
    const counts = new Float64Array(50);
    const statistics = { vectors, count: 3, dim, codes, numCodewords: 50, gridExponents: new Int32Array(dim), counts };
    await expect(addon.accumulate({ ...statistics, sums: new Float64Array(50 * dim) }, options)).rejects.toThrow(
      RangeError,
    );
    const moving = {
      ...statistics,
      codes: Uint32Array.of(0, 1, 2),
      previousCodes: codes,
      sums: new Float64Array(50 * dim),
    };
    await expect(addon.accumulate(moving, options)).rejects.toThrow(RangeError);
    expect(counts.every((count) => count === 0)).toBe(true);
    const codebook = new Float32Array(50 * dim).map((_, i) => i);
    const spec = { dim, metric: "l2", weights: null, codebooks: [codebook], previous: codebook, ...options } as const;
    const assigned = { vectors, count: 3, codes, distances: new Float64Array(3) };
    await expect(new addon.CpuCodebooks(spec).assign(assigned)).rejects.toThrow(RangeError);
  });

  it("finishes a call in flight when its codebooks are disposed, and refuses the next", async () => {
    const core = makeCore(1000);
    const request = makeRequest(20000);
    const expected = new Uint16Array(20000);
    core.encodeSync({ ...request, codes: expected });
    const running = core.encode(request);
    core.dispose();
    core.dispose();
    expect(await running).toBeNull();
    expect(request.codes).toEqual(expected);
    expect(() => core.encodeSync(request)).toThrow("disposed");
    expect(() => core.decode({ ...request, codeStages: 1 })).toThrow("disposed");
  });

  it("serves many calls at once, of several codebooks, and each gets its own answer", async () => {
    const cores = [100, 700, 1300].map((numCodewords) => makeCore(numCodewords));
    const calls = Array.from({ length: 60 }, (_, i) => ({ core: cores[i % 3], request: makeRequest(1 + 37 * i, i) }));
    await Promise.all(calls.map(({ core, request }) => core.encode(request)));
    for (const { core, request } of calls) {
      const codes = new Uint16Array(request.count);
      core.encodeSync({ ...request, codes });
      expect(request.codes).toEqual(codes);
    }
  });

  it("gives the same codes for more threads than there are processors or blocks", () => {
    const request = makeRequest(3000);
    const expected = new Uint16Array(3000);
    makeCore(300, 1).encodeSync({ ...request, codes: expected });
    for (const threads of [3, 16, 1024]) {
      makeCore(300, threads).encodeSync(request);
      expect(request.codes).toEqual(expected);
    }
  });

  it.skipIf(addon?.mostThreads === undefined)("counts its threads over all chunks of a call", async () => {
    const mostThreads = async (threads: number, chunkOf: object | undefined) => {
      const core = makeCore(2000, threads);
      addon.mostThreads?.();
      const requests = Array.from({ length: 6 }, (_, i) => ({ ...makeRequest(20_000, i), chunkOf }));
      await Promise.all(requests.map((request) => core.encode(request)));
      for (const request of requests) {
        const codes = new Uint16Array(request.count);
        core.encodeSync({ ...request, codes });
        expect(request.codes).toEqual(codes);
      }
      return addon.mostThreads?.();
    };
    // The pool has these threads from now on, however few processors there are: the calls after it could use them.
    expect(await mostThreads(4, undefined)).toBeGreaterThan(2);
    expect(await mostThreads(1, {})).toBe(1);
    expect(await mostThreads(2, {})).toBe(2);
    expect(await mostThreads(1, undefined)).toBeGreaterThan(1);
  });

  it("goes on to the next chunk of a call without waiting for the event loop", async () => {
    const core = makeCore(1000, 1);
    const chunkOf = {};
    const requests = Array.from({ length: 3 }, (_, i) => ({ ...makeRequest(3000, i), chunkOf }));
    for (const { codes } of requests) codes.fill(1000);
    const running = requests.map((request) => core.encode(request));
    const deadline = performance.now() + 60_000;
    while (requests.some(({ codes }) => codes.includes(1000)) && performance.now() < deadline);
    for (const { codes } of requests) expect(codes).not.toContain(1000);
    await Promise.all(running);
  });

  it("serves chunks of several calls at once, each within its limit, and loses none", async () => {
    const cores = [1, 2, 3].map((threads) => makeCore(100, threads));
    const calls = Array.from({ length: 90 }, (_, i) => ({ core: cores[i % 3], request: makeRequest(400, i) }));
    const shared = Array.from({ length: 9 }, () => ({}));
    await Promise.all(calls.map(({ core, request }, i) => core.encode({ ...request, chunkOf: shared[i % 9] })));
    for (const { core, request } of calls) {
      const codes = new Uint16Array(request.count);
      core.encodeSync({ ...request, codes });
      expect(request.codes).toEqual(codes);
    }
  });

  it("leaves the event loop free while it works", async () => {
    const core = makeCore(4000);
    const request = makeRequest(60000);
    let done = false;
    const running = core.encode(request).then(() => {
      done = true;
    });
    let turns = 0;
    while (!done) {
      await sleep(1);
      turns++;
    }
    await running;
    expect(turns).toBeGreaterThan(3);
  });

  it("waits for its calls when a worker is terminated in the middle of one", async () => {
    for (let round = 0; round < 5; round++) {
      const worker = new Worker(workerSource, { eval: true, workerData: { file: loaded.file, calls: 40 } });
      await once(worker, "message");
      await sleep(round);
      expect(await worker.terminate()).toBe(1);
    }
    const core = makeCore(10);
    expect(await core.encode(makeRequest(10))).toBeNull();
  });

  it("works in several workers at once", async () => {
    const workers = Array.from(
      { length: 3 },
      () => new Worker(workerSource, { eval: true, workerData: { file: loaded.file, calls: 2 } }),
    );
    const ends = await Promise.all(workers.map((worker) => once(worker, "exit")));
    expect(ends.map(([code]) => code)).toEqual([0, 0, 0]);
  });

  it("reports what the machine has", () => {
    const { instructionSet, instructionSets, processors } = addon.cpuInfo();
    expect(instructionSets[0]).toBe(instructionSet);
    expect(instructionSets.at(-1)).toBe("portable");
    expect(processors).toBeGreaterThanOrEqual(1);
    const cuda = (addon as object as CudaAddon).cudaInfo();
    if (cuda.devices.length === 0) expect(cuda.reason).toMatch(/\w/);
    else expect(cuda.reason).toBeNull();
  });

  it("takes the level that RVQ_CPU names, and lists the levels where there is no such one", () => {
    const file = loaded.file ?? "";
    for (const level of addon.cpuInfo().instructionSets) {
      vi.stubEnv("RVQ_CPU", level);
      expect(openCpu(addon, file).description).toContain(level);
    }
    vi.stubEnv("RVQ_CPU", "mmx");
    expect(() => openCpu(addon, file)).toThrow(/RVQ_CPU=mmx is not a level of this machine, which has .*portable/);
    vi.stubEnv("RVQ_CPU", "");
    expect(openCpu(addon, file).description).toContain(addon.cpuInfo().instructionSet);
    expect(() => openCpu(addon, file, { threads: 0 })).toThrow("threads: expected an integer in 1 … 1024, got 0");
    expect(() => openCpu({}, "other.node")).toThrow(/other\.node lacks cpuInfo/);
  });
});

/** Encodes on and on, and tells its parent once the first calls are under way. */
const workerSource = `
  const { parentPort, workerData } = require("node:worker_threads");
  const addon = require(workerData.file);
  const dim = 64;
  const spec = { dim, metric: "l2", weights: null, threads: 2, instructionSet: addon.cpuInfo().instructionSet };
  const codebook = Float32Array.from({ length: 1000 * dim }, (_, i) => Math.sin(i * i));
  const core = new addon.CpuCodebooks({ ...spec, codebooks: [codebook] });
  const count = 20000;
  const vectors = Float32Array.from({ length: count * dim }, (_, i) => Math.cos(i));
  for (let call = 0; call < workerData.calls; call++) {
    core.encode({ vectors, count, stages: 1, codes: new Uint16Array(count) });
  }
  parentPort.postMessage("running");
`;

function makeCore(numCodewords: number, threads = 2) {
  const random = new Random(numCodewords);
  const codebook = Float32Array.from({ length: numCodewords * dim }, () => random.fraction());
  return new addon.CpuCodebooks({ ...options, dim, metric: "l2", weights: null, codebooks: [codebook], threads });
}

function makeRequest(count: number, seed = 0) {
  const random = new Random(seed);
  const vectors = Float32Array.from({ length: count * dim }, () => random.fraction());
  return { vectors, count, stages: 1, codes: new Uint16Array(count) };
}
