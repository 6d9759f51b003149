// Measures the shapes of `rvq bench`: codes are compared first, then all contenders are timed in turns.

import { loadAddon } from "../addon.js";
import type { BackendName } from "../backend.js";
import type { Addon } from "../cpu/addon.js";
import type { CudaDevice } from "../cuda/addon.js";
import { type BackendChoiceOptions, RvqError, vectorRange } from "../index.js";
import {
  bytesMoved,
  type Contender,
  distinctRows,
  type ProcessorPeaks,
  type Roof,
  Team,
  timedCall,
  type Work,
} from "./bench-contenders.js";
import { flop, gaussian, type Shape } from "./bench-shapes.js";

/** What is measured, and by whom. */
export interface Plan {
  readonly backends: readonly BackendName[];
  /** What "cuda" computes on; null: nobody does. */
  readonly device: CudaDevice | null;
  readonly choice: BackendChoiceOptions;
  /** For each contender. */
  readonly seconds: number;
  /** Vectors of a call at most. */
  readonly vectors: number;
  readonly signal: AbortSignal;
}

export interface Result {
  readonly work: Work;
  readonly shape: string;
  readonly backend: string;
  readonly vectors: number;
  /** Median of the rounds' medians. */
  readonly ms: number;
  readonly vectorsPerSecond: number;
  /** null where nothing is multiplied. */
  readonly gflops: number | null;
  readonly gigabytesPerSecond: number;
  /** The ms that the tightest limit leaves, over `ms`; null where no limit is known. */
  readonly rooflineShare: number | null;
  readonly limit: string | null;
  /** vectorsPerSecond over those of the slowest at the same work. */
  readonly timesSlowest: number;
}

export interface Latency {
  /** A backend, or "auto". */
  readonly backend: string;
  readonly vectors: number;
  readonly medianMs: number;
  readonly p99Ms: number;
}

const rounds = 5;
/** A call on arrays of the host takes about so long. */
const callMs = 100;
/** Multiply-adds of the codes that are compared. */
const checkedMultiplyAdds = 2e9;
/** Vectors of the calls whose latency is measured. */
const fewVectors = [1, 16, 256] as const;
/** Numbers of a copy: 64 MiB, more than caches hold. */
const copiedNumbers = 2 ** 24;

/**
 * Encoding, and with `all` decoding and statistics too, by every backend of the plan.
 * @throws RvqError BACKEND_UNAVAILABLE where backends give different codes
 */
export async function measureShape(shape: Shape, plan: Plan, all: boolean): Promise<Result[]> {
  const count = Math.min(shape.count, plan.vectors);
  const data = gaussian({ ...shape, count: Math.min(count, distinctRows) });
  const range = await vectorRange(data.vectors, { dim: shape.dim });
  const teams = plan.backends.map((name) => Team.open(name, { shape, data, range }, plan.choice));
  try {
    await checkCodes(teams, shape, data.vectors.length / shape.dim);
    const results: Result[] = [];
    for (const work of all ? (["encode", "decode", "statistics"] as const) : (["encode"] as const))
      results.push(...(await measureWork(work, shape, teams, count, plan)));
    return results;
  } finally {
    for (const team of teams) team.close();
  }
}

/** The median and the 99th percentile of calls on few vectors, one after another. */
export async function measureLatency(shape: Shape, plan: Plan): Promise<Latency[]> {
  const data = gaussian({ ...shape, count: Math.max(...fewVectors) });
  const range = await vectorRange(data.vectors, { dim: shape.dim });
  const latencies: Latency[] = [];
  // What "auto" takes for so few is the processor even where there is a GPU.
  for (const name of plan.backends.includes("cuda") ? [...plan.backends, "auto" as const] : plan.backends) {
    const team = Team.open(name, { shape, data, range }, plan.choice);
    try {
      for (const vectors of fewVectors) {
        const times = await timesOf(() => timedCall(() => team.codes(vectors)), plan.seconds, plan.signal);
        times.sort((a, b) => a - b);
        const [medianMs, p99Ms] = [0.5, 0.99].map((part) => times[Math.floor(part * times.length)]);
        latencies.push({ backend: name, vectors, medianMs, p99Ms });
      }
    } finally {
      team.close();
    }
  }
  return latencies;
}

