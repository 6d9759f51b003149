// The copies between arrays of the host and pinned memory, by one thread and several, and as they were; and with a GPU whole calls
// from such arrays beside its bus.
//
//   npm run bench -- staging [--count=1048576] [--rounds=9] [--json=file] [--save]
//
// "two copies" is how it was: the JavaScript thread copies chunks of 16 MiB, another thread copies them on, each by memcpy, both at a
// time. Times are medians of rounds in which all alternate, of vectors[count][128].

import { Worker } from "node:worker_threads";
import { loadAddon } from "../lib/addon.js";
import type { Addon } from "../lib/cpu/addon.js";
import { roomBytes } from "../lib/cuda/staging.js";
import { ResidualQuantizer, status } from "../lib/index.js";
import { Random } from "../lib/random.js";
import { measureBus, measureHostToHost } from "./cuda/host-to-host.js";
import { median } from "./interleave.js";
import { flag, machine, printTable, type Row, saveJson } from "./results.js";

const dim = 128;
const chunks = 3;
const count = Number(flag("count") ?? 2 ** 20);
const rounds = Number(flag("rounds") ?? 9);
const { copyElements, cpuInfo } = loadAddon().addon as Addon;

/** Copies the chunks that it is told of, in turn, to memory of its own: control[0] have been written, control[1] copied. */
const copier = `
  const { parentPort, workerData } = require("node:worker_threads");
  const control = new Int32Array(workerData.control);
  const sources = workerData.buffers.map((buffer) => new Float32Array(buffer));
  const targets = sources.map((source) => new Float32Array(source.length).fill(1));
  parentPort.postMessage("ready");
  for (let done = 0; ; done++) {
    Atomics.wait(control, 0, done);
    targets[done % targets.length].set(sources[done % sources.length]);
    Atomics.store(control, 1, done + 1);
  }
`;

const random = new Random(1);
const vectors = new Float32Array(count * dim).map(() => random.fraction());
const rows: Row[] = [];
await measureCopies();
const cuda = status().backends.find(({ name }) => name === "cuda");
if (cuda?.available) await measureCalls(cuda.description);
else console.log(`\nbench: no calls: ${cuda?.reason}`);
saveJson("staging", rows);

async function measureCopies() {
  const buffers = Array.from({ length: chunks }, () => new SharedArrayBuffer(roomBytes));
  const control = new Int32Array(new SharedArrayBuffer(8));
  const worker = new Worker(copier, { eval: true, workerData: { buffers, control: control.buffer } });
  await new Promise((resolve) => worker.once("message", resolve));
  const staged = buffers.map((buffer) => new Float32Array(buffer).fill(1));
  const rooms = Array.from({ length: chunks }, () => new Float32Array(roomBytes / 4).fill(1));
  let written = 0;
  const twoCopies = () => {
    forChunks((source) => {
      while (written - Atomics.load(control, 1) === chunks);
      staged[written % chunks].set(source);
      Atomics.store(control, 0, ++written);
      Atomics.notify(control, 0);
    });
    while (Atomics.load(control, 1) < written);
  };
  const oneCopy = (threads: number) => () =>
    forChunks((source, i) => copyElements({ source, target: rooms[i % chunks].subarray(0, source.length), threads }));
  const plainCopy = () => forChunks((source, i) => rooms[i % chunks].set(source));

  const contenders = [
    { how: "two copies, one thread each", threads: 2, run: twoCopies },
    { how: "the first of them alone", threads: 1, run: plainCopy },
    ...threadCounts().map((threads) => ({ how: "one copy", threads, run: oneCopy(threads) })),
  ].map((contender) => ({ ...contender, times: [] as number[] }));
  for (let round = -1; round < rounds; round++) {
    for (const { run, times } of contenders) {
      const start = performance.now();
      run();
      if (round >= 0) times.push(performance.now() - start);
    }
  }
  await worker.terminate();
  for (const { how, threads, times } of contenders) {
    const ms = median(times);
    const spread = (100 * (Math.max(...times) - Math.min(...times))) / ms;
    rows.push({ what: how, threads, ms, "GB/s": vectors.byteLength / ms / 1e6, "spread %": spread });
  }
  printTable(`Staging ${count} vectors, D ${dim}, medians of ${rounds} rounds, ${machine()}`, rows);
}

/** 1, 2, 4 … and all. */
function threadCounts(): number[] {
  const { processors } = cpuInfo();
  const counts: number[] = [];
  for (let threads = 1; threads < processors; threads *= 2) counts.push(threads);
  return [...counts, processors];
}

function forChunks(work: (source: Float32Array, index: number) => void) {
  const length = roomBytes / Float32Array.BYTES_PER_ELEMENT;
  for (let start = 0, i = 0; start < vectors.length; start += length, i++) {
    work(vectors.subarray(start, start + length), i);
  }
}

async function measureCalls(device: string) {
  const codebooks = Array.from({ length: 8 }, (_, stage) => {
    const seeded = new Random(stage + 2);
    return Float32Array.from({ length: 1024 * dim }, () => (seeded.fraction() - 0.5) / 2 ** stage);
  });
  const rq = ResidualQuantizer.fromCodebooks(codebooks, { dim, backend: "cuda" });
  const bus = await measureBus();
  const calls: Row[] = [];
  const bytes = vectors.byteLength;
  const add = (what: string, ms: number, moved: number, limit: number, remark = "") => {
    const rate = moved / ms / 1e6;
    calls.push({ what, ms, "GB/s": rate, "bus GB/s": limit, "of the bus %": (100 * rate) / limit, remark });
  };
  await measureHostToHost(rq, vectors, bus, add);
  rq.dispose();
  const best = Math.max(...rows.map((row) => Number(row["GB/s"])));
  add(
    "staging alone, all threads",
    bytes / best / 1e6,
    bytes,
    bus.toDevice,
    "the bound of calls where it is below 100 %",
  );
  printTable(`Calls from arrays of the host on ${device}, medians, ${machine()}`, calls);
  rows.push(...calls);
}
