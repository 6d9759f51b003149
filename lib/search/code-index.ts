// CodeIndex: the nearest of coded vectors to queries, by lookup tables (asymmetric distances), without decoding any of them.

import { firstBadInput } from "../bad-input.js";
import { squaredDistance } from "../canonical.js";
import {
  allocate,
  badInput,
  type Codes,
  checkCodeRange,
  checkCodes,
  checkInteger,
  checkOptions,
  checkSignal,
  checkVectors,
} from "../check.js";
import { invalidArgument } from "../errors.js";
import { ProjectedQuantizer } from "../projected-quantizer.js";
import { ResidualQuantizer } from "../residual-quantizer.js";
import { stageRows } from "../staging.js";
import { inSlices, runInSlices, StepMeter, type Steps } from "../time-slice.js";
import { addTables, type CodeColumns, type CodeTables, codeColumns, codeTables } from "./code-columns.js";
import { fillTables, innerProduct, squaredNorm, squaredNorms } from "./lookup-tables.js";
import { NearestHeap } from "./nearest-heap.js";

export type SearchMetric = "l2" | "ip";

export interface SearchOptions {
  /** How many neighbours of each query; default 10. There are never more than there are vectors. */
  readonly k?: number;
  /** "l2" (default): the smallest squared distance, weighted where the quantizer is. "ip": the largest inner product. */
  readonly metric?: SearchMetric;
  /** vectors[N][dim], the originals of the codes: with them the best candidates are ranked again, exactly. Leave them alone meanwhile. */
  readonly vectors?: Float32Array;
  /** With `vectors`: how many candidates of each query are ranked again, at least k; default 10·k. */
  readonly rerank?: number;
  readonly signal?: AbortSignal;
}

/** The neighbours of each query, best first; of equal scores the lower id first. */
export interface Neighbours {
  /** Queries. */
  readonly count: number;
  /** Neighbours of each: the k asked for, or all vectors where they are fewer. */
  readonly k: number;
  /** ids[count][k]: numbers of vectors in the order of the codes. */
  readonly ids: Uint32Array;
  /** scores[count][k]: squared distances, or inner products. */
  readonly scores: Float64Array;
}

interface CheckedSearch {
  readonly k: number;
  readonly metric: SearchMetric;
  readonly vectors: Float32Array | null;
  /** Candidates by lookup tables: k, or with vectors those to rank again. */
  readonly candidates: number;
  readonly signal: AbortSignal | undefined;
}

/** Sums of so many vectors stay in the first-level cache: 8 KB. */
const rowsPerBlock = 1024;

/** A lookup and its addition cost about as much as so many multiply-adds of a plain loop. */
const lookupCost = 2;

const mostVectors = 2 ** 32 - 1;

export class CodeIndex {
  /** Vectors. */
  readonly count: number;
  /** Stages of their codes. */
  readonly stages: number;
  readonly dim: number;

  private constructor(
    /** codebooks[stages][K_s][dim] */
    private readonly codebooks: readonly Float32Array[],
    /** weights[dim] of the quantizer, or null. */
    private readonly weights: Float32Array | null,
    private readonly columns: CodeColumns,
    /** |x̂_n|² of each vector. */
    private readonly norms: Float64Array,
    dim: number,
  ) {
    this.count = norms.length;
    this.stages = columns.stages;
    this.dim = dim;
  }

