// Accumulates statistics in worker threads, each with a backend of its own: a thread gets the model, the range and its rows, and
// gives back the bytes of its statistics.

import { existsSync } from "node:fs";
import path from "node:path";
import { Worker } from "node:worker_threads";
import { packageRoot } from "./addon.js";
import type { BackendName } from "./backend.js";
import type { VectorRange } from "./stage-sums.js";

/** What a worker is started with. */
export interface WorkerShard {
  /** The model as `ResidualQuantizer.toBytes` gives it. */
  readonly model: Uint8Array;
  readonly range: VectorRange;
  readonly backend: BackendName;
  readonly threads: number;
  readonly device: number | undefined;
  /** vectors[M][D] */
  readonly vectors: Float32Array;
  /** weights[M] or null. */
  readonly weights: Float32Array | null;
}

/** The worker's file; null where it is missing, as in a bundle away from the package. */
export function workerFile(): string | null {
  const root = packageRoot();
  const file = root === null ? null : path.join(root, "dist/statistics-worker.js");
  return file !== null && existsSync(file) ? file : null;
}

/**
 * The bytes of the statistics of a shard, by a worker that lives as long as this takes. Rejects whatever goes wrong there, and with
 * the signal's reason when aborted.
 */
export function accumulateInWorker(
  file: string,
  shard: WorkerShard,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    // Without the flags of this process: they may preload what is not meant for a worker of ours.
    const worker = new Worker(file, { workerData: shard, execArgv: [], name: "rvq" });
    const abort = () => settle(() => reject(signal?.reason as Error));
    const settle = (end: () => void) => {
      signal?.removeEventListener("abort", abort);
      void worker.terminate();
      end();
    };
    worker.once("message", (bytes: Uint8Array) => settle(() => resolve(bytes)));
    worker.once("error", (error) => settle(() => reject(error)));
    worker.once("exit", () => settle(() => reject(new Error("the worker ended without an answer"))));
    signal?.addEventListener("abort", abort);
  });
}
