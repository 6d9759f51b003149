// The rows of one call of Statistics.add: cut into shards, and each summed on this thread or in a worker.

import { availableParallelism } from "node:os";
import type { Backend, BadInput, CodebookSpec } from "./backend.js";
import { modelToBytes } from "./model-file.js";
import { addRows, emptySums, type StageSums, type VectorRange } from "./stage-sums.js";
import { walkStages } from "./stage-walk.js";
import { statisticsFromBytes } from "./statistics-file.js";
import { accumulateInWorker } from "./statistics-workers.js";

/** What adds rows. */
export interface Adding {
  readonly engine: Backend;
  readonly spec: CodebookSpec;
  /** As the caller gave it. */
  readonly threads: number | undefined;
  readonly device: number | undefined;
}

export interface Shard {
  /** vectors[M][D]; they become residuals. */
  readonly vectors: Float32Array;
  /** weights[M] or null. */
  readonly weights: Float32Array | null;
  readonly refuse: (bad: BadInput) => Error;
}

/** At most `most` shards of about as many rows each. */
export function cutShards({ vectors, weights, refuse }: Shard, dim: number, most: number): Shard[] {
  const count = vectors.length / dim;
  const rows = Math.max(1, Math.ceil(count / most));
  const shards: Shard[] = [];
  for (let first = 0; first === 0 || first < count; first += rows) {
    const end = Math.min(count, first + rows);
    shards.push({
      vectors: vectors.subarray(first * dim, end * dim),
      weights: weights?.subarray(first, end) ?? null,
      refuse: (bad) => refuse({ ...bad, row: first + bad.row }),
    });
  }
  return shards;
}

/** The sums of a shard, on the grids of `like`. */
export async function sumShard(
  { engine, spec }: Adding,
  like: readonly StageSums[],
  { vectors, weights, refuse }: Shard,
  signal: AbortSignal | undefined,
): Promise<StageSums[]> {
  const stages: StageSums[] = [];
  const walk = { stagesOfRow: null, measure: false, signal, refuse };
  await walkStages(engine, spec, vectors, walk, async ({ stage, residuals, counted }) => {
    const { statistics, masses, weightExponent } = like[stage];
    const grid = { gridExponents: statistics.gridExponents, weightExponent };
    const sums = emptySums(masses.length - 1, grid, weights !== null);
    await addRows(engine, sums, residuals, counted, weights);
    stages.push(sums);
  });
  return stages;
}

/** The same in a worker, of `workers` that share the threads; the shard stays as it is. */
export async function sumInWorker(
  file: string,
  { engine, spec, threads, device }: Adding,
  range: VectorRange,
  { vectors, weights }: Shard,
  workers: number,
  signal: AbortSignal | undefined,
): Promise<readonly StageSums[]> {
  const each = Math.max(1, Math.floor((threads ?? availableParallelism()) / workers));
  const shard = {
    model: modelToBytes({ spec, metadata: {} }),
    range,
    backend: engine.name,
    threads: each,
    device,
    // Of a view, all that is behind it would be sent.
    vectors: vectors.slice(),
    weights: weights?.slice() ?? null,
  };
  return statisticsFromBytes("bytes of a worker", await accumulateInWorker(file, shard, signal)).stages;
}

/** All results once all have settled; or the first failure, in order. */
export async function allDone<Result>(promises: readonly Promise<Result>[]): Promise<Result[]> {
  const settled = await Promise.allSettled(promises);
  return settled.map((one) => {
    if (one.status === "rejected") throw one.reason;
    return one.value;
  });
}
