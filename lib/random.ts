// The seeded generator behind every random choice: xoshiro128** seeded by splitmix32 (Blackman and Vigna, 2018).

/** Integers and fractions that depend on the seed alone, the same on every machine and backend. */
export class Random {
  private readonly state = new Uint32Array(4);

  /** @param seed an integer in 0 … 2^53 − 1 */
  constructor(seed: number) {
    // Both halves of the seed enter the state; splitmix32 spreads neighbouring seeds apart.
    let mixed = (seed ^ Math.imul(Math.floor(seed / 2 ** 32), 0x9e3779b1)) >>> 0;
    for (let i = 0; i < 4; i++) {
      mixed = (mixed + 0x9e3779b9) >>> 0;
      let z = mixed;
      z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
      z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
      this.state[i] = z ^ (z >>> 16);
    }
    if (this.state.every((word) => word === 0)) this.state[0] = 1;
  }

  /** A generator that goes on where the one with these four words, not all zero, stood. */
  static fromState(words: readonly number[]): Random {
    const random = new Random(0);
    random.restore(words);
    return random;
  }

  /** Four 32-bit words that decide all later draws. */
  toState(): number[] {
    return [...this.state];
  }

  /** Back to where it stood when `toState` gave these words. */
  restore(words: readonly number[]): void {
    this.state.set(words);
  }

  /** Uniform in 0 … 2^32 − 1. */
  uint32(): number {
    const s = this.state;
    const result = Math.imul(rotateLeft(Math.imul(s[1], 5), 7), 9) >>> 0;
    const shifted = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotateLeft(s[3], 11);
    return result;
  }

  /** Uniform in [0, 1) with 53 random bits. */
  fraction(): number {
    const high = this.uint32() >>> 5;
    const low = this.uint32() >>> 6;
    return (high * 2 ** 26 + low) / 2 ** 53;
  }

  /** Uniform integer in 0 … limit − 1, limit ≤ 2^53. */
  below(limit: number): number {
    return Math.min(limit - 1, Math.floor(this.fraction() * limit));
  }

  /** `size` different integers out of 0 … limit − 1 in increasing order (Floyd's algorithm). */
  sample(limit: number, size: number): Uint32Array {
    const chosen = new Set<number>();
    for (let top = limit - size; top < limit; top++) {
      const candidate = this.below(top + 1);
      chosen.add(chosen.has(candidate) ? top : candidate);
    }
    return Uint32Array.from(chosen).sort();
  }
}

function rotateLeft(x: number, bits: number): number {
  return (x << bits) | (x >>> (32 - bits));
}
