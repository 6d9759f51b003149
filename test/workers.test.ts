// The built package in worker threads: terminated at any moment of their asynchronous calls, or left to finish.

import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { loadAddon } from "../lib/addon.js";
import type { Addon } from "../lib/cpu/addon.js";

const library = path.resolve(__dirname, "../dist/index.js");

beforeAll(() => {
  if (!existsSync(library)) throw new Error("dist/ is missing: npm run build");
});

describe.each(["cpu", "js"] as const)("workers with the %s backend", (backend) => {
  const skip = backend === "cpu" && loadAddon().addon === null;

  it.skipIf(skip)("can be terminated while their calls succeed", () => {
    expect(runWorkers({ backend, calls: "good", rounds: 40, seed: 1 })).toEqual(outcome(40));
  });

  it.skipIf(skip)("can be terminated while their calls are refused", () => {
    expect(runWorkers({ backend, calls: "bad", rounds: 20, seed: 2 })).toEqual(outcome(20));
  });

  it.skipIf(skip)("can be terminated while they train", () => {
    expect(runWorkers({ backend, calls: "train", rounds: 20, seed: 3 })).toEqual(outcome(20));
  });

  it.skipIf(skip)("can be terminated while they call through a batcher", () => {
    expect(runWorkers({ backend, calls: "batched", rounds: 20, seed: 4 })).toEqual(outcome(20));
  });
});

describe("the threads of the cpu backend", () => {
  const { addon } = loadAddon();
  const skip = addon === null || process.platform !== "linux";

  it.skipIf(skip)("are no more than the processors for several workers with several quantizers at once", () => {
    const { processors } = (addon as Addon).cpuInfo();
    const started = threadsStarted(undefined);
    expect(started).toBeGreaterThanOrEqual(1);
    expect(started).toBeLessThanOrEqual(processors);
  });

  it.skipIf(skip)("are as many as a caller asks for, and that once for all", () => {
    expect(threadsStarted(7)).toBe(7);
  });
});

/** How many threads a process starts while four workers encode with three quantizers each. */
function threadsStarted(threads: number | undefined): number {
  const argument = JSON.stringify({ library, threads, workers: 4 });
  const options = { encoding: "utf8", timeout: 100_000 } as const;
  return JSON.parse(execFileSync(process.execPath, ["-e", countingSource, argument], options));
}

const countingSource = `
  const { once } = require("node:events");
  const { readdirSync } = require("node:fs");
  const { Worker } = require("node:worker_threads");
  const { library, threads, workers } = JSON.parse(process.argv[1]);
  const source = \`
    const { parentPort, workerData: { library, threads } } = require("node:worker_threads");
    const { ResidualQuantizer } = require(library);
    const dim = 64;
    const codebook = Float32Array.from({ length: 1024 * dim }, (_, i) => (i * 7919) % 1009);
    const vectors = Float32Array.from({ length: 8192 * dim }, (_, i) => (i * 104729) % 1013);
    const options = { dim, backend: "cpu", threads };
    const quantizers = [1, 2, 3].map(() => ResidualQuantizer.fromCodebooks([codebook], options));
    parentPort.once("message", async () => {
      await Promise.all(quantizers.map((quantizer) => quantizer.encode(vectors)));
      parentPort.postMessage("done");
    });
    parentPort.postMessage("ready");
  \`;

  async function main() {
    const started = Array.from({ length: workers }, () => new Worker(source, { eval: true, workerData: { library, threads } }));
    await Promise.all(started.map((worker) => once(worker, "message")));
    const running = () => readdirSync("/proc/self/task");
    // One that only starts a worker may end meanwhile.
    const before = new Set(running());
    // The pool's threads stay: what is there at the end is the most there has been.
    const finished = started.map((worker) => once(worker, "message"));
    for (const worker of started) worker.postMessage("go");
    let most = 0;
    const count = () => running().filter((thread) => !before.has(thread)).length;
    const watch = setInterval(() => (most = Math.max(most, count())), 1);
    await Promise.all(finished);
    clearInterval(watch);
    console.log(most);
    process.exit();
  }
  main();
`;

