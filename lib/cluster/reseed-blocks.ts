// Starts small clusters again as k-means in one process does, of whose rows only a few blocks are looked at.
//
// Workers give the sums of the squared distances of every block of rows. A draw finds its block by those; the distances and codes
// in it are computed here once more, which gives the same bits.

import type { Backend, CodeArray } from "../backend.js";
import { newCodeArray } from "../code-array.js";
import { placeBetween, reseedingShare } from "../kmeans.js";
import { blockAt, blockSize, indexInBlock, sumOfBlock, totalOf } from "../proportional-draw.js";
import type { Random } from "../random.js";
import type { ResidualQuantizer } from "../residual-quantizer.js";
import type { Corpus } from "./corpus.js";
import type { SharedFolders } from "./folders.js";
import { RowReader } from "./row-file.js";

export interface BlockReseeding {
  readonly engine: Backend;
  readonly folders: SharedFolders;
  readonly corpus: Corpus;
  /** Whose assignment the counts and sums are of. */
  readonly quantizer: ResidualQuantizer;
  /** counts[K] */
  readonly counts: Float64Array;
  /** blockSums[ceil(N / blockSize)]; draws take from them. */
  readonly blockSums: Float64Array;
  /** Clusters with fewer rows start again. */
  readonly smallest: number;
}

interface Block {
  readonly codes: CodeArray;
  /** Zero where a row has been drawn. */
  readonly distances: Float64Array;
}

/** Moves codewords of codebook[K][D], which holds the means; how many. The same as `reseedSmall` of lib/kmeans.ts. */
export async function reseedFromBlocks(
  { engine, folders, corpus, quantizer, counts, blockSums, smallest }: BlockReseeding,
  codebook: Float32Array,
  random: Random,
): Promise<number> {
  const { dim, rows } = corpus;
  const means = codebook.slice();
  const share = reseedingShare(counts.length, rows);
  const reader = new RowReader(folders, corpus.side, dim);
  const spec = { dim, metric: quantizer.metric, weights: quantizer.weights(), codebooks: quantizer.codebooks() };
  const prepared = engine.prepare(spec);
  const blocks = new Map<number, Block>();
  const load = async (number: number): Promise<Block> => {
    const known = blocks.get(number);
    if (known !== undefined) return known;
    const count = Math.min(blockSize, rows - number * blockSize);
    const vectors = await reader.read(corpus.slice(number * blockSize, count).segments, false);
    const block = { codes: newCodeArray(count, [counts.length]), distances: new Float64Array(count) };
    await prepared.assign({ vectors, count, ...block });
    blocks.set(number, block);
    return block;
  };

  try {
    let reseeded = 0;
    for (let k = 0; k < counts.length; k++) {
      if (counts[k] >= smallest) continue;
      const total = totalOf(blockSums);
      if (counts[k] === 0 && total === 0) continue;
      let row: number;
      if (counts[k] === 0) {
        const target = random.fraction() * total;
        const { block, before } = blockAt(blockSums, target);
        row = block * blockSize + indexInBlock((await load(block)).distances, before, target);
      } else {
        row = random.below(rows);
      }
      const number = Math.floor(row / blockSize);
      const at = row % blockSize;
      const { codes, distances } = await load(number);
      const vector = await reader.read(corpus.slice(row, 1).segments, false);
      placeBetween(codebook, k, means.subarray(codes[at] * dim, (codes[at] + 1) * dim), vector, share);
      distances[at] = 0;
      blockSums[number] = sumOfBlock(distances, 0);
      reseeded++;
    }
    return reseeded;
  } finally {
    prepared.dispose();
    await reader.close();
  }
}
