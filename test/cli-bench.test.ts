// `rvq bench`: every backend that runs here is in its tables, with figures that fit together.

import { describe, expect, it } from "vitest";
import type { Latency, Result } from "../lib/cli/bench-measure.js";
import { ratesOf } from "../lib/cli/roofline.js";
import { status } from "../lib/index.js";
import { runCli } from "./run-cli.js";

const available = status().backends.filter((backend) => backend.available);
const rvq = (...args: string[]) => runCli(["bench", "--seconds", "0.005", "--vectors", "300", ...args]);

describe("rvq bench", () => {
  it("measures all that run, and says what share of the tightest limit they reach", async () => {
    const { code, out, err } = await rvq("--shape", "d64 k1024", "--json");
    expect([code, err]).toEqual([0, expect.stringMatching(/^measuring …\n/)]);
    const { results, latencies } = JSON.parse(out) as { results: Result[]; latencies: Latency[] };
    const onHost = available.map(({ name }) => name as string);
    const names = onHost.flatMap((name) => (name === "cuda" ? ["cuda, on the device", name] : [name]));
    for (const work of ["encode", "decode", "statistics"] as const)
      expect(results.filter((one) => one.work === work).map(({ backend }) => backend)).toEqual(names);
    for (const one of results) {
      expect(one.ms).toBeGreaterThan(0);
      expect(one.vectorsPerSecond).toBeCloseTo((1000 * one.vectors) / one.ms, 3);
      expect(one.timesSlowest).toBeGreaterThanOrEqual(1);
      if (one.work === "encode") expect(one.gflops).toBeCloseTo((2 * 64 * 1024 * one.vectorsPerSecond) / 1e9, 3);
      const limits = one.work === "encode" ? ["float32", "memory", "tensor cores", "argmin"] : ["memory"];
      if (one.backend === "cpu" || one.backend.endsWith("device")) expect(limits).toContain(one.limit);
      else expect([one.limit, one.rooflineShare]).toEqual([null, null]);
    }
    const waiting = onHost.includes("cuda") ? [...onHost, "auto"] : onHost;
    expect(latencies.map(({ backend, vectors }) => `${backend} ${vectors}`)).toEqual(
      waiting.flatMap((name) => [1, 16, 256].map((vectors) => `${name} ${vectors}`)),
    );
    for (const { medianMs, p99Ms } of latencies) expect(medianMs).toBeLessThanOrEqual(p99Ms);
  });

  it("prints a table of the backend that is asked for alone", async () => {
    const { code, out } = await runCli([
      "--backend",
      "js",
      "bench",
      "--shape",
      "D8",
      "--seconds",
      "0.005",
      "--vectors",
      "30",
    ]);
    expect(code).toBe(0);
    expect(out).toMatch(/^encode +DAC D8 K1024, 9 stages +js +30 /m);
    expect(out).toMatch(/^js +256 +[\d]+ µs +[\d]+ µs$/m);
    expect(out).not.toMatch(/ cpu /);
  });

  it("names the shapes where none is meant", async () => {
    const { code, err } = await rvq("--shape", "D7K");
    expect([code, err]).toEqual([
      1,
      expect.stringMatching(/^rvq: --shape: expected a part of one of "EnCodec D128 .*, got "D7K"\n$/),
    ]);
  });

  it("stops when it is interrupted", async () => {
    const { code, err } = await runCli(["bench", "--seconds", "60"], { signal: AbortSignal.timeout(300) });
    expect([code, err]).toEqual([130, expect.stringContaining("rvq: stopped")]);
  });

  it("knows what a card can do from what it is", () => {
    // NVIDIA's figure for float16 products with float32 sums: 71 TFLOP/s.
    const geforce = { name: "NVIDIA GeForce RTX 3090", computeCapability: "8.6", multiprocessors: 82, clockMhz: 1800 };
    expect(ratesOf(geforce)).toMatchObject({ tensor: expect.closeTo(71.2, 1), clockMhz: 1695 });
    const hopper = { name: "NVIDIA H200", computeCapability: "9.0", multiprocessors: 132, clockMhz: 1980 };
    expect(ratesOf(hopper)).toMatchObject({ tensor: expect.closeTo(989.4, 1) });
    expect(ratesOf({ ...hopper, name: "unheard of", computeCapability: "99.0" })).toBeNull();
  });
});
