// The first codewords of k-means: rows of the data, drawn so that they lie apart.

import type { Backend, Metric } from "./backend.js";
import { unitVector } from "./canonical.js";
import { copyRow, gatherRows } from "./copy-row.js";
import { isLoss } from "./errors.js";
import { ProportionalDraw } from "./proportional-draw.js";
import type { Random } from "./random.js";
import type { HeldRows, SeedDraws } from "./resident.js";
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
  readonly signal?: AbortSignal | undefined;
}

/** Where the rows of seeds come from: all are asked for only if all may become seeds. */
export interface SeedRows {
  readonly count: number;
  /** Copies of these rows, in this order, or all rows where there is no list: [rows.length][D]. */
  gather(rows: Uint32Array | null): Promise<Float32Array>;
  /** What the backend holds of all rows, which stays the owner's; null: nothing. */
  hold?(): Promise<HeldRows | null>;
}

/** A codebook [K][D] of some of the rows. */
export async function seedCodebook(
  backend: Backend,
  rows: SeedRows,
  random: Random,
  options: SeedingOptions,
): Promise<Float32Array> {
  const { dim, metric, numCodewords, seeding, sampleSize } = options;
  const { count } = rows;
  if (seeding === "random") {
    // Different rows while there are enough of them.
    const different = count >= numCodewords;
    return rows.gather(
      different
        ? random.sample(count, numCodewords)
        : Uint32Array.from({ length: numCodewords }, () => random.below(count)),
    );
  }

  const chosen = count <= sampleSize ? null : random.sample(count, sampleSize);
  const first = random.below(Math.min(count, sampleSize));
  // All of them, as they are.
  const held = chosen === null && metric === "l2" ? await rows.hold?.() : undefined;
  const drawnOfAll = held && (await drawByDevice(backend, held, count, first, random, options));
  if (drawnOfAll) return rows.gather(drawnOfAll);

  const sample = await rows.gather(chosen);
  const positions = metric === "cosine" ? await unitRows(sample, dim) : sample;
  if (held !== undefined) return drawApart(backend, { sample, positions, held }, first, random, options);
  const own = await backend.hold?.(positions, dim);
  try {
    const drawn = own && (await drawByDevice(backend, own, sample.length / dim, first, random, options));
    if (drawn) return await gatherRows(sample, drawn, dim);
    return await drawApart(backend, { sample, positions, held: own }, first, random, options);
  } finally {
    own?.dispose();
  }
}

/** Draws by arrays of the host: `positions` are the rows of the sample where distances are measured, and may be held. */
async function drawApart(
  backend: Backend,
  {
    sample,
    positions,
    held,
  }: { readonly sample: Float32Array; readonly positions: Float32Array; readonly held: HeldRows | null | undefined },
  first: number,
  random: Random,
  options: SeedingOptions,
): Promise<Float32Array> {
  const { dim, weights, numCodewords, seeding, signal } = options;
  const sampleCount = sample.length / dim;
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
  { dim, weights, numCodewords, seeding, signal }: SeedingOptions,
): Promise<Uint32Array | null> {
  if (seeding !== "k-means++") return null;
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
    let some = sum;
    for (let i = from; i < to; i++) some += values[i];
    sum = some;
  });
  return sum;
}

async function unitRows(vectors: Float32Array, dim: number): Promise<Float32Array> {
  const unit = new Float32Array(vectors.length);
  await inSlices(unit.length, dim, (from, to) => {
    for (let offset = from; offset < to; offset += dim) unitVector(vectors, offset, dim, unit, offset);
  });
  return unit;
}