async function measureWork(
  work: Work,
  shape: Shape,
  teams: readonly Team[],
  count: number,
  plan: Plan,
): Promise<Result[]> {
  const { device, seconds, signal } = plan;
  const contenders: Contender[] = [];
  try {
    for (const team of teams) {
      signal.throwIfAborted();
      if (team.backend === "cuda" && device !== null)
        contenders.push(await team.onDevice(work, Math.min(count, residentRows(shape, device)), device));
      const rows = await rowsOfCall(team, work, count);
      const peaks = team.backend === "cpu" ? processorPeaks(plan.choice.threads) : null;
      contenders.push(await team.onHost(work, rows, peaks));
    }
    const medians = contenders.map((): number[] => []);
    for (let round = 0; round < rounds; round++) {
      for (const [i, { run }] of contenders.entries())
        medians[i].push(median(await timesOf(run, seconds / rounds, signal)));
    }
    return resultsOf(work, shape, contenders, medians.map(median));
  } finally {
    for (const { close } of contenders) close();
  }
}

/** So many vectors that a call takes about `callMs`, and `count` at most. */
async function rowsOfCall(team: Team, work: Work, count: number): Promise<number> {
  for (let rows = Math.min(count, 64); ; rows = Math.min(count, 4 * rows)) {
    const trial = await team.onHost(work, rows, null);
    await trial.run();
    const ms = await trial.run();
    if (ms < callMs / 4 && rows < count) continue;
    return Math.max(1, Math.min(count, Math.round((rows * callMs) / Math.max(ms, 0.01))));
  }
}

/** A quarter of the device's memory for the vectors leaves room for everything else. */
function residentRows({ dim }: Shape, { memoryBytes }: CudaDevice): number {
  return Math.max(1, Math.floor(memoryBytes / 4 / (4 * dim)));
}

/** Calls one after another for so long, after one that does not count. */
async function timesOf(run: () => Promise<number>, seconds: number, signal: AbortSignal): Promise<number[]> {
  await run();
  const times: number[] = [];
  const end = performance.now() + 1000 * seconds;
  do {
    signal.throwIfAborted();
    times.push(await run());
  } while (performance.now() < end);
  return times;
}

async function checkCodes(teams: readonly Team[], shape: Shape, distinct: number): Promise<void> {
  const { dim, codebookSize, stages } = shape;
  const most = Math.floor(checkedMultiplyAdds / (dim * codebookSize * stages));
  const rows = Math.max(1, Math.min(distinct, most));
  const codes: Buffer[] = [];
  for (const team of teams) {
    const { data } = await team.codes(rows);
    codes.push(Buffer.from(data.buffer, data.byteOffset, data.byteLength));
  }
  const last = teams.length - 1;
  const wrong = codes.findIndex((bytes) => !bytes.equals(codes[last]));
  if (wrong < 0) return;
  const message = `${shape.name}: "${teams[wrong].backend}" gives other codes than "${teams[last].backend}": please report this`;
  throw new RvqError("BACKEND_UNAVAILABLE", message);
}

function resultsOf(work: Work, shape: Shape, contenders: readonly Contender[], medians: readonly number[]): Result[] {
  const speeds = contenders.map(({ rows }, i) => (1000 * rows) / medians[i]);
  const slowest = Math.min(...speeds);
  return contenders.map(({ name, rows, roofs }, i) => {
    const ms = medians[i];
    const tightest = roofs.reduce<Roof | null>((top, roof) => (top === null || roof.ms > top.ms ? roof : top), null);
    return {
      work,
      shape: shape.name,
      backend: name,
      vectors: rows,
      ms,
      vectorsPerSecond: speeds[i],
      gflops: work === "encode" ? flop(shape, rows) / ms / 1e6 : null,
      gigabytesPerSecond: bytesMoved(work, shape, rows) / ms / 1e6,
      rooflineShare: tightest && tightest.ms / ms,
      limit: tightest?.limit ?? null,
      timesSlowest: speeds[i] / slowest,
    };
  });
}

/** Measured now: clocks of processors change. null without an addon. */
function processorPeaks(threads: number | undefined): ProcessorPeaks | null {
  const { addon } = loadAddon();
  if (addon === null) return null;
  const native = addon as Addon;
  const { instructionSet, processors } = native.cpuInfo();
  const options = { threads: threads ?? processors, instructionSet: process.env.RVQ_CPU || instructionSet };
  const from = new Float32Array(copiedNumbers).fill(1);
  const into = new Float32Array(copiedNumbers);
  const times = Array.from({ length: rounds }, () => {
    const start = performance.now();
    into.set(from);
    return performance.now() - start;
  });
  const copies = (2 * from.byteLength) / Math.min(...times) / 1e6;
  return { multiplyAdds: Math.max(...Array.from({ length: rounds }, () => native.fmaPeak(options))), copies };
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1];
}
