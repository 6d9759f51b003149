// Rows so far from the codebook that float64 cannot tell its codewords apart: found without looking at any of them.

/** The smallest box around the codewords. */
export interface Box {
  /** lowest[D] and highest[D] */
  readonly lowest: Float32Array;
  readonly highest: Float32Array;
}

/** The box around targets[K][D], K ≥ 1. */
export function boxAround(targets: Float32Array, dim: number): Box {
  const lowest = targets.slice(0, dim);
  const highest = targets.slice(0, dim);
  for (let start = dim; start < targets.length; start += dim) {
    for (let i = 0; i < dim; i++) {
      const value = targets[start + i];
      if (value < lowest[i]) lowest[i] = value;
      if (value > highest[i]) highest[i] = value;
    }
  }
  return { lowest, highest };
}

/**
 * True where the canonical distance from x[offset … +D] to every point of the box is one and the same number: the lowest
 * code wins then. Rounding is monotone, so the same sum over the nearest and over the farthest squared difference of
 * each dimension encloses all of them.
 */
export function isEquallyFar(
  { lowest, highest }: Box,
  x: Float32Array,
  offset: number,
  weights: Float32Array | null,
): boolean {
  const dim = lowest.length;
  const nearest = new Float64Array(8);
  const farthest = new Float64Array(8);
  for (let i = 0; i < dim; i++) {
    const a = x[offset + i] - highest[i];
    const b = x[offset + i] - lowest[i];
    const weight = weights === null ? 1 : weights[i];
    const lane = i % 8;
    nearest[lane] += weight * (a > 0 ? a * a : b < 0 ? b * b : 0);
    farthest[lane] += weight * Math.max(a * a, b * b);
  }
  return sumOfLanes(nearest) === sumOfLanes(farthest);
}

function sumOfLanes(s: Float64Array): number {
  return s[0] + s[4] + (s[2] + s[6]) + (s[1] + s[5] + (s[3] + s[7]));
}
