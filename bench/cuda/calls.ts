// Calls on arrays of the host, as a service makes them: throughput beside the copy bandwidth, latency, and k-means; and what
// the kernels of decode and of statistics take on arrays of the device.

import { loadAddon } from "../../lib/addon.js";
import { newCodeArray } from "../../lib/code-array.js";
import type { Addon } from "../../lib/cpu/addon.js";
import { ResidualQuantizer, vectorRange } from "../../lib/index.js";
import { openBackend } from "../../lib/open-backend.js";
import { median, medianMs } from "../interleave.js";
import type { Row } from "../results.js";
import { measureFewRows, searchForms, withSearchForm } from "./few-rows.js";
import { measureBus, measureHostToHost, measureStaging } from "./host-to-host.js";
import type { Copies, PeerProcess } from "./process.js";

const dim = 128;
const size = 1024;
const stages = 8;
const count = 2 ** 20;
const kmeansCount = 262_144;
const distinct = 2 ** 16;
const turns = 5;
const lloydIterations = 4;

/** `bytes` that are moved and the bandwidth in GB/s that limits them, where one does. */
type AddRow = (what: string, ms: number, bytes: number | null, limit: number | null, remark?: string) => void;

export interface Surroundings {
  readonly peers: PeerProcess;
  readonly copies: Copies;
  /** Does a part where there is time for it; what goes wrong there is told, and is no reason to leave out the others. */
  readonly part: (name: string, work: () => Promise<void>) => Promise<void>;
}

/** Rows of different kinds, with the same keys. */
export async function measureCalls({ peers, copies, part }: Surroundings): Promise<Row[]> {
  const opened = await peers.open({ dim, size, stages, rows: kmeansCount, distinct, forms: 1, compile: false });
  const { codebooks } = opened;
  const vectors = new Float32Array(count * dim);
  for (let start = 0; start < vectors.length; start += opened.vectors.length) vectors.set(opened.vectors, start);
  const rows: Row[] = [];
  const row: AddRow = (what, ms, bytes, limit, remark = "") => {
    const rate = bytes === null ? null : bytes / ms / 1e6;
    const share = rate === null || limit === null ? "" : (100 * rate) / limit;
    rows.push({ what, ms, "GB/s": rate ?? "", "of the copy bandwidth %": share, remark });
  };

  const rq = ResidualQuantizer.fromCodebooks(codebooks, { dim, backend: "cuda" });
  const auto = ResidualQuantizer.fromCodebooks(codebooks, { dim });
  const bytes = vectors.byteLength;
  await part("host to host", () => measureStagedCalls(rq, vectors, copies, row));
  await part("on the device", () => measureResident(rq, vectors, copies, row));

  // The latency of a call that a service awaits, by the device, in either form, and by what "auto" takes for so few.
  for (const few of [1, 4, 16, 64, 256]) {
    const rowsOfCall = vectors.subarray(0, few * dim);
    const measured = async (name: string, encode: () => Promise<unknown>) => {
      const { middle, tail } = await latency(encode);
      const target = few === 1 && name === "cuda" ? ", target ≤ 0.15 ms" : "";
      const remark = `99th percentile ${(1000 * tail).toFixed(0)} µs${target}`;
      row(`encode, ${few} vectors, ${stages} stages, ${name}`, middle, null, null, remark);
    };
    for (const form of searchForms) {
      const name = form === undefined ? "cuda" : `cuda, ${form}`;
      await part("latency", () => withSearchForm(form, () => measured(name, () => rq.encode(rowsOfCall))));
    }
    await part("latency", () => measured("auto", () => auto.encode(rowsOfCall)));
  }
  await part("few vectors", () => measureFewRows((what, ms, remark) => row(what, ms, null, null, remark)));

  await part("statistics", async () => {
    row(`statistics, ${count} vectors, host to host`, await statistics(vectors), bytes, copies.toDevice);
  });
  await part("k-means", async () => {
    const some = vectors.subarray(0, kmeansCount * dim);
    row(`k-means iteration, ${kmeansCount} vectors`, await lloyd(some, codebooks[0]), null, null);
    const peerMs = await peers.kmeans(kmeansCount);
    row(`k-means iteration, ${kmeansCount} vectors, PyTorch on the device`, peerMs, null, null);
    row(`train, one stage, one iteration, ${kmeansCount} vectors`, await oneIteration(some), null, null, "k-means++");
  });
  auto.dispose();
  rq.dispose();
  return rows;
}

