// Models of a code's bits: what the probability of the next bit is, and what is learned from it. Integers only.
//
// A code below K is a path through a binary tree: its ceil(log2 K) bits from the highest, where `node` is 1 at the root
// and 2·node + bit below. A model is asked for `p(node)` and then told the bit.

import { bounded as boundedProbability } from "./bit-coder.js";
import { maxStretched as most, squash as squashTable, stretch as stretchTable } from "./logistic.js";

// Bound here: CommonJS, which this is compiled to, looks an import up in its module at every use, which made these loops three to
// four times slower.
const bounded = boundedProbability;
const maxStretched = most;
const squash = squashTable;
const stretch = stretchTable;

/** The probability of a one at a node, as the coder takes it, then what the bit was. */
export interface BitModel {
  /** @param depth bits of the code that are known: 0 at the root */
  p(node: number, depth: number): number;
  update(bit: number): void;
}

/** Known probabilities: node[n] of 65536 is that of a one at node n. */
export class StaticModel implements BitModel {
  constructor(private readonly nodes: Uint16Array) {}

  p(node: number): number {
    return bounded(this.nodes[node] >>> 4);
  }

  update(): void {}
}

// A slot of an adaptive model: probability of a one in 65536ths in the upper 16 bits, bits seen (up to 255) in the lower.
const slotBits = 16;
const untouched = 0x8000 << slotBits;
const mostSeen = 255;

/** rates[n]: how far the probability moves towards the bit after n bits, in 16384ths: 1 / (n + 1.5). */
const rates = Int32Array.from({ length: mostSeen + 1 }, (_, seen) => Math.floor(32_768 / (2 * seen + 3)));

function learned(slot: number, bit: number): number {
  const seen = slot & 0xff;
  const p = slot >>> slotBits;
  const moved = p + ((((bit << 16) - bit - p) * rates[seen]) >> 14);
  return (moved << slotBits) | Math.min(mostSeen, seen + 1);
}

/** Learns every node's probability from the codes so far. */
export class AdaptiveModel implements BitModel {
  private readonly slots: Int32Array;
  private readonly shift: number;
  private at = 0;

  constructor(tableBits: number) {
    this.slots = new Int32Array(2 ** tableBits).fill(untouched);
    this.shift = 32 - tableBits;
  }

  p(node: number): number {
    this.at = hash(node) >>> this.shift;
    return bounded(this.slots[this.at] >>> (slotBits + 4));
  }

  update(bit: number): void {
    this.slots[this.at] = learned(this.slots[this.at], bit);
  }
}

/** confidence[n]: what a probability learned from n bits counts in the mix, in 256ths: n / (n + 1). */
const confidence = Int32Array.from({ length: mostSeen + 1 }, (_, seen) => Math.floor((256 * seen) / (seen + 1)));

/** Weights are in 65536ths. Two inputs of full weight are too sure, the mean of all not sure enough: found on speech. */
const firstWeight = 25_000;
/** Keeps the product of a weight and an input in 31 bits. */
const largestWeight = 2 ** 19;

/** The depth of the deepest codebook, 2^24 codewords. */
const mostDepth = 24;

/**
 * Mixes what several contexts predict: each has learned probabilities of its own, which are added up on the logistic scale
 * by weights that follow the error. The context with number 0 should be the empty one.
 */
export class MixedModel implements BitModel {
  private readonly slots: Int32Array;
  private readonly shift: number;
  /** weights[depth][context]. */
  private readonly weights: Int32Array;
  private readonly at: Int32Array;
  private readonly inputs: Int32Array;
  private mixed = 0;
  private row = 0;

  /**
   * @param contexts hashes of the contexts of the next code, which the caller writes before its first bit
   * @param tableBits log2 of the slots of one context
   */
  constructor(
    private readonly contexts: Int32Array,
    private readonly tableBits: number,
  ) {
    const count = contexts.length;
    this.slots = new Int32Array(count * 2 ** tableBits).fill(untouched);
    this.shift = 32 - tableBits;
    this.weights = new Int32Array(count * mostDepth).fill(firstWeight);
    this.at = new Int32Array(count);
    this.inputs = new Int32Array(count);
  }

  p(node: number, depth: number): number {
    const { slots, shift, weights, at, inputs, contexts, tableBits } = this;
    const row = depth * contexts.length;
    let sum = 0;
    for (let i = 0; i < contexts.length; i++) {
      const place = (i << tableBits) + (hash(contexts[i] + node) >>> shift);
      const slot = slots[place];
      const input = (stretch[slot >>> (slotBits + 4)] * confidence[slot & 0xff]) >> 8;
      at[i] = place;
      inputs[i] = input;
      sum += (input * weights[row + i]) >> 8;
    }
    const stretched = Math.max(-maxStretched, Math.min(maxStretched, sum >> 8));
    this.row = row;
    this.mixed = bounded(squash[stretched + 2048]);
    return this.mixed;
  }

  update(bit: number): void {
    const { slots, weights, at, inputs, row } = this;
    const error = 4096 * bit - this.mixed;
    for (let i = 0; i < at.length; i++) {
      const weight = weights[row + i] + ((inputs[i] * error + 512) >> 10);
      weights[row + i] = Math.max(-largestWeight, Math.min(largestWeight, weight));
      slots[at[i]] = learned(slots[at[i]], bit);
    }
  }
}

/** Adds a value to the hash of a context. */
export function addToContext(context: number, value: number): number {
  const mixed = Math.imul(context + value + 1, 0x2c1b3c6d);
  return mixed ^ (mixed >>> 15);
}

/** Fibonacci hashing: the upper bits are the good ones. */
function hash(key: number): number {
  return Math.imul(key, 0x9e3779b1);
}
