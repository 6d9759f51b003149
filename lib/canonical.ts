// The canonical arithmetic: the float64 distance and the unit vector that every backend must reproduce bit for bit.

/**
 * d64 of lib/backend.ts between x[xOffset … +dim] and c[cOffset … +dim].
 *
 * May return early with any value above `limit` once the distance is certain to exceed it. That is exact: the terms are
 * non-negative and rounding is monotone, so the tree over the partial sums never exceeds the tree over the full ones.
 */
export function squaredDistance(
  x: Float32Array,
  xOffset: number,
  c: Float32Array,
  cOffset: number,
  dim: number,
  weights: Float32Array | null,
  limit: number,
): number {
  if (weights !== null) return weightedSquaredDistance(x, xOffset, c, cOffset, dim, weights);
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  let s4 = 0;
  let s5 = 0;
  let s6 = 0;
  let s7 = 0;
  const whole = dim - (dim % 8);
  for (let i = 0; i < whole; ) {
    // Eight blocks of lanes between two looks at the limit.
    const pause = Math.min(whole, i + 64);
    for (; i < pause; i += 8) {
      const t0 = x[xOffset + i] - c[cOffset + i];
      const t1 = x[xOffset + i + 1] - c[cOffset + i + 1];
      const t2 = x[xOffset + i + 2] - c[cOffset + i + 2];
      const t3 = x[xOffset + i + 3] - c[cOffset + i + 3];
      const t4 = x[xOffset + i + 4] - c[cOffset + i + 4];
      const t5 = x[xOffset + i + 5] - c[cOffset + i + 5];
      const t6 = x[xOffset + i + 6] - c[cOffset + i + 6];
      const t7 = x[xOffset + i + 7] - c[cOffset + i + 7];
      s0 += t0 * t0;
      s1 += t1 * t1;
      s2 += t2 * t2;
      s3 += t3 * t3;
      s4 += t4 * t4;
      s5 += t5 * t5;
      s6 += t6 * t6;
      s7 += t7 * t7;
    }
    const partial = s0 + s4 + (s2 + s6) + (s1 + s5 + (s3 + s7));
    if (partial > limit) return partial;
  }

  // The tail: at most one element for each of the first seven lanes.
  const rest = dim - whole;
  if (rest > 0) s0 += squaredDifference(x, xOffset + whole, c, cOffset + whole);
  if (rest > 1) s1 += squaredDifference(x, xOffset + whole + 1, c, cOffset + whole + 1);
  if (rest > 2) s2 += squaredDifference(x, xOffset + whole + 2, c, cOffset + whole + 2);
  if (rest > 3) s3 += squaredDifference(x, xOffset + whole + 3, c, cOffset + whole + 3);
  if (rest > 4) s4 += squaredDifference(x, xOffset + whole + 4, c, cOffset + whole + 4);
  if (rest > 5) s5 += squaredDifference(x, xOffset + whole + 5, c, cOffset + whole + 5);
  if (rest > 6) s6 += squaredDifference(x, xOffset + whole + 6, c, cOffset + whole + 6);
  return s0 + s4 + (s2 + s6) + (s1 + s5 + (s3 + s7));
}

function squaredDifference(x: Float32Array, xIndex: number, c: Float32Array, cIndex: number): number {
  const t = x[xIndex] - c[cIndex];
  return t * t;
}

function weightedSquaredDistance(
  x: Float32Array,
  xOffset: number,
  c: Float32Array,
  cOffset: number,
  dim: number,
  weights: Float32Array,
): number {
  const lanes = [0, 0, 0, 0, 0, 0, 0, 0];
  for (let i = 0; i < dim; i++) {
    const t = x[xOffset + i] - c[cOffset + i];
    lanes[i & 7] += weights[i] * (t * t);
  }
  return sumLanes(lanes);
}

/**
 * Writes the unit vector u_i = fround(x_i / sqrt(Σ x_i²)) of x[xOffset … +dim] to out[outOffset … +dim].
 * False for the zero vector, and then nothing is written.
 */
export function unitVector(
  x: Float32Array,
  xOffset: number,
  dim: number,
  out: Float32Array,
  outOffset: number,
): boolean {
  const lanes = [0, 0, 0, 0, 0, 0, 0, 0];
  for (let i = 0; i < dim; i++) lanes[i & 7] += x[xOffset + i] * x[xOffset + i];
  const norm = Math.sqrt(sumLanes(lanes));
  if (norm === 0) return false;
  for (let i = 0; i < dim; i++) out[outOffset + i] = x[xOffset + i] / norm;
  return true;
}

function sumLanes(s: number[]): number {
  return s[0] + s[4] + (s[2] + s[6]) + (s[1] + s[5] + (s[3] + s[7]));
}
