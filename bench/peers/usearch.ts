// usearch: its exact search, with float32 squared distances.

import type { Peer } from "./peer.js";

/** The part of its API that is used. */
interface Usearch {
  readonly MetricKind: { readonly L2sq: string };
  exactSearch(
    dataset: Float32Array,
    queries: Float32Array,
    dimensions: number,
    neighbours: number,
    metric: string,
    threads: number,
  ): { readonly keys: BigUint64Array };
}

export function loadUsearch(require: NodeJS.Require): Peer {
  const { MetricKind, exactSearch } = require("usearch") as Usearch;
  return {
    name: "usearch",
    threadCounts: [1, 2],
    multiplyAddsPerCall: 2.5e8,
    settings: [{ name: "all at once", scoreBytes: Infinity }],
    open: async (codebook, dim, threads) => ({
      run: async (vectors) => {
        const { keys } = exactSearch(codebook, vectors, dim, 1, MetricKind.L2sq, threads);
        return Int32Array.from(keys, Number);
      },
      close: () => {},
    }),
  };
}
