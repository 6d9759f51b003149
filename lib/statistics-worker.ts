// A worker thread of lib/statistics-workers.ts: accumulates one shard and ends.

import { parentPort, workerData } from "node:worker_threads";
import { Statistics } from "./mergeable-statistics.js";
import { ResidualQuantizer } from "./residual-quantizer.js";
import type { WorkerShard } from "./statistics-workers.js";

async function accumulate({ model, range, backend, threads, device, vectors, weights }: WorkerShard): Promise<void> {
  const options = { backend, threads, device };
  const statistics = await Statistics.start(ResidualQuantizer.fromBytes(model, options), range, options);
  await statistics.add(vectors, weights === null ? {} : { weights });
  parentPort?.postMessage(statistics.toBytes());
}

// A rejection is an error of the worker, which the other side hears of.
void accumulate(workerData as WorkerShard);
