// What `scanCodes` of a backend means: the nearest of coded vectors to queries by lookup tables, in TypeScript.

import type { ScanCodesRequest } from "../backend.js";
import { StepMeter, type Steps } from "../time-slice.js";
import { addTables, codeTables } from "./code-columns.js";
import { fillTables } from "./lookup-tables.js";
import { NearestHeap } from "./nearest-heap.js";

/** Sums of so many vectors stay in the first-level cache: 8 KB. */
const rowsPerBlock = 1024;

/** A lookup and its addition cost about as much as so many multiply-adds of a plain loop. */
const lookupCost = 2;

/** In slices; `signal` is asked between them. */
export function* scanCodes(request: ScanCodesRequest, signal: AbortSignal | undefined): Steps<void> {
  const { columns, norms, codebooks, dim, queries, count, factor, candidates, keys, ids } = request;
  const { vectors, stages } = columns;
  const add = addTables;
  const tables = codeTables(codebooks.map((codebook) => codebook.length / dim));
  const heap = new NearestHeap(candidates);
  // One for all queries: a thousand of them over a short index are one long call.
  const meter = new StepMeter();
  const block = new Float64Array(Math.min(rowsPerBlock, vectors));
  for (let q = 0; q < count; q++) {
    yield* fillTables(queries.subarray(q * dim, (q + 1) * dim), factor, codebooks, tables.stages);
    for (let first = 0; first < vectors; first += block.length) {
      const rows = Math.min(block.length, vectors - first);
      const sums = block.subarray(0, rows);
      if (norms !== null) sums.set(norms.subarray(first, first + rows));
      else sums.fill(0);
      add(columns, first, tables, sums);
      offerBelow(sums, first, heap);
      if (!meter.add(rows * (stages + 1) * lookupCost)) continue;
      signal?.throwIfAborted();
      yield;
    }
    const [from, to] = [q * candidates, (q + 1) * candidates];
    yield* heap.drain(keys.subarray(from, to), ids.subarray(from, to));
  }
}

function offerBelow(keys: Float64Array, first: number, heap: NearestHeap): void {
  let bound = heap.bound;
  for (let i = 0; i < keys.length; i++) {
    if (!(keys[i] < bound)) continue;
    heap.offer(keys[i], first + i);
    bound = heap.bound;
  }
}
