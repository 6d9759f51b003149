// Lloyd's k-means over a backend: k-means++, random or given seeds, exact sums, empty clusters re-seeded, bit-reproducible.

import type { Backend, CodeArray } from "./backend.js";
import { DeviceKmeansRows } from "./device/device-kmeans-rows.js";
import { isLoss } from "./errors.js";
import { HostKmeansRows, type KmeansRows, type KmeansRule } from "./kmeans-rows.js";
import type { LearningRows } from "./learning-rows.js";
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
 * A codebook [K][D] for N ≥ 1 rows, all finite (and none zero with the cosine metric, where cells are formed
 * by direction and codewords are the plain means that minimise the reconstruction error within them).
 * Stops early when an iteration re-seeds no codeword and changes no code.
 */
export async function trainCodebook(
  backend: Backend,
  rows: LearningRows,
  random: Random,
  options: KmeansOptions,
): Promise<Float32Array> {
  if ((await rows.hold()) === null) return trainOnRows(backend, rows, random, options);

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
    return await trainOnRows(backend, rows, random, reporting);
  } catch (error) {
    // What a report or the signal throws is the caller's.
    if (reportThrew || options.signal?.aborted || !isLoss(error)) throw error;
  }
  rows.letGo();
  random.restore(before);
  return trainOnRows(backend, rows, random, reporting);
}

async function trainOnRows(
  backend: Backend,
  rows: LearningRows,
  random: Random,
  options: KmeansOptions,
): Promise<Float32Array> {
  const { init } = options;
  const codebook =
    typeof init === "string" ? await seedCodebook(backend, rows, random, { ...options, seeding: init }) : init.slice();
  const held = await rows.hold();
  const onDevice = held === null ? null : await DeviceKmeansRows.open(backend, held, rows.count, codebook, options);
  const iterated = onDevice ?? (await HostKmeansRows.open(backend, await rows.host(), held, codebook, options));
  try {
    return await iterate(iterated, rows, random, options);
  } finally {
    iterated.dispose();
  }
}

async function iterate(
  iterated: KmeansRows,
  rows: LearningRows,
  random: Random,
  options: KmeansOptions,
): Promise<Float32Array> {
  const { dim, numCodewords, iterations, minClusterSize, signal } = options;
  const meanClusterSize = rows.count / numCodewords;
  let reseeded = 0;
  for (let iteration = 0; iteration < iterations; iteration++) {
    const { error, counts, moved } = await iterated.iterate(signal);
    options.onIteration({ iteration, mse: error / (rows.count * dim), usage: usageOfCounts(counts) });
    if (!moved && reseeded === 0) break;

    // Clusters that lost every vector, or nearly, start again elsewhere.
    signal?.throwIfAborted();
    const smallest = smallestCluster(iteration, iterations, minClusterSize, meanClusterSize);
    reseeded = 0;
    if (counts.every((count) => count >= smallest)) continue;
    const { codebook, codes, distances } = await iterated.outcome();
    const drawn = await runInSlices(drawRows(smallest, counts, codes, distances, random));
    reseeded = drawn.length;
    if (reseeded === 0) continue;
    const gathered = await rows.gather(Uint32Array.from(drawn, ({ row }) => row));
    await runInSlices(startAgain(drawn, gathered, codebook, codes));
    await iterated.restart(codebook);
  }
  return iterated.codebook();
}

/** A cluster that starts again, and the row by which. */
interface NewStart {
  readonly cluster: number;
  readonly row: number;
}

/**
 * Draws a row for every cluster with fewer than `smallest` vectors: for an empty one in proportion to the squared distance from the
 * row's codeword, each row at most once (that is where the error is; where all distances are zero there is nothing to
 * gain); for a small one any row, since that rule would find again the outliers that made it small.
 */
function* drawRows(
  smallest: number,
  counts: Float64Array,
  codes: CodeArray,
  distances: Float64Array,
  random: Random,
): Steps<NewStart[]> {
  const errors = new ProportionalDraw(distances);
  const meter = new StepMeter();
  const drawn: NewStart[] = [];
  for (let k = 0; k < counts.length; k++) {
    if (counts[k] >= smallest) continue;
    if (counts[k] === 0 && errors.total() === 0) continue;
    const row = counts[k] === 0 ? errors.draw(random) : random.below(codes.length);
    errors.remove(row);
    drawn.push({ cluster: k, row });
    if (meter.add(codes.length / 256 + 1024)) yield;
  }
  return drawn;
}

/**
 * Starts clusters again, by rows[…][D], those that were drawn. The new codeword lies between the row's codeword and the row, where the
 * mean of an average cluster of N/K vectors would: at sqrt(K/N) of the way. On the row itself it would, in many
 * dimensions, attract no other: independent vectors are farther from each other than from their common mean, and a large cluster near
 * that mean would swallow all.
 */
function* startAgain(
  drawn: readonly NewStart[],
  rows: Float32Array,
  codebook: Float32Array,
  codes: CodeArray,
): Steps<void> {
  const dim = rows.length / drawn.length;
  const share = reseedingShare(codebook.length / dim, codes.length);
  const means = codebook.slice();
  const meter = new StepMeter();
  for (const [i, { cluster, row }] of drawn.entries()) {
    const mean = means.subarray(codes[row] * dim, (codes[row] + 1) * dim);
    placeBetween(codebook, cluster, mean, rows.subarray(i * dim, (i + 1) * dim), share);
    if (meter.add(dim)) yield;
  }
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
