// Lloyd's k-means over a backend: k-means++, random or given seeds, exact sums, empty clusters re-seeded, bit-reproducible.

import { newAssignment } from "./assign-rows.js";
import type { Backend, CodeArray, HeldRows, Metric } from "./backend.js";
import { moveExcess } from "./balance.js";
import { isZeroRow } from "./check.js";
import { newCodeArray } from "./code-array.js";
import { ProportionalDraw } from "./proportional-draw.js";
import type { Random } from "./random.js";
import type { RowWorkers } from "./row-workers.js";
import { type Seeding, seedCodebook, sumOf } from "./seed-codebook.js";
import { emptyStatistics, gridExponentFor, meanSteps, type Usage, usageOfCounts } from "./statistics.js";
import { inSlices, runInSlices, StepMeter, type Steps } from "./time-slice.js";
import { RowsHere, RowsOfWorkers } from "./training-rows.js";

export interface KmeansOptions {
  readonly dim: number;
  readonly metric: Metric;
  readonly weights: Float32Array | null;
  readonly numCodewords: number;
  readonly iterations: number;
  /** How the first codewords are drawn; or they themselves, [K][D], finite and with the cosine metric not zero. */
  readonly init: Seeding | Float32Array;
  /** Seeds are drawn from a random sample of at most this many rows. */
  readonly sampleSize: number;
  /** λ of `meanSteps`. */
  readonly shrinkage: number;
  /** Clusters with fewer vectors than this, or than half the mean if that is less, start again elsewhere, as empty ones do. */
  readonly minClusterSize: number;
  /** Vectors that a cluster has at most, K · room ≥ N; N and more are no limit. */
  readonly room: number;
  /** Called after every iteration, with the assignment just made. */
  readonly onIteration: (progress: KmeansProgress) => void;
  readonly signal?: AbortSignal;
  /** Who assigns and sums parts of the vectors; undefined: this thread. */
  readonly workers?: RowWorkers | undefined;
}

export interface KmeansProgress {
  /** From 0. */
  readonly iteration: number;
  /** Mean squared error per element. */
  readonly mse: number;
  readonly usage: Usage;
}

/**
 * A codebook [K][D] for vectors[N][D], N ≥ 1, all finite (and none zero with the cosine metric, where cells are formed
 * by direction and codewords are the plain means that minimise the reconstruction error within them).
 * Stops early when an iteration re-seeds no codeword and changes no code.
 */
export async function trainCodebook(
  backend: Backend,
  vectors: Float32Array,
  random: Random,
  options: KmeansOptions,
): Promise<Float32Array> {
  const held = await backend.hold?.(vectors, options.dim);
  try {
    return await iterate(backend, vectors, held, random, options);
  } finally {
    held?.dispose();
  }
}

async function iterate(
  backend: Backend,
  vectors: Float32Array,
  held: HeldRows | null | undefined,
  random: Random,
  options: KmeansOptions,
): Promise<Float32Array> {
  const { dim, metric, weights, numCodewords, iterations, shrinkage, minClusterSize, room, signal } = options;
  const count = vectors.length / dim;
  const here = new RowsHere(backend, vectors, held);
  const { workers } = options;
  const rows = workers === undefined ? here : new RowsOfWorkers(workers, here, vectors, dim);
  const statistics = emptyStatistics(numCodewords, await gridExponentsFor(vectors, dim));
  const codebook =
    typeof options.init === "string"
      ? await seedCodebook(backend, vectors, random, { ...options, held, seeding: options.init })
      : options.init.slice();

  // In the metric that decides: what weights hide is no reason to re-seed.
  const assignment = newAssignment(count, numCodewords, weights);
  const { codes, distances, plainDistances } = assignment;
  const balanced = room < count;
  // By distance alone: an assignment starts from the one before.
  const nearest = balanced ? { ...assignment, codes: codes.slice() } : assignment;
  // What the assignment before used and gave: the backend searches less for it, and only rows that changed move.
  let before: { codebook: Float32Array; codes: CodeArray } | undefined;
  let reseeded = 0;
  for (let iteration = 0; iteration < iterations; iteration++) {
    // Assign, and measure what was assigned.
    const spec = { dim, metric, weights, codebooks: [codebook] };
    await rows.assign(spec, before?.codebook, nearest, signal);
    if (balanced) {
      codes.set(nearest.codes);
      await moveExcess(backend, spec, vectors, assignment, room, signal);
    }
    const mse = (await sumOf(plainDistances)) / vectors.length;
    const settled = before !== undefined && reseeded === 0 && (await sameCodes(codes, before.codes));
    if (!settled) await rows.accumulate(statistics, codes, before?.codes);
    options.onIteration({ iteration, mse, usage: usageOfCounts(statistics.counts.slice()) });
    if (settled) break;

    // Update: exact means; clusters that lost every vector start again elsewhere.
    signal?.throwIfAborted();
    before ??= { codebook: new Float32Array(codebook.length), codes: newCodeArray(count, [numCodewords]) };
    before.codebook.set(codebook);
    before.codes.set(codes);
    await runInSlices(meanSteps(statistics, codebook, shrinkage));
    if (metric === "cosine") keepNonZero(codebook, before.codebook, dim);
    const smallest = smallestCluster(iteration, iterations, minClusterSize, count / numCodewords);
    reseeded = await runInSlices(reseedSmall(smallest, statistics.counts, codebook, vectors, codes, distances, random));
  }
  return codebook;
}

