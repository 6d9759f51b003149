// What a benchmark asks of a peer: nearest codewords by brute force, on so many threads.

/** A peer as loaded; its package may be missing, and then it is a reason instead. */
export interface Peer {
  readonly name: string;
  /** Thread counts that it can be told. */
  readonly threadCounts: readonly number[];
  /** Multiply-adds of one call at most: it gets fewer rows of the same shape, so that a call takes some 100 ms. */
  readonly multiplyAddsPerCall: number;
  /** Settings worth trying, in words; the fastest one counts. */
  readonly settings: readonly PeerSetting[];
  readonly open: (codebook: Float32Array, dim: number, threads: number, setting: PeerSetting) => Promise<PeerSearch>;
}

export interface PeerSetting {
  readonly name: string;
  /** Bytes of a score matrix: vectors are handed over in chunks of this size. Infinity: all at once. */
  readonly scoreBytes: number;
}

export interface PeerSearch {
  /** codes[N] of vectors[N][dim]. */
  readonly run: (vectors: Float32Array) => Promise<Int32Array>;
  readonly close: () => void;
}

/** Runs `search` on chunks of as many rows as give a score matrix of `scoreBytes`, and joins the codes. */
export async function inChunks(
  vectors: Float32Array,
  dim: number,
  numCodewords: number,
  scoreBytes: number,
  search: (rows: Float32Array, count: number) => Promise<ArrayLike<number | bigint>>,
): Promise<Int32Array> {
  const count = vectors.length / dim;
  const chunk = Math.min(count, Math.max(1, Math.floor(scoreBytes / 4 / numCodewords)));
  const codes = new Int32Array(count);
  for (let first = 0; first < count; first += chunk) {
    const rows = Math.min(chunk, count - first);
    const found = await search(vectors.subarray(first * dim, (first + rows) * dim), rows);
    for (let row = 0; row < rows; row++) codes[first + row] = Number(found[row]);
  }
  return codes;
}
