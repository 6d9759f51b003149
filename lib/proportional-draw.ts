// Draws indices in proportion to weights that change little between draws: sums are kept by block.

import type { Random } from "./random.js";

/** A draw looks at one sum a block and then at one block: shortest where there are about as many blocks as entries in one. */
export const blockSize = 1024;

/** Sums run in index order, whatever was removed before: the same weights and random numbers give the same draws everywhere. */
export class ProportionalDraw {
  private readonly weights: Float64Array;
  private readonly blockSums: Float64Array;

  /** @param weights weights[n], finite and ≥ 0; kept, and set to zero by `remove` */
  constructor(weights: Float64Array) {
    this.weights = weights;
    this.blockSums = sumsOfBlocks(weights);
  }

  /** The sum of all weights; 0: there is nothing to draw. */
  total(): number {
    return totalOf(this.blockSums);
  }

  /** An index with a weight above zero, drawn with probability weight / total; where all are zero, any index. */
  draw(random: Random): number {
    const total = this.total();
    const target = random.fraction() * total;
    if (total === 0) return random.below(this.weights.length);
    const { block, before } = blockAt(this.blockSums, target);
    const first = block * blockSize;
    return first + indexInBlock(this.weights.subarray(first, first + blockSize), before, target);
  }

  /** Takes an index out of all later draws. */
  remove(index: number): void {
    this.weights[index] = 0;
    const block = Math.floor(index / blockSize);
    this.blockSums[block] = sumOfBlock(this.weights, block);
  }
}

/** The sums of the blocks of weights[n]. */
export function sumsOfBlocks(weights: Float64Array): Float64Array {
  const blockSums = new Float64Array(Math.ceil(weights.length / blockSize));
  let block = 0;
  // Four sums at a time: an addition of one need not wait for that of another.
  for (; (block + 4) * blockSize <= weights.length; block += 4) {
    const first = block * blockSize;
    let s0 = 0;
    let s1 = 0;
    let s2 = 0;
    let s3 = 0;
    for (let i = first; i < first + blockSize; i++) {
      s0 += weights[i];
      s1 += weights[i + blockSize];
      s2 += weights[i + 2 * blockSize];
      s3 += weights[i + 3 * blockSize];
    }
    blockSums[block] = s0;
    blockSums[block + 1] = s1;
    blockSums[block + 2] = s2;
    blockSums[block + 3] = s3;
  }
  for (; block < blockSums.length; block++) blockSums[block] = sumOfBlock(weights, block);
  return blockSums;
}

export function sumOfBlock(weights: Float64Array, block: number): number {
  let sum = 0;
  const end = Math.min(weights.length, (block + 1) * blockSize);
  for (let i = block * blockSize; i < end; i++) sum += weights[i];
  return sum;
}

export function totalOf(blockSums: Float64Array): number {
  let total = 0;
  for (let block = 0; block < blockSums.length; block++) total += blockSums[block];
  return total;
}

/** The block at which the running sum passes the target, and the sum before it; the last with any weight if rounding hides it. */
export function blockAt(blockSums: Float64Array, target: number): { block: number; before: number } {
  let sum = 0;
  let chosen = 0;
  for (let block = 0; block < blockSums.length; block++) {
    if (blockSums[block] === 0) continue;
    chosen = block;
    if (sum + blockSums[block] > target) break;
    sum += blockSums[block];
  }
  return { block: chosen, before: sum };
}

/** The index in a block at which the sum, `before` at its start, passes the target; the last with a weight if rounding hides it. */
export function indexInBlock(weights: Float64Array, before: number, target: number): number {
  let sum = before;
  let last = 0;
  for (let i = 0; i < weights.length; i++) {
    if (weights[i] === 0) continue;
    last = i;
    sum += weights[i];
    if (sum > target) break;
  }
  return last;
}