/** With the cosine metric a codeword needs a direction: where the mean is exactly zero it keeps its earlier value. */
export function keepNonZero(codebook: Float32Array, before: Float32Array, dim: number): void {
  for (let start = 0; start < codebook.length; start += dim) {
    if (!isZeroRow(codebook, start, dim)) continue;
    codebook.set(before.subarray(start, start + dim), start);
  }
}

/**
 * Starts every cluster with fewer than `smallest` vectors again elsewhere; how many that were. It draws a row: for an empty
 * cluster in proportion to the squared distance from the row's codeword, each row at most once (that is where the error is;
 * where all distances are zero there is nothing to gain); for a small one any row, since that rule would
 * find again the outliers that made it small.
 *
 * The new codeword lies between the row's codeword and the row, where the mean of an average cluster of N/K vectors would: at
 * sqrt(K/N) of the way. On the row itself it would, in many dimensions, attract no other: independent vectors
 * are farther from each other than from their common mean, and a large cluster near that mean would swallow all.
 */
function* reseedSmall(
  smallest: number,
  counts: Float64Array,
  codebook: Float32Array,
  vectors: Float32Array,
  codes: CodeArray,
  distances: Float64Array,
  random: Random,
): Steps<number> {
  const dim = codebook.length / counts.length;
  const share = reseedingShare(counts.length, codes.length);
  const means = codebook.slice();
  const errors = new ProportionalDraw(distances);
  const meter = new StepMeter();
  let reseeded = 0;
  for (let k = 0; k < counts.length; k++) {
    if (counts[k] >= smallest) continue;
    if (counts[k] === 0 && errors.total() === 0) continue;
    const row = counts[k] === 0 ? errors.draw(random) : random.below(codes.length);
    const mean = means.subarray(codes[row] * dim, (codes[row] + 1) * dim);
    placeBetween(codebook, k, mean, vectors.subarray(row * dim, (row + 1) * dim), share);
    errors.remove(row);
    reseeded++;
    if (meter.add(dim + codes.length / 256 + 1024)) yield;
  }
  return reseeded;
}

/** The share of the way from a row's codeword to the row at which a new codeword of K for N rows starts. */
export function reseedingShare(numCodewords: number, rows: number): number {
  return Math.min(1, Math.sqrt(numCodewords / rows));
}

/** codebook[k] = what lies at `share` of the way from mean[D] to row[D]. */
export function placeBetween(
  codebook: Float32Array,
  k: number,
  mean: Float32Array,
  row: Float32Array,
  share: number,
): void {
  const start = k * mean.length;
  for (let i = 0; i < mean.length; i++) codebook[start + i] = mean[i] + share * (row[i] - mean[i]);
}

/**
 * Clusters with fewer vectors than this start again. In the last sixth of the iterations small ones are left in peace: re-seeding to
 * the very end would leave loose ends.
 */
export function smallestCluster(
  iteration: number,
  iterations: number,
  minClusterSize: number,
  meanClusterSize: number,
): number {
  if (iteration >= iterations - Math.ceil(iterations / 6)) return 1;
  return Math.min(minClusterSize, Math.max(1, Math.floor(meanClusterSize / 2)));
}

async function sameCodes(a: CodeArray, b: CodeArray): Promise<boolean> {
  let same = true;
  await inSlices(a.length, 1, (from, to) => {
    for (let i = from; same && i < to; i++) same = a[i] === b[i];
  });
  return same;
}

/** The grid of each dimension of vectors[N][D]: columns of very different scales (with weights to match) all keep their bits. */
export async function gridExponentsFor(vectors: Float32Array, dim: number): Promise<Int32Array> {
  const largest = new Float32Array(dim);
  await inSlices(vectors.length, dim, (from, to) => {
    for (let start = from; start < to; start += dim) {
      for (let i = 0; i < dim; i++) {
        const magnitude = Math.abs(vectors[start + i]);
        if (magnitude > largest[i]) largest[i] = magnitude;
      }
    }
  });
  return Int32Array.from(largest, (magnitude) => gridExponentFor(magnitude, vectors.length / dim));
}
