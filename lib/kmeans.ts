// Lloyd's k-means over a backend: k-means++, random or given seeds, exact sums, empty clusters re-seeded, bit-reproducible.

import type { Backend, CodeArray, HeldRows } from "./backend.js";
import { DeviceKmeansRows } from "./device/device-kmeans-rows.js";
import { isLoss } from "./errors.js";
import { HostKmeansRows, type KmeansRows, type KmeansRule } from "./kmeans-rows.js";
import { ProportionalDraw } from "./proportional-draw.js";
import type { Random } from "./random.js";
import { type Seeding, seedCodebook } from "./seed-codebook.js";
import { type Usage, usageOfCounts } from "./statistics.js";
import { runInSlices, StepMeter, type Steps } from "./time-slice.js";

export interface KmeansOptions extends KmeansRule {
  readonly numCodewords: number;
  readonly iterations: number;
  /** How the first codewords are drawn; or they themselves, [K][D], finite and with the cosine metric not zero. */
  readonly init: Seeding | Float32Array;
  /** Seeds are drawn from a random sample of at most this many rows. */
  readonly sampleSize: number;
  /** Clusters with fewer vectors than this, or than half the mean if that is less, start again elsewhere, as empty ones do. */
  readonly minClusterSize: number;
  /** Called after every iteration, with the assignment just made. */
  readonly onIteration: (progress: KmeansProgress) => void;
  readonly signal?: AbortSignal | undefined;
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
  const { dim } = options;
  const held = await backend.hold?.(vectors, dim);
  if (!held) return trainOnRows(backend, vectors, null, random, options);

  // Where the device has no room for what a call needs, or is lost, the same again from the host: without reports a second time.
  const before = random.toState();
  let reported = 0;
  let reportThrew = false;
  const onIteration = (progress: KmeansProgress) => {
    if (progress.iteration < reported) return;
    reported++;
    try {
      options.onIteration(progress);
    } catch (error) {
      reportThrew = true;
      throw error;
    }
  };
  const reporting = { ...options, onIteration };
  try {
    return await trainOnRows(backend, vectors, held, random, reporting);
  } catch (error) {
    // What a report or the signal throws is the caller's.
    if (reportThrew || options.signal?.aborted || !isLoss(error)) throw error;
  } finally {
    held.dispose();
  }
  random.restore(before);
  return trainOnRows(backend, vectors, null, random, reporting);
}

/** `held`: what the backend holds of the vectors. */
async function trainOnRows(
  backend: Backend,
  vectors: Float32Array,
  held: HeldRows | null,
  random: Random,
  options: KmeansOptions,
): Promise<Float32Array> {
  const { dim, init } = options;
  const codebook =
    typeof init === "string"
      ? await seedCodebook(backend, vectors, random, { ...options, held, seeding: init })
      : init.slice();
  const onDevice =
    held === null ? null : await DeviceKmeansRows.open(backend, held, vectors.length / dim, codebook, options);
  const rows = onDevice ?? (await HostKmeansRows.open(backend, vectors, held, codebook, options));
  try {
    return await iterate(rows, vectors, random, options);
  } finally {
    rows.dispose();
  }
}

async function iterate(
  rows: KmeansRows,
  vectors: Float32Array,
  random: Random,
  options: KmeansOptions,
): Promise<Float32Array> {
  const { dim, numCodewords, iterations, minClusterSize, signal } = options;
  const meanClusterSize = vectors.length / dim / numCodewords;
  let reseeded = 0;
  for (let iteration = 0; iteration < iterations; iteration++) {
    const { error, counts, moved } = await rows.iterate(signal);
    options.onIteration({ iteration, mse: error / vectors.length, usage: usageOfCounts(counts) });
    if (!moved && reseeded === 0) break;

    // Clusters that lost every vector, or nearly, start again elsewhere.
    signal?.throwIfAborted();
    const smallest = smallestCluster(iteration, iterations, minClusterSize, meanClusterSize);
    reseeded = 0;
    if (counts.every((count) => count >= smallest)) continue;
    const { codebook, codes, distances } = await rows.outcome();
    reseeded = await runInSlices(reseedSmall(smallest, counts, codebook, vectors, codes, distances, random));
    if (reseeded > 0) await rows.restart(codebook);
  }
  return rows.codebook();
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
