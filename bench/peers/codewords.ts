// A codebook as matrix products want it.

/** columns[dim][K] of codebook[K][dim]. */
export function codewordColumns(codebook: Float32Array, dim: number): Float32Array {
  const numCodewords = codebook.length / dim;
  const columns = new Float32Array(codebook.length);
  for (let i = 0; i < codebook.length; i++) columns[(i % dim) * numCodewords + Math.floor(i / dim)] = codebook[i];
  return columns;
}

/** −½‖c_k‖²: added to x·c_k it is largest for the nearest codeword. */
export function halfNorms(codebook: Float32Array, dim: number): Float32Array {
  return Float32Array.from({ length: codebook.length / dim }, (_, k) => {
    const c = codebook.subarray(k * dim, (k + 1) * dim);
    return -c.reduce((sum, value) => sum + value * value, 0) / 2;
  });
}