interface Plan {
  readonly backend: "cpu" | "js";
  /** What the worker that is terminated does on and on. */
  readonly calls: "good" | "bad" | "train" | "batched";
  /** In each of them one worker is terminated, and one beside it finishes. */
  readonly rounds: number;
  readonly seed: number;
}

/** Codeword k is (k, k, …), k = 0 … 15, and vector n is (n, n, …) + ¼, n = 0 … 19; 1 is how a terminated worker exits. */
function outcome(rounds: number) {
  const codes = "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 15 15 15 15";
  return { rounds, terminatedExits: [1], finishedExits: [0], finishedCodes: [codes] };
}

/** In a process of its own: an abort fails the test, with the signal in its message, and not the runner. */
function runWorkers(plan: Plan): unknown {
  const argument = JSON.stringify({ ...plan, library, workerSource });
  // The timeout, for only it can end a hang: the call holds the event loop of the runner.
  const options = { encoding: "utf8", timeout: 100_000 } as const;
  return JSON.parse(execFileSync(process.execPath, ["-e", parentSource, argument], options));
}

/** Prints the different outcomes there were. */
const parentSource = `
  const { once } = require("node:events");
  const { setTimeout: sleep } = require("node:timers/promises");
  const { Worker } = require("node:worker_threads");
  const { backend, calls, rounds, seed, library, workerSource } = JSON.parse(process.argv[1]);
  const start = (calls) => new Worker(workerSource, { eval: true, workerData: { library, backend, calls } });

  async function main() {
    const terminatedExits = new Set();
    const finishedExits = new Set();
    const finishedCodes = new Set();
    let state = seed;
    for (let round = 0; round < rounds; round++) {
      const doomed = start(calls);
      const finishing = start("finish");
      const finished = Promise.all([once(finishing, "message"), once(finishing, "exit")]);
      await once(doomed, "message");
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      await sleep((state / 2 ** 32) * 15);
      terminatedExits.add(await doomed.terminate());
      const [[codes], [exit]] = await finished;
      for (const data of codes) finishedCodes.add(data.join(" "));
      finishedExits.add(exit);
    }
    const outcomes = { terminatedExits, finishedExits, finishedCodes };
    const lists = Object.entries(outcomes).map(([name, values]) => [name, [...values]]);
    console.log(JSON.stringify({ rounds, ...Object.fromEntries(lists) }));
  }
  main();
`;

const workerSource = `
  const { parentPort, workerData } = require("node:worker_threads");
  const { ResidualQuantizer } = require(workerData.library);
  const { backend, calls } = workerData;
  const dim = 16;
  const codebook = Float32Array.from({ length: 16 * dim }, (_, i) => Math.floor(i / dim));
  const vectors = Float32Array.from({ length: 20 * dim }, (_, i) => Math.floor(i / dim) + 0.25);
  const notFinite = new Float32Array(20 * dim).fill(NaN);
  const quantizer = ResidualQuantizer.fromCodebooks([codebook], { dim, backend });
  const batcher = quantizer.batcher();

  const activities = {
    good: async () => quantizer.distortion(vectors, await quantizer.encode(vectors)),
    bad: () => quantizer.encode(notFinite).catch(() => {}),
    batched: async () => batcher.decode(await batcher.encode(vectors)),
    train: () => ResidualQuantizer.train(vectors, { dim, codebookSize: 16, stages: 2, backend }),
  };
  async function finish() {
    const codes = await Promise.all(Array.from({ length: 10 }, () => quantizer.encode(vectors)));
    parentPort.postMessage(codes.map(({ data }) => data));
  }
  async function loop() {
    for (;;) await activities[calls]();
  }
  if (calls === "finish") {
    finish();
  } else {
    // So many at once that there is a call to settle at every moment.
    for (let i = 0; i < 20; i++) loop();
    parentPort.postMessage("running");
  }
`;
