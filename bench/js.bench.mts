// The two forms of the `js` backend on one core, beside the processor's own SIMD128 peak in the same runtime; and two
// worker threads beside one thread, by the clock.
//
//   npm run bench -- js [--shape=D128] [--seconds=1] [--json=file]

import { openJs } from "../lib/js/backend.js";
import {
  emitModule,
  FunctionBuilder,
  f32x4RelaxedMultiplyAdd,
  i32,
  repeatWhile,
  subtract,
  v128Load,
  v128Store,
} from "../lib/js/wasm/emitter.js";
import { multiplyThenAdd } from "../lib/js/wasm/kernels.js";
import { ResidualQuantizer } from "../lib/residual-quantizer.js";
import { makeData } from "../test/contract/families.js";
import { flag, machine, printTable, saveJson } from "./results.js";

const shapes = [
  { name: "D128 K1024", count: 4096, dim: 128, numCodewords: 1024 },
  { name: "D8 K1024", count: 32_768, dim: 8, numCodewords: 1024 },
  { name: "D160 K256", count: 8192, dim: 160, numCodewords: 256 },
  { name: "D64 K4096", count: 2048, dim: 64, numCodewords: 4096 },
  { name: "D768 K1024", count: 512, dim: 768, numCodewords: 1024 },
  { name: "D96 K65536", count: 128, dim: 96, numCodewords: 65_536 },
  { name: "D128 K1024, one vector", count: 1, dim: 128, numCodewords: 1024 },
];
/** The plain loops get fewer rows of the same shape. */
const plainMultiplyAdds = 1e8;
const rounds = 7;
const seconds = Number(flag("seconds") ?? 1);

const peaks = { "multiply, add": peak(false), fused: peak(true) };
const rows: Record<string, string | number>[] = [];
for (const shape of shapes.filter(({ name }) => name.includes(flag("shape") ?? ""))) {
  const { vectors, codebook } = makeData("gaussian", shape, 1);
  const { dim, numCodewords } = shape;
  const contenders = (["wasm", "plain"] as const).map((form) => {
    process.env.RVQ_JS = form;
    const backend = openJs();
    const fewer = form === "plain" ? Math.ceil(plainMultiplyAdds / (dim * numCodewords)) : shape.count;
    const count = Math.min(shape.count, fewer);
    const prepared = backend.prepare({ dim, metric: "l2", weights: null, codebooks: [codebook] });
    const codes = new Uint32Array(count);
    const request = { vectors: vectors.subarray(0, count * dim), count, stages: 1, codes };
    return { form: backend.description, count, codes, times: [] as number[], run: () => prepared.encodeSync(request) };
  });

  // Checked, then timed in turns against drift.
  for (const { run } of contenders) run();
  const [fast, plain] = contenders;
  if (plain.codes.some((code, n) => code !== fast.codes[n])) throw new Error(`${shape.name}: the forms differ`);
  for (let round = 0; round < rounds; round++) {
    for (const { run, times } of contenders) {
      const end = performance.now() + (1000 * seconds) / rounds / contenders.length;
      do times.push(cpuMs(run));
      while (performance.now() < end);
    }
  }

  for (const { form, count, times } of contenders) {
    const ms = times.sort((a, b) => a - b)[times.length >> 1];
    const gflops = (2 * count * dim * numCodewords) / ms / 1e6;
    const beside = form.startsWith("plain") ? 0 : form.includes("fused") ? peaks.fused : peaks["multiply, add"];
    rows.push({
      shape: shape.name,
      form,
      rows: count,
      "median µs/vector": (1000 * ms) / count,
      "GFLOP/s": gflops,
      "% of its peak": beside > 0 ? Math.round((100 * gflops) / beside) : "",
    });
  }
}
printTable(`The js backend, one core, processor time, Gaussian data, ${machine()}`, rows);
const list = Object.entries(peaks).map(
  ([name, gflops]) => `${name} ${gflops > 0 ? gflops.toFixed(1) : "not available"}`,
);
console.log(`\nPeak of WebAssembly SIMD here, GFLOP/s: ${list.join("; ")}`);
const threadRows = await measureThreads();
printTable(`One call of encode on one thread and on two worker threads, ${machine()}`, threadRows);
saveJson("js", [...rows, ...threadRows]);