  /**
   * An index of codes of a quantizer, or of their first stages; both are copied. Of a ProjectedQuantizer the codewords are those of
   * `projectedCodebooks()`. It takes a byte a code (two for K above 256, four above
   * 65,536) and 8 bytes a vector, whose squared length is computed here.
   * @throws RvqError INVALID_ARGUMENT, CODE_OUT_OF_RANGE, OUT_OF_MEMORY; the signal's reason when aborted
   */
  static async create(
    quantizer: ResidualQuantizer | ProjectedQuantizer,
    codes: Codes,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<CodeIndex> {
    const projected = quantizer instanceof ProjectedQuantizer;
    if (!projected && !(quantizer instanceof ResidualQuantizer)) {
      throw invalidArgument("quantizer", "a ResidualQuantizer or a ProjectedQuantizer", quantizer);
    }
    checkOptions("options", options);
    const signal = checkSignal("signal", options.signal);
    signal?.throwIfAborted();
    const { dim, codebookSizes } = quantizer;
    const checked = checkCodes("codes", codes, quantizer.stages);
    checkInteger("codes.count", checked.count, 0, mostVectors);
    // The only copy that the caller cannot change while the work is cut into slices.
    const own = { ...checked, data: checked.data.slice() };
    await inSlices(own.data.length, own.stages, (from, to) => {
      checkCodeRange("codes", own.data.subarray(from, to), own.stages, codebookSizes, from / own.stages);
    });
    const all = projected ? await quantizer.projectedCodebooks() : quantizer.codebooks();
    const codebooks = all.slice(0, own.stages);
    const weights = projected ? null : quantizer.weights();
    const norms = allocate("norms", own.count, (length) => new Float64Array(length));
    await runInSlices(squaredNorms(own, codebooks, inFloat64(weights, dim), signal, norms));
    const columns = await runInSlices(codeColumns(own, codebookSizes));
    return new CodeIndex(codebooks, weights, columns, norms, dim);
  }

  /**
   * The nearest of the coded vectors to queries[Q][dim], by their reconstructions; docs/search.md defines every bit of it.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, OUT_OF_MEMORY; the signal's reason when aborted
   */
  async search(queries: Float32Array, options: SearchOptions = {}): Promise<Neighbours> {
    const search = this.checkSearch(options);
    // A copy: the caller may change the array during the call.
    const plain = checkVectors("queries", queries, this.dim).slice();
    const bad = firstBadInput(plain, this.dim, false);
    if (bad !== null) throw badInput("queries", bad, 0, plain[bad.row * this.dim + bad.column]);
    return runInSlices(this.searchSteps(plain, search));
  }

  private checkSearch(options: SearchOptions): CheckedSearch {
    checkOptions("options", options);
    const { k: given = 10, metric = "l2", vectors: originals, rerank, signal: givenSignal } = options;
    const k = Math.min(this.count, checkInteger("k", given, 1, mostVectors));
    if (metric !== "l2" && metric !== "ip") throw invalidArgument("metric", '"l2" or "ip"', metric);
    const signal = checkSignal("signal", givenSignal);
    signal?.throwIfAborted();
    if (originals === undefined) {
      if (rerank !== undefined) throw invalidArgument("rerank", "none without vectors to rank by", rerank);
      return { k, metric, vectors: null, candidates: k, signal };
    }
    const vectors = checkVectors("vectors", originals, this.dim);
    if (vectors.length !== this.count * this.dim) {
      throw invalidArgument("vectors", `count · dim = ${this.count * this.dim} elements`, vectors.length);
    }
    const candidates = checkInteger("rerank", rerank ?? Math.min(mostVectors, 10 * given), given, mostVectors);
    return { k, metric, vectors, candidates: Math.min(this.count, candidates), signal };
  }

  private *searchSteps(queries: Float32Array, search: CheckedSearch): Steps<Neighbours> {
    const { k, metric, vectors, candidates } = search;
    const count = queries.length / this.dim;
    const ids = allocate("neighbours", count * k, (length) => new Uint32Array(length));
    const scores = allocate("neighbours", count * k, (length) => new Float64Array(length));
    if (k === 0 || count === 0) return { count, k, ids, scores };

    const weights = inFloat64(metric === "l2" ? this.weights : null, this.dim);
    const tables = codeTables(this.codebooks.map((codebook) => codebook.length / this.dim));
    const heap = new NearestHeap(candidates);
    // One for all queries: a thousand of them over a short index are one long call.
    const meter = new StepMeter();
    const found = { ids: new Uint32Array(candidates), keys: new Float64Array(candidates) };
    for (let q = 0; q < count; q++) {
      const query = queries.subarray(q * this.dim, (q + 1) * this.dim);
      const weighted = Float64Array.from(query, (x, i) => weights[i] * x);
      yield* fillTables(weighted, metric === "l2" ? -2 : -1, this.codebooks, tables.stages);
      yield* this.scan(tables, search, heap, meter);
      yield* heap.drain(found.keys, found.ids);
      let offset = metric === "l2" ? squaredNorm(query, weights) : 0;
      if (vectors !== null) {
        yield* this.rankAgain(query, weighted, vectors, found, search, meter);
        offset = 0;
      }
      for (let i = 0; i < k; i++) {
        ids[q * k + i] = found.ids[i];
        // 0 − key: an inner product of nothing is 0, not −0.
        scores[q * k + i] = metric === "l2" ? offset + found.keys[i] : 0 - found.keys[i];
      }
    }
    return { count, k, ids, scores };
  }

  /** Offers every vector by its key: |x̂|² − 2⟨q, x̂⟩, or −⟨q, x̂⟩; the smallest are the nearest. */
  private *scan(
    tables: CodeTables,
    { metric, signal }: CheckedSearch,
    heap: NearestHeap,
    meter: StepMeter,
  ): Steps<void> {
    const add = addTables;
    const block = new Float64Array(Math.min(rowsPerBlock, this.count));
    for (let first = 0; first < this.count; first += block.length) {
      const rows = Math.min(block.length, this.count - first);
      const sums = block.subarray(0, rows);
      if (metric === "l2") sums.set(this.norms.subarray(first, first + rows));
      else sums.fill(0);
      add(this.columns, first, tables, sums);
      offerBelow(sums, first, heap);
      if (!meter.add(rows * (this.stages + 1) * lookupCost)) continue;
      signal?.throwIfAborted();
      yield;
    }
  }

  /** Gives the candidates the keys of their originals, canonical distances or inner products, and sorts the best k of them. */
  private *rankAgain(
    query: Float32Array,
    weighted: Float64Array,
    vectors: Float32Array,
    found: { readonly ids: Uint32Array; readonly keys: Float64Array },
    { k, metric, signal }: CheckedSearch,
    meter: StepMeter,
  ): Steps<void> {
    const { dim } = this;
    const heap = new NearestHeap(k);
    for (const id of found.ids.slice().sort()) {
      const original = stageRows("vectors", vectors, id, 1, dim);
      const key =
        metric === "l2"
          ? squaredDistance(query, 0, original, 0, dim, this.weights, Infinity)
          : -innerProduct(weighted, original, 0);
      // Looking at every original beforehand would take longer than the search.
      if (!Number.isFinite(key)) {
        const bad = firstBadInput(original, dim, false) ?? { row: 0, column: 0, kind: "not finite" };
        throw badInput("vectors", bad, id, original[bad.column]);
      }
      if (key < heap.bound) heap.offer(key, id);
      if (!meter.add(2 * dim)) continue;
      signal?.throwIfAborted();
      yield;
    }
    yield* heap.drain(found.keys, found.ids);
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

/** weights[dim], ones where there are none. */
function inFloat64(weights: Float32Array | null, dim: number): Float64Array {
  return weights === null ? new Float64Array(dim).fill(1) : Float64Array.from(weights);
}
