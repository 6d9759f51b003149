// CodeIndex: the nearest of coded vectors to queries, by lookup tables (asymmetric distances), without decoding any of them.

import type { Backend, CodeColumns } from "../backend.js";
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
import { openBackend } from "../open-backend.js";
import { ProjectedQuantizer } from "../projected-quantizer.js";
import type { BackendChoiceOptions } from "../quantizer-options.js";
import { makeReadOnly } from "../read-only.js";
import { ResidualQuantizer } from "../residual-quantizer.js";
import { stageRows } from "../staging.js";
import { inSlices, runInSlices, StepMeter, type Steps } from "../time-slice.js";
import { codeColumns } from "./code-columns.js";
import { innerProduct, squaredNorm, squaredNorms } from "./lookup-tables.js";
import { NearestHeap } from "./nearest-heap.js";
import { scanCodes } from "./scan-codes.js";

export type SearchMetric = "l2" | "ip";

export interface IndexOptions extends BackendChoiceOptions {
  readonly signal?: AbortSignal;
}

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

/** Candidates by lookup tables, the best first. */
interface Candidates {
  readonly ids: Uint32Array;
  readonly keys: Float64Array;
}

/** Queries first … first + batch − 1 of a call: queries[batch][dim] as they are, and weighted. */
interface Batch {
  readonly queries: Float32Array;
  readonly weighted: Float64Array;
  readonly weights: Float64Array;
  readonly first: number;
  readonly batch: number;
}

/** Lookups and multiply-adds of a batch of queries. */
const workTogether = 1e8;
/** Candidates of a batch, and elements of its queries. */
const numbersTogether = 2 ** 20;

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
    private readonly engine: Backend,
    /** |x̂_n|² of each vector. */
    private readonly norms: Float64Array,
    dim: number,
  ) {
    this.count = norms.length;
    this.stages = columns.stages;
    this.dim = dim;
    makeReadOnly(this, ["count", "stages", "dim"]);
  }

  /**
   * An index of codes of a quantizer, or of their first stages; both are copied. Of a ProjectedQuantizer the codewords are those of
   * `projectedCodebooks()`. It takes a byte a code (two for K above 256, four above
   * 65,536) and 8 bytes a vector, whose squared length is computed here.
   * @param options `backend` and `threads` of its searches; default: the quantizer's backend
   * @throws RvqError INVALID_ARGUMENT, BACKEND_UNAVAILABLE, CODE_OUT_OF_RANGE, OUT_OF_MEMORY; the signal's reason when aborted
   */
  static async create(
    quantizer: ResidualQuantizer | ProjectedQuantizer,
    codes: Codes,
    options: IndexOptions = {},
  ): Promise<CodeIndex> {
    const projected = quantizer instanceof ProjectedQuantizer;
    if (!projected && !(quantizer instanceof ResidualQuantizer)) {
      throw invalidArgument("quantizer", "a ResidualQuantizer or a ProjectedQuantizer", quantizer);
    }
    checkOptions("options", options);
    const signal = checkSignal("signal", options.signal);
    signal?.throwIfAborted();
    const engine = openBackend(options.backend ?? quantizer.backend, options.threads, options.device);
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
    return new CodeIndex(codebooks, weights, columns, engine, norms, dim);
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
    return this.searchAll(plain, search);
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

  /** Batches of queries: their candidates by the tables, and what becomes of them. */
  private async searchAll(queries: Float32Array, search: CheckedSearch): Promise<Neighbours> {
    const { dim, engine, columns, codebooks } = this;
    const { k, metric, candidates, signal } = search;
    const count = queries.length / dim;
    const ids = allocate("neighbours", count * k, (length) => new Uint32Array(length));
    const scores = allocate("neighbours", count * k, (length) => new Float64Array(length));
    if (k === 0 || count === 0) return { count, k, ids, scores };

    const weights = inFloat64(metric === "l2" ? this.weights : null, dim);
    const norms = metric === "l2" ? this.norms : null;
    const together = this.queriesTogether(candidates);
    for (let first = 0; first < count; first += together) {
      const batch = Math.min(together, count - first);
      const own = queries.subarray(first * dim, (first + batch) * dim);
      const weighted = weightedRows(own, weights);
      const keys = allocate("candidates", batch * candidates, (length) => new Float64Array(length));
      const found = { keys, ids: new Uint32Array(keys.length) };
      const request = {
        ...{ columns, norms, codebooks, dim, candidates, count: batch, factor: metric === "l2" ? -2 : -1, ...found },
        queries: weighted,
      };
      if (engine.scanCodes === undefined) await runInSlices(scanCodes(request, signal));
      else await engine.scanCodes(request);
      signal?.throwIfAborted();
      await runInSlices(
        this.takeBatch({ queries: own, weighted, weights, first, batch }, found, search, { ids, scores }),
      );
    }
    return { count, k, ids, scores };
  }

  /** So many that a batch takes some tens of milliseconds, and its candidates and queries a few MiB. */
  private queriesTogether(candidates: number): number {
    const tables = this.codebooks.reduce((sum, codebook) => sum + codebook.length, 0);
    const work = tables + this.count * (this.stages + 1);
    const numbers = Math.min(numbersTogether / candidates, numbersTogether / this.dim);
    return Math.max(1, Math.floor(Math.min(workTogether / work, numbers)));
  }

  /** The best k candidates of each query of a batch into the neighbours' places, ranked again where there are originals. */
  private *takeBatch(
    { queries, weighted, weights, first, batch }: Batch,
    found: Candidates,
    search: CheckedSearch,
    { ids, scores }: Pick<Neighbours, "ids" | "scores">,
  ): Steps<void> {
    const { dim } = this;
    const { k, metric, vectors, candidates } = search;
    // One for all queries: a thousand of them are one long call.
    const meter = new StepMeter();
    for (let i = 0; i < batch; i++) {
      const place = (first + i) * k;
      const query = queries.subarray(i * dim, (i + 1) * dim);
      const [from, to] = [i * candidates, (i + 1) * candidates];
      const own = { ids: found.ids.subarray(from, to), keys: found.keys.subarray(from, to) };
      let offset = metric === "l2" ? squaredNorm(query, weights) : 0;
      if (vectors !== null) {
        yield* this.rankAgain(query, weighted.subarray(i * dim, (i + 1) * dim), vectors, own, search, meter);
        offset = 0;
      }
      for (let n = 0; n < k; n++) {
        ids[place + n] = own.ids[n];
        // 0 − key: an inner product of nothing is 0, not −0.
        scores[place + n] = metric === "l2" ? offset + own.keys[n] : 0 - own.keys[n];
      }
    }
  }

  /** Gives the candidates the keys of their originals, canonical distances or inner products, and sorts the best k of them. */
  private *rankAgain(
    query: Float32Array,
    weighted: Float64Array,
    vectors: Float32Array,
    found: Candidates,
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

/** weights[i] · rows[…][i] */
function weightedRows(rows: Float32Array, weights: Float64Array): Float64Array {
  const dim = weights.length;
  const weighted = new Float64Array(rows.length);
  for (let start = 0; start < rows.length; start += dim)
    for (let i = 0; i < dim; i++) weighted[start + i] = weights[i] * rows[start + i];
  return weighted;
}

/** weights[dim], ones where there are none. */
function inFloat64(weights: Float32Array | null, dim: number): Float64Array {
  return weights === null ? new Float64Array(dim).fill(1) : Float64Array.from(weights);
}