/** Milliseconds by the clock, medians of calls in turns; their codes must be the same. */
async function measureThreads(): Promise<Record<string, string | number>[]> {
  const large = [
    { name: "D128 K1024", count: 65_536, dim: 128, numCodewords: 1024 },
    { name: "D8 K1024", count: 262_144, dim: 8, numCodewords: 1024 },
  ].filter(({ name }) => name.includes(flag("shape") ?? ""));
  const results: Record<string, string | number>[] = [];
  for (const form of ["wasm", "plain"] as const) {
    process.env.RVQ_JS = form;
    for (const { name, count: all, dim, numCodewords } of large) {
      const count = form === "plain" ? Math.ceil(all / 10) : all;
      const { vectors, codebook } = makeData("gaussian", { count, dim, numCodewords }, 1);
      const contenders = [1, 2].map((threads) => ({
        rq: ResidualQuantizer.fromCodebooks([codebook], { dim, backend: "js", threads }),
        times: [] as number[],
      }));
      const expected = await contenders[0].rq.encode(vectors);
      for (let round = 0; round < 6; round++) {
        for (const { rq, times } of contenders) {
          const start = performance.now();
          const codes = await rq.encode(vectors);
          // The first round starts the workers.
          if (round > 0) times.push(performance.now() - start);
          if (codes.data.some((code, n) => code !== expected.data[n])) throw new Error(`${name}: the threads differ`);
        }
      }
      const [one, two] = contenders.map(({ times }) => times.sort((a, b) => a - b)[times.length >> 1]);
      const gflops = (2 * count * dim * numCodewords) / two / 1e6;
      results.push({
        shape: name,
        form,
        rows: count,
        "1 thread, ms": one,
        "2 threads, ms": two,
        "1 / 2": one / two,
        "GFLOP/s, 2 threads": gflops,
      });
      for (const { rq } of contenders) rq.dispose();
    }
  }
  return results;
}

/** Processor time of a call, so that a busy machine does not count; short calls are repeated. */
function cpuMs(run: () => void): number {
  const shortest = 10;
  const before = process.cpuUsage();
  const start = performance.now();
  let calls = 0;
  do {
    run();
    calls++;
  } while (performance.now() - start < shortest);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000 / calls;
}

/** GFLOP/s of thirteen independent chains in registers, the best of many; 0 where this runtime cannot run it. */
function peak(fused: boolean): number {
  const chains = 13;
  const turns = 1_000_000;
  const f = new FunctionBuilder("peak");
  const { left } = f.parameters("left");
  const sums = f.localArray("v128", chains);
  const factor = f.local("v128");
  const multiplyAdd = fused ? f32x4RelaxedMultiplyAdd : multiplyThenAdd;
  f.setBody(
    repeatWhile(
      left.get,
      ...sums.map((sum) => sum.set(multiplyAdd(sum.get, factor.get, sum.get))),
      left.set(subtract(left.get, i32(1))),
    ),
    ...sums.map((sum, i) => v128Store(i32(16 * i), sum.get)),
    factor.set(v128Load(i32(0))),
  );
  const { WebAssembly } = globalThis as unknown as {
    WebAssembly: {
      Module: new (bytes: Uint8Array) => object;
      Instance: new (module: object) => { exports: { peak(turns: number): void } };
    };
  };
  try {
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(emitModule([f], 1, 1)));
    let best = Infinity;
    for (let i = 0; i < 20; i++)
      best = Math.min(
        best,
        cpuMs(() => exports.peak(turns)),
      );
    return (2 * 4 * chains * turns) / best / 1e6;
  } catch {
    return 0;
  }
}
