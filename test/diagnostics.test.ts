// What diagnostics channels and performance observers are told of calls, training and fallback.

import diagnostics from "node:diagnostics_channel";
import { type PerformanceMeasure, PerformanceObserver } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { CodebookTrainer, GroupedQuantizer, ResidualQuantizer, recordPerformance, status } from "../lib/index.js";

const codebook = Float32Array.of(0, 0, 1, 1, 2, 2);
const rq = ResidualQuantizer.fromCodebooks([codebook, codebook], { dim: 2, backend: "js" });
const vectors = Float32Array.of(0, 0.5, 2, 2, 1, 1, 0, 0, 2, 1);
const spoiled = Float32Array.of(0, Number.NaN);
const call = { backend: "js", dim: 2, stages: 2, modelId: rq.id, beam: 1 };

let subscribed: [string, (message: unknown) => void][] = [];

/** Everything that the channels tell from now on, as [channel, what it is told]. */
function listen(...names: string[]): [string, unknown][] {
  const told: [string, unknown][] = [];
  for (const name of names) {
    const listener = (message: unknown) => told.push([name, { ...(message as object) }]);
    diagnostics.subscribe(name, listener);
    subscribed.push([name, listener]);
  }
  return told;
}

const events = (name: string) => ["start", "end", "asyncStart", "asyncEnd", "error"].map((e) => `tracing:${name}:${e}`);
const namesOf = (told: [string, unknown][]) => told.map(([name]) => name.split(":").at(-1));

afterEach(() => {
  for (const [name, listener] of subscribed) diagnostics.unsubscribe(name, listener);
  subscribed = [];
});

