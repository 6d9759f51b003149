// The first codewords of k-means: rows of the data, drawn so that they lie apart.

import type { Backend, HeldRows, Metric, SeedDraws } from "./backend.js";
import { unitVector } from "./canonical.js";
import { copyRow } from "./copy-row.js";
import { isLoss } from "./errors.js";
import { ProportionalDraw } from "./proportional-draw.js";
import type { Random } from "./random.js";
import { inSlices } from "./time-slice.js";

/**
 * "random": different rows. "k-means++" (Arthur and Vassilvitskii, 2007): each in proportion to its squared distance from those before.
 * "greedy-k-means++": of 16 such draws the one that leaves the smallest sum of squared distances, 16 times as long.
 */
export type Seeding = "k-means++" | "greedy-k-means++" | "random";

export const seedings: readonly Seeding[] = ["k-means++", "greedy-k-means++", "random"];

/** On 1,797 digits, K 64 and 256, 2 + ln K draws (as scikit-learn takes) end 0.5 to 1 % further from the rows than 16. */
const greedyDraws = 16;

/** Draws that a device makes in one call: some tens of milliseconds, in which nobody sees the signal. */
const mostDraws = 256;
const elementsTogether = 3e9;

export interface SeedingOptions {
  readonly dim: number;
  readonly metric: Metric;
  readonly weights: Float32Array | null;
  readonly numCodewords: number;
  readonly seeding: Seeding;
  /** Seeds are drawn from a random sample of at most this many rows. */
  readonly sampleSize: number;
  /** What the backend holds of the vectors. */
  readonly held?: HeldRows | null | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Where the rows of seeds come from. */
export interface SeedRows {
  readonly count: number;
  /** Copies of these rows, in this order, or all rows where there is no list: [rows.length][D]. */
  gather(rows: Uint32Array | null): Promise<Float32Array>;
  /** All rows, where `options.held` is of them. */
  readonly all?: Float32Array;
}

/** A codebook [K][D] of rows of vectors[N][D]. */
export function seedCodebook(
  backend: Backend,
  vectors: Float32Array,
  random: Random,
  options: SeedingOptions,
): Promise<Float32Array> {
  const { dim } = options;
  const gather = async (rows: Uint32Array | null) => (rows === null ? vectors : gatherRows(vectors, rows, dim));
  return seedFromRows(backend, { count: vectors.length / dim, gather, all: vectors }, random, options);
}

/** The same from rows that are elsewhere: only those that may become seeds are asked for, once. */
export async function seedFromRows(
  backend: Backend,
  { count, gather, all }: SeedRows,
  random: Random,
  options: SeedingOptions,
): Promise<Float32Array> {
  const { dim, metric, numCodewords, seeding, sampleSize } = options;
  if (seeding === "random") {
    // Different rows while there are enough of them.
    const different = count >= numCodewords;
    return gather(
      different
        ? random.sample(count, numCodewords)
        : Uint32Array.from({ length: numCodewords }, () => random.below(count)),
    );
  }

  const sample = await gather(count <= sampleSize ? null : random.sample(count, sampleSize));
  const positions = metric === "cosine" ? await unitRows(sample, dim) : sample;
  if (positions === all) return drawApart(backend, sample, positions, random, options);
  const held = await backend.hold?.(positions, dim);
  try {
    return await drawApart(backend, sample, positions, random, { ...options, held });
  } finally {
    held?.dispose();
  }
}

/** `positions` are the rows of the sample where distances are measured. */
async function drawApart(
  backend: Backend,
  sample: Float32Array,
  positions: Float32Array,
  random: Random,
  options: SeedingOptions,
): Promise<Float32Array> {
  const { dim, weights, numCodewords, seeding, held, signal } = options;
  const sampleCount = sample.length / dim;
  const first = random.below(sampleCount);
  const drawn =
    seeding === "k-means++" && held ? await drawByDevice(backend, held, sampleCount, first, random, options) : null;
  if (drawn !== null) return gatherRows(sample, drawn, dim);
  const codebook = new Float32Array(numCodewords * dim);
  const lower = (row: number, distances: Float64Array) => {
    const centre = positions.subarray(row * dim, (row + 1) * dim);
    return backend.lowerDistances({ vectors: positions, count: sampleCount, dim, weights, centre, distances, held });
  };
  let distances = new Float64Array(sampleCount).fill(Infinity);
  let trial = new Float64Array(seeding === "greedy-k-means++" ? sampleCount : 0);
  let best = new Float64Array(trial.length);
  for (let k = 0; k < numCodewords; k++) {
    signal?.throwIfAborted();
    if (k === 0 || seeding === "k-means++") {
      const row = k === 0 ? first : new ProportionalDraw(distances).draw(random);
      copyRow(sample, row, codebook, k, dim);
      if (k < numCodewords - 1) await lower(row, distances);
      continue;
    }

    // Of several draws the one after which the distances sum up to least.
    const draw = new ProportionalDraw(distances);
    let least = Infinity;
    for (let i = 0; i < greedyDraws; i++) {
      const row = draw.draw(random);
      trial.set(distances);
      await lower(row, trial);
      const sum = await sumOf(trial);
      if (sum >= least && i > 0) continue;
      least = sum;
      copyRow(sample, row, codebook, k, dim);
      [best, trial] = [trial, best];
    }
    [distances, best] = [best, distances];
  }
  return codebook;
}

/** The rows of seeds by k-means++, as in `drawApart`; null, with `random` as before, where a device is not to do it or cannot. */
async function drawByDevice(
  backend: Backend,
  held: HeldRows,
  count: number,
  first: number,
  random: Random,
  { dim, weights, numCodewords, signal }: SeedingOptions,
): Promise<Uint32Array | null> {
  const draws = backend.drawSeeds?.(held, { count, dim, weights, first });
  if (!draws) return null;
  const before = random.toState();
  try {
    return await drawAll(draws, first, numCodewords, { count, dim }, random, signal);
  } catch (error) {
    if (signal?.aborted || !isLoss(error)) throw error;
    random.restore(before);
    return null;
  } finally {
    draws.dispose();
  }
}

async function drawAll(
  draws: SeedDraws,
  first: number,
  numCodewords: number,
  { count, dim }: { readonly count: number; readonly dim: number },
  random: Random,
  signal: AbortSignal | undefined,
): Promise<Uint32Array> {
  const seeds = new Uint32Array(numCodewords);
  seeds[0] = first;
  const together = Math.min(mostDraws, Math.max(1, Math.floor(elementsTogether / (count * Math.max(16, dim)))));
  let seeded = 1;
  while (seeded < numCodewords) {
    signal?.throwIfAborted();
    const before = random.toState();
    const fractions = Float64Array.from({ length: Math.min(together, numCodewords - seeded) }, () => random.fraction());
    const drawn = await draws.draw(fractions);
    seeds.set(drawn, seeded);
    seeded += drawn.length;
    if (drawn.length === fractions.length) continue;
    // All distances are zero: from here on every draw is any row, by a number more.
    random.restore(before);
    for (let i = 0; i < drawn.length; i++) random.fraction();
    for (; seeded < numCodewords; seeded++) {
      random.fraction();
      seeds[seeded] = random.below(count);
    }
  }
  return seeds;
}

/** In index order. */
export async function sumOf(values: Float64Array): Promise<number> {
  let sum = 0;
  await inSlices(values.length, 1, (from, to) => {
    for (let i = from; i < to; i++) sum += values[i];
  });
  return sum;
}

async function gatherRows(vectors: Float32Array, rows: Uint32Array, dim: number): Promise<Float32Array> {
  const gathered = new Float32Array(rows.length * dim);
  await inSlices(gathered.length, dim, (from, to) => {
    for (let i = from / dim; i < to / dim; i++) copyRow(vectors, rows[i], gathered, i, dim);
  });
  return gathered;
}

async function unitRows(vectors: Float32Array, dim: number): Promise<Float32Array> {
  const unit = new Float32Array(vectors.length);
  await inSlices(unit.length, dim, (from, to) => {
    for (let offset = from; offset < to; offset += dim) unitVector(vectors, offset, dim, unit, offset);
  });
  return unit;
}
