// The point that screens subtract from both sides: distances stay, and the rounding of a common offset goes.

/**
 * Any centre is correct; a good one is near most codewords. Those far from the mean of all are left out of a second mean:
 * otherwise one codeword of a million among ones of one would move the centre away from every other.
 */
export function chooseCentre(targets: Float32Array, distinct: Uint32Array, scale: Float64Array): Float32Array {
  /** In squared distances: four times the median distance. */
  const far = 16;
  const mean = meanOf(targets, distinct, scale.length);
  const distances = Float64Array.from(distinct, (k) => squaredNorm(targets, k, mean, scale));
  const median = distances.slice().sort()[distances.length >> 1];
  const near = distinct.filter((_, j) => distances[j] <= far * median);
  return near.length < distinct.length ? meanOf(targets, near, scale.length) : mean;
}

/** |a·(targets[k] − centre)|², a the scale. */
export function squaredNorm(targets: Float32Array, k: number, centre: Float32Array, scale: Float64Array): number {
  let sum = 0;
  for (let i = 0, source = k * scale.length; i < scale.length; i++, source++) {
    const x = (targets[source] - centre[i]) * scale[i];
    sum += x * x;
  }
  return sum;
}

/** A mean of float32 values cannot overflow. */
function meanOf(targets: Float32Array, chosen: Uint32Array, dim: number): Float32Array {
  const sum = new Float64Array(dim);
  for (const k of chosen) {
    for (let i = 0; i < dim; i++) sum[i] += targets[k * dim + i];
  }
  return Float32Array.from(sum, (x) => x / chosen.length);
}
