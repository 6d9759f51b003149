// Statistics: what a step of codebook learning needs to know of many vectors, accumulated in shards and merged in any order.

import {
  checkInteger,
  checkOptions,
  checkRequiredOptions,
  checkSignal,
  checkVectors,
  checkWorkers,
  limits,
  mapList,
} from "./check.js";
import { gatherCounting } from "./counting-rows.js";
import { invalidArgument } from "./errors.js";
import { openBackend } from "./open-backend.js";
import type { BackendChoiceOptions } from "./quantizer-options.js";
import { makeReadOnly } from "./read-only.js";
import { ResidualQuantizer } from "./residual-quantizer.js";
import { checkRows, type RowOptions } from "./row-options.js";
import { addSums, emptySums, massesOf, type StageSums, stageGrids, type VectorRange } from "./stage-sums.js";
import { type Usage, usageOfCounts } from "./statistics.js";
import { checkRange, type StatisticsContent, statisticsFromBytes, statisticsToBytes } from "./statistics-file.js";
import { type Adding, allDone, cutShards, sumInWorker, sumShard } from "./statistics-shards.js";
import { workerFile } from "./statistics-workers.js";

/**
 * The range of the rows of vectors[N][dim] that count.
 * @throws RvqError INVALID_ARGUMENT, NOT_FINITE for infinity (`add` refuses NaN)
 */
export async function vectorRange(
  vectors: Float32Array,
  options: RowOptions & { readonly dim: number },
): Promise<VectorRange> {
  checkRequiredOptions("options", options);
  const dim = checkInteger("dim", options.dim, 1, limits.dim);
  const plain = checkVectors("vectors", vectors, dim);
  return (await gatherCounting("vectors", plain, dim, checkRows(options, plain.length / dim))).range;
}

/**
 * The range of all rows of several ranges, in whatever order: what their shards agree on.
 * @throws RvqError INVALID_ARGUMENT
 */
export function mergeRanges(ranges: readonly VectorRange[]): VectorRange {
  if (!Array.isArray(ranges) || ranges.length === 0) throw invalidArgument("ranges", "at least one range", ranges);
  const dim = checkInteger("ranges[0].magnitudes.length", ranges[0]?.magnitudes?.length, 1, limits.dim);
  return mapList(ranges, (range, i) => checkRange(`ranges[${i}]`, range, dim)).reduce((a, b) => ({
    rows: checkInteger("rows", a.rows + b.rows, 0, 2 ** 50),
    magnitudes: a.magnitudes.map((magnitude, i) => Math.max(magnitude, b.magnitudes[i])),
    // Where some shards have weights, the rows of the others count as 1.
    maxWeight: a.maxWeight === null && b.maxWeight === null ? null : Math.max(largestWeight(a), largestWeight(b)),
  }));
}

function largestWeight({ rows, maxWeight }: VectorRange): number {
  return maxWeight ?? (rows === 0 ? 0 : 1);
}

export interface AddOptions extends RowOptions {
  /**
   * Worker threads that share the rows, each with a backend of its own; they start and end with the call, some tenths of a second
   * each. Default 1: this thread, whose backend may use threads of its own.
   */
  readonly workers?: number;
  readonly signal?: AbortSignal;
}

/**
 * Counts and exact sums of the vectors that each codeword of a quantizer serves, in every stage those of its residuals.
 *
 * The sums are integers on grids that the quantizer and a range decide, so shards that agree on both merge to the very numbers of a
 * single pass, in any order, on any backend.
 */
export class Statistics {
  readonly dim: number;
  readonly codebookSizes: readonly number[];
  /** `id` of the quantizer. */
  readonly quantizerId: string;
  /** What the shards have agreed on. */
  readonly range: VectorRange;
  private rowsAdded: number;
  /** @internal */
  readonly stageSums: readonly StageSums[];
  /** What adds rows; null for statistics from bytes. */
  private readonly adding: Adding | null;

  private constructor(content: StatisticsContent, adding: Adding | null) {
    this.dim = content.dim;
    this.codebookSizes = content.stages.map(({ masses }) => masses.length - 1);
    this.quantizerId = content.quantizerId;
    this.range = content.range;
    this.rowsAdded = content.rows;
    this.stageSums = content.stages;
    this.adding = adding;
    makeReadOnly(this, ["dim", "codebookSizes", "quantizerId", "range"]);
    Object.freeze(this.range.magnitudes);
    Object.freeze(this.range);
  }

  /**
   * Empty statistics by the codes of a quantizer, for vectors of a range: `vectorRange` of all of them, or `mergeRanges` of the ranges
   * of all shards.
   * @throws RvqError INVALID_ARGUMENT, BACKEND_UNAVAILABLE
   */
  static async start(
    quantizer: ResidualQuantizer,
    range: VectorRange,
    options: BackendChoiceOptions = {},
  ): Promise<Statistics> {
    if (!(quantizer instanceof ResidualQuantizer)) throw invalidArgument("quantizer", "a ResidualQuantizer", quantizer);
    checkOptions("options", options);
    const { dim, metric, id } = quantizer;
    const agreed = checkRange("range", range, dim);
    const { threads, device } = options;
    const engine = openBackend(options.backend ?? quantizer.backend, threads, device);
    const spec = { dim, metric, weights: quantizer.weights(), codebooks: quantizer.codebooks() };
    const grids = await stageGrids("range", agreed, spec);
    const stages = grids.map((grid, stage) =>
      emptySums(quantizer.codebookSizes[stage], grid, agreed.maxWeight !== null),
    );
    return new Statistics({ dim, quantizerId: id, range: agreed, rows: 0, stages }, { engine, spec, threads, device });
  }

