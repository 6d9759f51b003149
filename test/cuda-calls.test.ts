// How calls on a device share the process's threads: on the build that emulates one, where they take long.

import { execFileSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { loadAddon } from "../lib/addon.js";
import type { Addon, CpuCodebooks } from "../lib/cpu/addon.js";
import type { CudaAddon } from "../lib/cuda/addon.js";
import { status } from "../lib/open-backend.js";

const available = status().backends.find(({ name }) => name === "cuda")?.available === true;
const { file, addon } = loadAddon();
const native = addon as CudaAddon & Addon;

describe.skipIf(!available || native.cudaTestOpenRows === undefined)("calls on an emulated device", () => {
  const dim = 16;
  const count = 5000;
  const vectors = new Float32Array(count * dim).map((_, i) => i % 7);
  const spec = {
    dim,
    metric: "l2",
    weights: null,
    codebooks: [new Float32Array(64 * dim).map((_, i) => i % 13)],
  } as const;
  const onDevice = () => new native.CudaCodebooks({ ...spec, device: 0 });
  const onProcessor = () => {
    const { instructionSet } = native.cpuInfo();
    return new native.CpuCodebooks({ ...spec, threads: 1, instructionSet });
  };
  const encode = (core: Pick<CpuCodebooks, "encode">) =>
    core.encode({ vectors, count, stages: 1, codes: new Uint16Array(count) });

  it("are under way side by side, however few processors there are, also where threads are about to wake up", async () => {
    const core = onDevice();
    for (const calls of [2, 6, 9]) {
      native.mostThreads?.();
      await Promise.all(Array.from({ length: calls }, () => encode(core)));
      expect(native.mostThreads?.()).toBe(calls);
    }
  });

  it("are no more than 32 at a time, and all end", async () => {
    const core = onDevice();
    native.mostThreads?.();
    const bad = await Promise.all(Array.from({ length: 40 }, () => encode(core)));
    expect(bad).toEqual(new Array(40).fill(null));
    expect(native.mostThreads?.()).toBe(32);
  });

  it("keep no call on the processor waiting", async () => {
    const core = onDevice();
    let ended = 0;
    const calls = Array.from({ length: 12 }, () => encode(core).then(() => ended++));
    await encode(onProcessor());
    expect(ended).toBe(0);
    await Promise.all(calls);
  });

  it("do not hold the thread that lets memory go beside them", async () => {
    const core = onDevice();
    const memory = new native.CudaMemory({ device: 0, bytes: 2 ** 20 });
    const codebooks = onDevice();
    const began = performance.now();
    const calls = Array.from({ length: 4 }, () => encode(core));
    await sleep(20);
    const letGo = performance.now();
    memory.dispose();
    codebooks.dispose();
    const held = performance.now() - letGo;
    await Promise.all(calls);
    expect(held).toBeLessThan((performance.now() - began) / 5);
  });

  it("leave memory that is let go of beside them to who asks for it next", async () => {
    const core = onDevice();
    const bytes = 160 * 2 ** 20;
    process.env.RVQ_EMULATED_MEMORY = String(2 ** 28);
    try {
      const first = new native.CudaMemory({ device: 0, bytes });
      const calls = Array.from({ length: 6 }, () => encode(core));
      await sleep(5);
      first.dispose();
      const second = new native.CudaMemory({ device: 0, bytes });
      expect(() => new native.CudaMemory({ device: 0, bytes })).toThrow("out of memory");
      await Promise.all(calls);
      second.dispose();
      new native.CudaMemory({ device: 0, bytes }).dispose();
    } finally {
      delete process.env.RVQ_EMULATED_MEMORY;
    }
  });

  it.each([false, true])("end with the process, the processor's threads made before: %s", (processorFirst) => {
    const argument = JSON.stringify({ file, processorFirst });
    const options = { encoding: "utf8", timeout: 60_000 } as const;
    expect(execFileSync(process.execPath, ["-e", exitSource, argument], options)).toBe("exiting\n");
  });
});

/** Exits in the midst of calls on both. */
const exitSource = `
  const { file, processorFirst } = JSON.parse(process.argv[1]);
  const { cpuInfo, CpuCodebooks, CudaCodebooks } = require(file);
  const dim = 16;
  const count = 20000;
  const vectors = new Float32Array(count * dim).map((_, i) => i % 7);
  const specOf = (size) => {
    const codebooks = [new Float32Array(size * dim).map((_, i) => i % 1009)];
    return { dim, metric: "l2", weights: null, codebooks };
  };
  const { instructionSet } = cpuInfo();
  const encode = (core) => core.encode({ vectors, count, stages: 1, codes: new Uint16Array(count) });
  const onProcessor = () => encode(new CpuCodebooks({ ...specOf(4096), threads: 2, instructionSet }));
  async function main() {
    if (processorFirst) await onProcessor();
    const onDevice = new CudaCodebooks({ ...specOf(64), device: 0 });
    for (let i = 0; i < 8; i++) encode(onDevice);
    onProcessor();
    setTimeout(() => {
      console.log("exiting");
      process.exit();
    }, 20);
  }
  main();
`;
