// What goes wrong on a device, and what is left over on it, in the build that emulates one: each case in a process of its own, with
// as many devices and as much memory as it wants.

import { spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { loadAddon } from "../lib/addon.js";
import type { CudaAddon } from "../lib/cuda/addon.js";

const { file, addon } = loadAddon();
const emulated = (addon as CudaAddon | null)?.cudaTestFail !== undefined;

/** Codebooks, rows and arrays on the device, for the programs below. */
const prelude = `
  const { CudaCodebooks, CudaMemory, ...cuda } = require(${JSON.stringify(file)});
  const dim = 16;
  const codebook = (numCodewords, width = dim) => new Float32Array(numCodewords * width).map((_, i) => Math.sin(i));
  const open = (device) => new CudaCodebooks({ dim, metric: "l2", weights: null, codebooks: [codebook(64)], device });
  const rows = (count) => ({ vectors: codebook(count), count, stages: 1, codes: new Uint16Array(count) });
  async function outcome(work) {
    try {
      await work();
      return "passed";
    } catch (error) {
      return error.code ?? String(error);
    }
  }
  /** Sums of so many codewords of 1024 dimensions, by one row. */
  async function accumulate(numCodewords) {
    const vectors = new CudaMemory({ device: 0, bytes: 4096 });
    const codes = new CudaMemory({ device: 0, bytes: 2 });
    await vectors.upload({ source: new Float32Array(1024).fill(3), offset: 0 });
    await codes.upload({ source: Uint16Array.of(5), offset: 0 });
    const sums = new Float64Array(numCodewords * 1024);
    const request = {
      vectors, codes, count: 1, dim: 1024, codeStages: 1, stage: 0, numCodewords, wide: false,
      gridExponents: new Int32Array(1024).fill(-20), counts: new Float64Array(numCodewords), sums,
    };
    await cuda.cudaAccumulateResident(request, { device: 0 });
    if (sums[5 * 1024 + 7] !== 3 * 2 ** 20) throw new Error("wrong sums");
    vectors.dispose();
    codes.dispose();
  }
`;

/** What the program's `main` returns. */
function run(main: string, settings: NodeJS.ProcessEnv = {}): unknown {
  const source = `${prelude} (async () => { ${main} })().then((value) => console.log(JSON.stringify(value)));`;
  const env = { ...process.env, ...settings };
  const child = spawnSync(process.execPath, ["--expose-gc", "-e", source], { env, encoding: "utf8" });
  expect(child.stderr).toBe("");
  expect(child.status).toBe(0);
  return JSON.parse(child.stdout);
}

describe.skipIf(!emulated)("the device of a call", () => {
  const everything = `
    cuda.cudaOpen({ device: 1 });
    const core = open(1);
    const request = rows(3000);
    await core.encode(request);
    core.encodeSync(rows(1));
    await core.decode({ ...request, codeStages: 1 });
    const memory = new CudaMemory({ device: 1, bytes: 1000 });
    await memory.upload({ source: codebook(10), offset: 0 });
    let room = await cuda.cudaStagingRoom({ device: 1, bytes: 5000 });
    room = null;
    for (let i = 0; i < 5; i++) {
      gc();
      await new Promise(setImmediate);
    }
    if (cuda.cudaTestRooms().bytes !== 0) throw new Error("the room is still there");
    memory.dispose();
    core.dispose();
    open(1).encodeSync(rows(1));
  `;

  it("is the only one that gets a context", () => {
    const program = `${everything} return cuda.cudaTestRuntime().contexts;`;
    expect(run(program, { RVQ_EMULATED_DEVICES: "2" })).toEqual([1]);
  });

  it("works where the first device is another program's", () => {
    const program = `
      cuda.cudaTestFail({ call: "cudaSetDevice", device: 0, error: 46, times: 1e6 });
      ${everything}
      return [cuda.cudaLost({ device: 1 }), await outcome(() => cuda.cudaOpen({ device: 0 }))];
    `;
    expect(run(program, { RVQ_EMULATED_DEVICES: "2" })).toEqual([false, "CUDA"]);
  });

  it("leaves the thread the device that it had, where that has a context", () => {
    const program = `
      cuda.cudaOpen({ device: 0 });
      ${everything}
      return cuda.cudaTestRuntime();
    `;
    expect(run(program, { RVQ_EMULATED_DEVICES: "2" })).toMatchObject({ contexts: [0, 1], currentDevice: 0 });
  });

  it("is not blamed for what failed when something was freed", () => {
    const program = `
      const core = open(0);
      const outcomes = [];
      for (const error of [1, 46, 700]) {
        cuda.cudaTestFail({ call: "cudaFree", error, times: 1 });
        open(0).dispose();
        outcomes.push(await outcome(() => core.encodeSync(rows(1))));
      }
      return [...outcomes, cuda.cudaLost({ device: 0 })];
    `;
    expect(run(program)).toEqual(["passed", "passed", "passed", false]);
  });
});

describe.skipIf(!emulated)("an error of CUDA's runtime", () => {
  /** What comes of a copy that fails so, of the next call, and whether the device then counts as lost. */
  function outcomes(errors: readonly number[]) {
    const program = `
      const results = [];
      for (const [device, error] of ${JSON.stringify(errors)}.entries()) {
        const core = open(device);
        cuda.cudaTestFail({ call: "cudaMemcpyAsync", device, error, times: 1 });
        const first = await outcome(() => core.encode(rows(100)));
        const next = await outcome(() => core.encode(rows(100)));
        results.push([first, next, cuda.cudaLost({ device })].join());
      }
      return results;
    `;
    const all = run(program, { RVQ_EMULATED_DEVICES: String(errors.length) }) as string[];
    return Object.fromEntries(errors.map((error, i) => [error, all[i]]));
  }

  it("means a lost device where the process must be started again, as CUDA's header has it or experience", () => {
    const lost = [214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 810, 911, 999];
    expect(outcomes(lost)).toEqual(Object.fromEntries(lost.map((error) => [error, "DEVICE_LOST,DEVICE_LOST,true"])));
  });

  it("means the call alone where it may pass", () => {
    const others = [1, 46, 101, 400, 701, 806, 807];
    expect(outcomes(others)).toEqual(Object.fromEntries(others.map((error) => [error, "CUDA,passed,false"])));
  });

  it("is that a device is busy now, and not for good", () => {
    const program = `
      cuda.cudaTestFail({ call: "cudaSetDevice", device: 1, error: 46, times: 1 });
      return [await outcome(() => cuda.cudaOpen({ device: 1 })), await outcome(() => cuda.cudaOpen({ device: 1 }))];
    `;
    expect(run(program, { RVQ_EMULATED_DEVICES: "2" })).toEqual(["CUDA", "passed"]);
  });
});

describe.skipIf(!emulated)("codewords that have changed on a device", () => {
  it("are packed by the next search that comes to it, whatever fails before or has no rows", () => {
    const program = `
      const count = 300;
      const core = open(0);
      const memory = { vectors: new CudaMemory({ device: 0, bytes: 64 * count }), codes: new CudaMemory({ device: 0, bytes: 2 * count }) };
      const { vectors, codes: expected } = rows(count);
      await memory.vectors.upload({ source: vectors, offset: 0 });
      const other = codebook(64).map((x) => x * x - 0.5);
      await core.loadCodewordsResident({ stage: 0, source: other });
      const search = (rows) => outcome(() => core.encodeResident({ ...memory, count: rows, stages: 1, wide: false }));
      cuda.cudaTestFail({ call: "cudaMemcpyAsync", device: 0, error: 1, times: 1 });
      const outcomes = [await search(0), await search(count), await search(0), await search(count)];
      const codes = new Uint16Array(count);
      await memory.codes.download({ target: codes, offset: 0 });
      const fresh = new CudaCodebooks({ dim, metric: "l2", weights: null, codebooks: [other], device: 0 });
      await fresh.encode({ vectors, count, stages: 1, codes: expected });
      return [outcomes, codes.every((code, n) => code === expected[n])];
    `;
    expect(run(program)).toEqual([["passed", "CUDA", "passed", "passed"], true]);
  });
});

describe.skipIf(!emulated)("memory of a device", () => {
  const MiB = 2 ** 20;

  it("is kept for one large call, and 64 MiB a stream beside it, however many large calls there were", () => {
    const program = `
      const request = rows(20000);
      const core = open(0);
      await core.encode(request);
      const before = cuda.cudaTestRuntime().deviceBytes;
      const after = [];
      for (let round = 0; round < 3; round++) {
        await Promise.all([accumulate(10000), accumulate(10001), accumulate(10002)]);
        await Promise.all([core.encode(request), core.encode(request)]);
        after.push(cuda.cudaTestRuntime().deviceBytes - before);
      }
      await accumulate(45000);
      return [...after, cuda.cudaTestRuntime().deviceBytes - before];
    `;
    const [first, ...later] = run(program) as number[];
    // The sums of one of the three: 78 MiB.
    expect(first).toBeGreaterThan(75 * MiB);
    expect(first).toBeLessThan(110 * MiB);
    for (const bytes of later.slice(0, -1)) expect(bytes).toBeLessThan(first + 10 * MiB);
    // 352 MiB are more than is kept.
    expect(later.at(-1)).toBeLessThan(first + 10 * MiB);
  });

  it("that is kept makes room for codebooks and sums", () => {
    const program = `
      await accumulate(7000);
      const kept = cuda.cudaTestRuntime().deviceBytes;
      const prepare = () =>
        new CudaCodebooks({ dim: 1024, metric: "l2", weights: null, codebooks: [codebook(5000, 1024)], device: 0 });
      return [kept, await outcome(prepare), cuda.cudaTestRuntime().deviceBytes];
    `;
    const [kept, prepared, bytes] = run(program, { RVQ_EMULATED_MEMORY: String(80 * MiB) }) as number[];
    expect(kept).toBeGreaterThan(54 * MiB);
    expect(prepared).toBe("passed");
    expect(bytes).toBeGreaterThan(29 * MiB);
  });

  it("that is kept makes room for a kernel's code, which is loaded when it is first started", () => {
    const program = (call: string, times: number) => `
      const core = open(0);
      // Memory for large calls, which small ones leave alone.
      await accumulate(9000);
      const before = cuda.cudaTestRuntime().deviceBytes;
      cuda.cudaTestFail({ call: ${JSON.stringify(call)}, error: 2, times: ${times} });
      const first = await outcome(() => core.encode(rows(100)));
      const isFreed = cuda.cudaTestRuntime().deviceBytes < before;
      return [first, isFreed, await outcome(() => core.encode(rows(100))), cuda.cudaLost({ device: 0 })];
    `;
    for (const call of ["cudaLaunchKernelExC", "cudaFuncSetAttribute"]) {
      expect(run(program(call, 1)), call).toEqual(["passed", true, "passed", false]);
      expect(run(program(call, 2)), call).toEqual(["OUT_OF_MEMORY", true, "passed", false]);
    }
  });
});

describe.skipIf(!emulated)("the end of the process", () => {
  it("may come in the midst of calls", () => {
    const program = `
      cuda.cudaTestLimits({ pieceRows: 64, memoryBytes: 0 });
      const core = open(0);
      for (let i = 0; i < 4; i++) core.encode(rows(20000));
      await new Promise((resolve) => setTimeout(resolve, 30));
      console.log('"ended"');
      process.exit();
    `;
    // Memory that has been freed holds nothing that anybody could go on with.
    for (let round = 0; round < 4; round++) expect(run(program, { MALLOC_PERTURB_: "165" })).toBe("ended");
  });
});