  /**
   * Statistics from the bytes of `toBytes`. They merge and give codebooks; `start` makes ones that rows can be added to.
   * @throws RvqError INVALID_STATISTICS
   */
  static fromBytes(bytes: Uint8Array): Statistics {
    return new Statistics(statisticsFromBytes("bytes", bytes), null);
  }

  /** Rows added or merged so far. */
  get rows(): number {
    return this.rowsAdded;
  }

  /**
   * Adds vectors[N][dim]; an error or an abort adds nothing.
   * @throws RvqError INVALID_ARGUMENT, also for rows outside the range; NOT_FINITE, ZERO_VECTOR; the signal's reason when aborted
   */
  async add(vectors: Float32Array, options: AddOptions = {}): Promise<void> {
    if (this.adding === null) throw invalidArgument("statistics", "ones made by start", "ones from bytes");
    const { adding, dim, range } = this;
    checkOptions("options", options);
    const signal = checkSignal("signal", options.signal);
    signal?.throwIfAborted();
    const workers = checkWorkers(options.workers);
    const plain = checkVectors("vectors", vectors, dim);
    const rows = await gatherCounting("vectors", plain, dim, checkRows(options, plain.length / dim));
    this.checkInside(rows.range);
    const weighted = range.maxWeight !== null;
    const weights = weighted ? (rows.weights ?? new Float32Array(rows.range.rows).fill(1)) : null;
    const shards = cutShards({ ...rows, weights }, dim, workers);
    const file = shards.length > 1 ? workerFile() : null;
    const added = await allDone(
      shards.map((shard) =>
        file === null
          ? sumShard(adding, this.stageSums, shard, signal)
          : sumInWorker(file, adding, range, shard, shards.length, signal).catch(() => {
              // Here it works, or fails with the right words.
              signal?.throwIfAborted();
              return sumShard(adding, this.stageSums, shard, signal);
            }),
      ),
    );
    this.addAll(added, rows.range.rows);
  }

  /**
   * Adds the rows of other statistics by the same quantizer and range.
   * @throws RvqError INVALID_ARGUMENT
   */
  merge(other: Statistics): void {
    if (!(other instanceof Statistics)) throw invalidArgument("other", "Statistics", other);
    const agreement = ({ quantizerId, range, stageSums }: Statistics) =>
      JSON.stringify([quantizerId, range, stageSums.map(({ statistics }) => [...statistics.gridExponents])]);
    if (agreement(this) !== agreement(other)) {
      throw invalidArgument("other", "statistics by the same quantizer and range", "ones by others");
    }
    this.addAll([other.stageSums], other.rows);
  }

  /** Counts (or sums of row weights), perplexity and fraction used of every stage. */
  usage(): Usage[] {
    return this.stageSums.map((sums) => usageOfCounts(massesOf(sums)));
  }

  /**
   * The codebooks whose codewords are the means of their vectors; those without vectors are the quantizer's. For a single stage that
   * is an iteration of k-means.
   * @param quantizer that which the statistics were made by
   * @throws RvqError INVALID_ARGUMENT
   */
  codebooks(quantizer: ResidualQuantizer): Float32Array[] {
    if (!(quantizer instanceof ResidualQuantizer) || quantizer.id !== this.quantizerId) {
      throw invalidArgument("quantizer", "the one that the statistics were made by", "another");
    }
    return quantizer.codebooks().map((codebook, stage) => {
      const { dim } = this;
      const sums = this.stageSums[stage];
      const grids = Float64Array.from(sums.statistics.gridExponents, (exponent) => 2 ** exponent);
      for (const [k, mass] of massesOf(sums).entries()) {
        if (mass === 0) continue;
        const mean = Float32Array.from(grids, (grid, i) => (sums.statistics.sums[k * dim + i] * grid) / mass);
        // With the cosine metric a codeword needs a direction.
        if (quantizer.metric !== "cosine" || mean.some((value) => value !== 0)) codebook.set(mean, k * dim);
      }
      return codebook;
    });
  }

  /** The same bytes for the same quantizer, range and rows, however they were sharded. */
  toBytes(): Uint8Array {
    const { dim, quantizerId, range, rows, stageSums: stages } = this;
    return statisticsToBytes({ dim, quantizerId, range, rows, stages });
  }

  private addAll(parts: readonly (readonly StageSums[])[], rows: number): void {
    const total = this.rowsAdded + rows;
    if (total > this.range.rows) throw invalidArgument("rows", `at most ${this.range.rows}, as the range says`, total);
    for (const stages of parts) for (const [stage, sums] of stages.entries()) addSums(this.stageSums[stage], sums);
    this.rowsAdded = total;
  }

  private checkInside({ rows, magnitudes, maxWeight }: VectorRange): void {
    const { range } = this;
    if (rows > range.rows) throw invalidArgument("rows", `at most ${range.rows}, as the range says`, rows);
    const column = magnitudes.findIndex((magnitude, i) => magnitude > range.magnitudes[i]);
    if (column >= 0) {
      const most = range.magnitudes[column];
      throw invalidArgument("vectors", `magnitudes of at most ${most} in column ${column}`, magnitudes[column]);
    }
    if (maxWeight !== null && range.maxWeight === null) {
      throw invalidArgument("weights", "none, as the range says", "some");
    }
    if (range.maxWeight !== null && (maxWeight ?? 1) > range.maxWeight) {
      throw invalidArgument("weights", `at most ${range.maxWeight}, as the range says`, maxWeight ?? 1);
    }
  }
}