describe("diagnostics channels", () => {
  it("tell of encode and decode, asynchronous or not, and of their failures", async () => {
    const told = listen(...events("rvq:encode"), ...events("rvq:decode"));
    const codes = await rq.encode(vectors);
    expect(namesOf(told)).toEqual(["start", "end", "asyncStart", "asyncEnd"]);
    expect(told[0]).toEqual(["tracing:rvq:encode:start", { ...call, sync: false, vectors: 5 }]);
    expect(told[3][1]).toEqual({ ...call, sync: false, vectors: 5, result: codes });

    told.length = 0;
    rq.encodeSync(vectors, { stages: 1 });
    expect(namesOf(told)).toEqual(["start", "end"]);
    expect(told[0][1]).toEqual({ ...call, stages: 1, sync: true, vectors: 5 });

    told.length = 0;
    await rq.decode(codes, { stages: 1 });
    rq.decodeSync(codes);
    expect(namesOf(told)).toEqual(["start", "end", "asyncStart", "asyncEnd", "start", "end"]);
    expect(told[0]).toEqual(["tracing:rvq:decode:start", { ...call, stages: 1, sync: false, vectors: 5 }]);

    told.length = 0;
    await expect(rq.encode(spoiled)).rejects.toMatchObject({ code: "NOT_FINITE" });
    expect(() => rq.encodeSync(spoiled)).toThrow(expect.objectContaining({ code: "NOT_FINITE" }));
    expect(namesOf(told)).toEqual(["start", "end", "error", "asyncStart", "asyncEnd", "start", "error", "end"]);
    expect(told[2][1]).toMatchObject({ error: { code: "NOT_FINITE" } });
  });

  it("tell of a batcher's batches, not of its calls", async () => {
    const told = listen("tracing:rvq:encode:start");
    const batcher = rq.batcher();
    await Promise.all([batcher.encode(vectors), batcher.encode(vectors)]);
    expect(told).toEqual([["tracing:rvq:encode:start", { ...call, sync: false, vectors: 10 }]]);
  });

  it("tell of a product form's calls once, not of those of its groups", async () => {
    const gq = GroupedQuantizer.fromCodebooks([[codebook], [codebook]], { dim: 4, groups: 2, backend: "js" });
    const told = listen(...events("rvq:encode"), ...events("rvq:decode"));
    const both = { backend: "js", dim: 4, stages: 1, modelId: gq.id, beam: 1, vectors: 2 };
    const codes = await gq.encode(vectors.subarray(2));
    expect(namesOf(told)).toEqual(["start", "end", "asyncStart", "asyncEnd"]);
    expect(told[0]).toEqual(["tracing:rvq:encode:start", { ...both, sync: false }]);
    await gq.decode(codes);
    gq.encodeSync(vectors.subarray(2), { beam: 2 });
    gq.decodeSync(codes);
    const starts = told.filter(([name]) => name.endsWith(":start"));
    expect(starts.slice(1)).toEqual([
      ["tracing:rvq:decode:start", { ...both, sync: false }],
      ["tracing:rvq:encode:start", { ...both, sync: true, beam: 2 }],
      ["tracing:rvq:decode:start", { ...both, sync: true }],
    ]);

    told.length = 0;
    const batcher = gq.batcher();
    await Promise.all([batcher.encode(vectors.subarray(2)), batcher.encode(vectors.subarray(2, 6))]);
    expect(namesOf(told)).toEqual(["start", "end", "asyncStart", "asyncEnd"]);
    expect(told[0][1]).toEqual({ ...both, sync: false, vectors: 3 });

    told.length = 0;
    await expect(gq.encode(Float32Array.of(0, 0, 0, Number.NaN))).rejects.toMatchObject({ code: "NOT_FINITE" });
    expect(namesOf(told)).toEqual(["start", "end", "error", "asyncStart", "asyncEnd"]);
    // A quantizer's own calls are told of as before.
    rq.encodeSync(vectors);
    expect(told.at(-1)?.[1]).toMatchObject({ modelId: rq.id });
  });

  it("tell of every way to train, and of its progress", async () => {
    const told = listen("tracing:rvq:train:start", "tracing:rvq:train:asyncEnd", "rvq:train:progress");
    const options = { dim: 2, codebookSize: 2, stages: 2, iterations: 1, backend: "js" } as const;
    const seen: unknown[] = [];
    const trained = await ResidualQuantizer.train(vectors, { ...options, onProgress: (at) => seen.push(at) });
    expect(namesOf(told)).toEqual(["start", "progress", "progress", "asyncEnd"]);
    expect(told[0][1]).toEqual({ method: "train", backend: "js", sync: false, dim: 2, vectors: 5, stages: 2 });
    expect([told[1][1], told[2][1]]).toEqual(seen);

    told.length = 0;
    await ResidualQuantizer.trainFromBatches(() => [vectors], options);
    expect(told[0][1]).toMatchObject({ method: "trainFromBatches", vectors: null, stages: 2 });
    expect(told.filter(([name]) => name === "rvq:train:progress").length).toBeGreaterThan(0);

    told.length = 0;
    await trained.refine(vectors, { iterations: 1 });
    expect(told[0][1]).toMatchObject({ method: "refine", vectors: 5 });

    told.length = 0;
    const trainer = CodebookTrainer.fromCodebooks([codebook], { dim: 2, backend: "js" });
    await trainer.step(vectors);
    expect(told[0][1]).toMatchObject({ method: "step", vectors: 5, stages: 1 });
  });

  it("tell when the first choice of a backend cannot run, and why", () => {
    const told = listen("rvq:fallback");
    const before = process.env.RVQ_BACKEND;
    delete process.env.RVQ_BACKEND;
    try {
      const { backends, selected } = status();
      // Only to ask is no fallback.
      expect(told).toEqual([]);
      ResidualQuantizer.fromCodebooks([codebook], { dim: 2 });
      const skipped = backends.slice(
        0,
        backends.findIndex(({ available }) => available),
      );
      const expected = skipped.map(({ name, reason }) => ({ name, reason }));
      expect(told).toEqual(skipped.length === 0 ? [] : [["rvq:fallback", { selected, skipped: expected }]]);
      told.length = 0;
      ResidualQuantizer.fromCodebooks([codebook], { dim: 2, backend: "js" });
      expect(told).toEqual([]);
    } finally {
      if (before !== undefined) process.env.RVQ_BACKEND = before;
    }
  });

  it("cost calls next to nothing while nobody listens", () => {
    const time = (calls: number) => {
      const start = performance.now();
      for (let i = 0; i < calls; i++) rq.decodeSync(codes);
      return (performance.now() - start) / calls;
    };
    const codes = rq.encodeSync(vectors.subarray(0, 2));
    time(20_000);
    const alone = Math.min(...[1, 2, 3].map(() => time(10_000)));
    const told = listen(...events("rvq:decode"));
    const watched = Math.min(...[1, 2, 3].map(() => time(1000)));
    expect(told.length).toBe(6000);
    // Whoever listens pays several times as much: a call that nobody watches does not make that effort.
    expect(alone).toBeLessThan(watched);
  });
});

describe("performance entries", () => {
  it("are made while they are recorded, and do not stay in the timeline", async () => {
    const entries: { name: string; duration: number; detail: unknown }[] = [];
    const observer = new PerformanceObserver((list) => {
      for (const { name, duration, detail } of list.getEntries() as PerformanceMeasure[]) {
        entries.push({ name, duration, detail });
      }
    });
    observer.observe({ entryTypes: ["measure"] });
    const stop = recordPerformance();
    const codes = await rq.encode(vectors);
    rq.decodeSync(codes);
    await expect(rq.encode(spoiled)).rejects.toThrow();
    await ResidualQuantizer.train(vectors, { dim: 2, codebookSize: 2, stages: 1, backend: "js" });
    stop();
    await rq.encode(vectors);
    await sleep(20);
    observer.disconnect();
    expect(entries.map(({ name }) => name)).toEqual(["rvq.encode", "rvq.decode", "rvq.encode", "rvq.train"]);
    expect(entries[0].detail).toEqual({ ...call, sync: false, vectors: 5, failed: false });
    expect(entries[2].detail).toMatchObject({ vectors: 1, failed: true });
    for (const { duration } of entries) expect(duration).toBeGreaterThan(0);
    expect(performance.getEntriesByType("measure").filter(({ name }) => name.startsWith("rvq."))).toEqual([]);
  });
});