/** The bus as PyTorch measures it is the limit of all of them; copies of ours over it and the copy before it stand beside. */
async function measureStagedCalls(rq: ResidualQuantizer, vectors: Float32Array, copies: Copies, row: AddRow) {
  const bytes = vectors.byteLength;
  const bus = await measureBus();
  row("copies of pinned memory to the device", bytes / bus.toDevice / 1e6, bytes, copies.toDevice);
  row("copies of pinned memory from the device", bytes / bus.toHost / 1e6, bytes, copies.toHost);
  const { processors } = (loadAddon().addon as Addon).cpuInfo();
  for (const threads of new Set([1, 2, 4, 8, processors])) {
    if (threads > processors) continue;
    const rate = await measureStaging(vectors, threads);
    row(`staging alone, ${threads} threads`, bytes / rate / 1e6, bytes, copies.toDevice, "into pinned memory");
  }
  await measureHostToHost(rq, vectors, copies, row);
}

/** Kernels alone: decode, and both halves of a k-means iteration. */
async function measureResident(rq: ResidualQuantizer, vectors: Float32Array, copies: Copies, row: AddRow) {
  const { device } = rq;
  // The rows repeat: the magnitudes of the distinct ones are those of all.
  const range = { ...(await vectorRange(vectors.subarray(0, distinct * dim), { dim })), rows: count };
  const uploaded = await device.upload(vectors);
  const codes = await device.encode(uploaded);
  const decodeMs = await repeated(async () => {
    const decoded = await device.decode(codes);
    decoded.dispose();
    return decoded.kernelMs;
  });
  const sumMs = await repeated(async () => (await device.accumulate(uploaded, codes, { range })).kernelMs);
  const bytes = vectors.byteLength;
  row(`decode, ${count} vectors, ${stages} stages, on the device`, decodeMs, bytes, copies.device);
  row(`statistics, ${count} vectors, on the device`, sumMs, bytes, copies.device);
  for (const array of [codes, uploaded]) array.dispose();

  const some = await device.upload(vectors.subarray(0, kmeansCount * dim));
  const iterationMs = await repeated(async () => {
    const nearest = await device.encode(some, { stages: 1 });
    const { kernelMs } = await device.accumulate(some, nearest, { range });
    nearest.dispose();
    return nearest.kernelMs + kernelMs;
  });
  row(`k-means iteration, ${kmeansCount} vectors, on the device`, iterationMs, null, null, "search and sums");
  some.dispose();
}

/** Median of what a call says that it took, after one that does not count. */
async function repeated(run: () => Promise<number>): Promise<number> {
  await run();
  const times: number[] = [];
  for (let turn = 0; turn < turns; turn++) times.push(await run());
  return median(times);
}

/** Sums and counts of a first stage; the codes are any. */
async function statistics(vectors: Float32Array): Promise<number> {
  const backend = openBackend("cuda", undefined);
  const codes = newCodeArray(count, [size]).map((_, row) => (row * 7919) % size);
  const gridExponents = new Int32Array(dim).fill(-25);
  const sums = { counts: new Float64Array(size), sums: new Float64Array(size * dim) };
  return medianMs(() => backend.accumulate({ vectors, count, dim, codes, numCodewords: size, gridExponents, ...sums }));
}

/** The time between two reports of progress, which come once an iteration. */
async function lloyd(vectors: Float32Array, codebook: Float32Array): Promise<number> {
  const reports: number[] = [];
  const rq = await ResidualQuantizer.train(vectors, {
    ...{ dim, codebookSize: size, stages: 1, init: [codebook], minClusterSize: 1, iterations: lloydIterations },
    backend: "cuda",
    onProgress: () => reports.push(performance.now()),
  });
  rq.dispose();
  return (reports[reports.length - 1] - reports[0]) / (reports.length - 1);
}

/** Copying and checking the vectors, seeds from a sample of 65,536, and an iteration. */
function oneIteration(vectors: Float32Array): Promise<number> {
  return medianMs(async () => {
    const rq = await ResidualQuantizer.train(vectors, {
      dim,
      codebookSize: size,
      stages: 1,
      iterations: 1,
      backend: "cuda",
    });
    rq.dispose();
  });
}

/** Half a second of calls, one after another. */
async function latency(run: () => Promise<unknown>): Promise<{ middle: number; tail: number }> {
  const times: number[] = [];
  for (let i = 0; i < 20; i++) await run();
  for (const end = performance.now() + 500; performance.now() < end; ) {
    const start = performance.now();
    await run();
    times.push(performance.now() - start);
  }
  times.sort((a, b) => a - b);
  return { middle: times[times.length >> 1], tail: times[Math.floor(0.99 * times.length)] };
}
