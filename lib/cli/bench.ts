// `rvq bench`: how fast every backend searches, decodes and sums on this machine, beside what the machine allows.

import { cpus } from "node:os";
import type { CudaDevice } from "../cuda/addon.js";
import { ResidualQuantizer, RvqError, type Status, status } from "../index.js";
import { type Latency, measureLatency, measureShape, type Plan, type Result } from "./bench-measure.js";
import { benchShapes } from "./bench-shapes.js";
import { type CommandContext, printLine } from "./context.js";
import { startProgress } from "./progress.js";
import { textTable } from "./table.js";

export interface BenchOptions {
  /** Shapes whose name contains this, in any case. */
  readonly shape: string;
  /** For each row of the table. */
  readonly seconds: number;
  /** Vectors of a call at most. */
  readonly vectors: number;
  readonly json: boolean;
}

/** Exit code 1 where backends give different codes; nothing of that shape is timed then. */
export async function benchCommand(context: CommandContext, options: BenchOptions): Promise<void> {
  const { stdout, stderr, backend: choice, signal } = context;
  const { seconds, vectors, json } = options;
  const shapes = benchShapes.filter(({ name }) => name.toLowerCase().includes(options.shape.toLowerCase()));
  if (shapes.length === 0) {
    const names = benchShapes.map(({ name }) => `"${name}"`).join(", ");
    throw new RvqError("INVALID_ARGUMENT", `--shape: expected a part of one of ${names}, got "${options.shape}"`);
  }
  const found = status();
  const device = usedDevice(found, choice.device);
  const backends = chosenBackends(found, choice);
  const plan: Plan = { backends, device, choice, seconds, vectors, signal };

  const results: Result[] = [];
  const progress = startProgress(stderr, "measuring", shapes.length + 1);
  try {
    for (const [i, shape] of shapes.entries()) {
      progress.update(i, shape.name);
      // Decoding and sums hardly depend on the codebooks: one shape will do.
      results.push(...(await measureShape(shape, plan, i === 0)));
    }
    progress.update(shapes.length, "latency");
    const latencies = await measureLatency(shapes[0], plan);
    progress.update(shapes.length + 1);
    const machine = machineLines(found, device, choice.threads);
    if (json) printLine(stdout, JSON.stringify({ version: found.version, machine, results, latencies }, null, 2));
    else printTables(context, machine, results, latencies, shapes[0].name);
  } finally {
    progress.stop();
  }
}

/** Those that run, or the one that was asked for; that it cannot run is a failure here as everywhere else. */
function chosenBackends({ backends }: Status, choice: CommandContext["backend"]): Plan["backends"] {
  const { backend = "auto" } = choice;
  if (backend === "auto") return backends.filter(({ available }) => available).map(({ name }) => name);
  ResidualQuantizer.fromCodebooks([Float32Array.of(0)], { dim: 1, ...choice }).dispose();
  return [backend];
}

/** The device that "cuda" takes; null where it does not run. */
function usedDevice({ native, backends }: Status, wanted: number | undefined): CudaDevice | null {
  const cuda = backends.find(({ name }) => name === "cuda");
  if (native === null || cuda?.available !== true) return null;
  const { devices } = native.cuda;
  return devices[wanted ?? devices.findIndex(({ name }) => cuda.description.includes(name))] ?? null;
}

function machineLines({ version, node, native }: Status, device: CudaDevice | null, threads?: number): string[] {
  const processors = threads ?? native?.processors ?? 1;
  const lines = [
    `rvq ${version}, Node ${node}, ${cpus()[0]?.model.trim() || "unknown processor"}, ${processors} threads`,
  ];
  if (device !== null) {
    const { name, computeCapability, multiprocessors, clockMhz, memoryGbps } = device;
    const speeds = `${multiprocessors} multiprocessors, ${clockMhz.toFixed(0)} MHz, ${memoryGbps.toFixed(0)} GB/s`;
    lines.push(`${name}: compute capability ${computeCapability}, ${speeds}`);
  }
  return lines;
}

function printTables(
  { stdout }: CommandContext,
  machine: readonly string[],
  results: readonly Result[],
  latencies: readonly Latency[],
  latencyShape: string,
): void {
  for (const line of machine) printLine(stdout, line);
  const compared = new Set(results.map(({ backend }) => backend)).size > 1;
  printLine(stdout, compared ? "The codes of all backends were compared: they are the same.\n" : "");
  const heading = ["", "shape", "backend", "vectors", "ms", "vectors/s", "GFLOP/s", "GB/s", "roofline", "limit", "×"];
  const rows = results.map((one) => [
    one.work,
    one.shape,
    one.backend,
    String(one.vectors),
    digits(one.ms),
    Math.round(one.vectorsPerSecond).toLocaleString("en-US"),
    one.gflops === null ? "" : one.gflops.toFixed(0),
    digits(one.gigabytesPerSecond),
    one.rooflineShare === null ? "" : `${(100 * one.rooflineShare).toFixed(0)} %`,
    one.limit ?? "",
    digits(one.timesSlowest),
  ]);
  printLine(stdout, textTable([heading, ...rows], new Set([3, 4, 5, 6, 7, 8, 10])));
  printLine(stdout, `\nLatency of await encode(…), ${latencyShape}`);
  const waits = latencies.map((one) => [
    one.backend,
    String(one.vectors),
    `${(1000 * one.medianMs).toFixed(0)} µs`,
    `${(1000 * one.p99Ms).toFixed(0)} µs`,
  ]);
  printLine(stdout, textTable([["backend", "vectors", "median", "99th percentile"], ...waits], new Set([1, 2, 3])));
  printLine(stdout, `\n${legend}`);
}

const legend = `roofline: how much of the tightest known limit is used. On a GPU: float16 products on the tensor cores, four operations of the argmin for
each vector and codeword, or the memory, by the card's multiprocessors, clock and bus. On processors: float32 multiply-adds
in registers or copies in memory, measured beside it; screens in integers go beyond 100 %. ×: times the slowest at the same work.`;

function digits(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
