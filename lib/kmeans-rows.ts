// The rows of a k-means training and what its iterations know of them, in memory of the host.

import { type Assignment, newAssignment } from "./assign-rows.js";
import type { Backend, CodeArray, Metric } from "./backend.js";
import { moveExcess } from "./balance.js";
import { isZeroRow } from "./check.js";
import { newCodeArray } from "./code-array.js";
import type { HeldRows } from "./resident.js";
import type { RowWorkers } from "./row-workers.js";
import { stageErrors } from "./stage-errors.js";
import { columnMagnitudes } from "./stage-sums.js";
import { emptyStatistics, gridExponentsOf, meanSteps, type StageStatistics } from "./statistics.js";
import { inSlices, runInSlices } from "./time-slice.js";
import { RowsHere, RowsOfWorkers, type TrainingRows } from "./training-rows.js";

export interface KmeansRows {
  /** Assigns the rows to the nearest codewords, then moves those that have rows to the means of these. */
  iterate(signal: AbortSignal | undefined): Promise<KmeansIteration>;
  /** After an iteration: codewords, to be read until the next one. */
  codebook(): Promise<Float32Array>;
  /** The same with the assignment, for clusters to start again elsewhere. */
  outcome(): Promise<KmeansOutcome>;
  /** The codewords of an outcome have been changed. */
  restart(codebook: Float32Array): Promise<void>;
  dispose(): void;
}

export interface KmeansIteration {
  /** Σ of the distances without weights, as `plain` of lib/stage-errors.ts. */
  readonly error: number;
  /** counts[K] of rows, a copy. */
  readonly counts: Float64Array;
  /** A row has another codeword than in the iteration before, or there was none. */
  readonly moved: boolean;
}

export interface KmeansOutcome {
  /** codebook[K][D], which may be changed. */
  readonly codebook: Float32Array;
  /** codes[N] of the assignment, and distances[N] to the codewords then, with weights. */
  readonly codes: CodeArray;
  readonly distances: Float64Array;
}

/** What iterations go by. */
export interface KmeansRule {
  readonly dim: number;
  readonly metric: Metric;
  readonly weights: Float32Array | null;
  /** λ of `meanSteps`. */
  readonly shrinkage: number;
  /** Rows that a cluster has at most, K · room ≥ N; N and more are no limit. */
  readonly room: number;
  /** Who assigns and sums parts of the rows; undefined: this thread. */
  readonly workers?: RowWorkers | undefined;
}

export class HostKmeansRows implements KmeansRows {
  private readonly rows: TrainingRows;
  private readonly assignment: Assignment;
  /** By distance alone: an assignment starts from the one before. */
  private readonly nearest: Assignment;
  /** What the assignment before used and gave: the backend searches less for it, and only rows that changed move. */
  private before: { readonly codebook: Float32Array; readonly codes: CodeArray } | undefined;

  private constructor(
    private readonly backend: Backend,
    private readonly vectors: Float32Array,
    held: HeldRows | null | undefined,
    private readonly codewords: Float32Array,
    private readonly statistics: StageStatistics,
    private readonly rule: KmeansRule,
  ) {
    const { dim, weights, room, workers } = rule;
    const here = new RowsHere(backend, vectors, held);
    this.rows = workers === undefined ? here : new RowsOfWorkers(workers, here, vectors, dim);
    const count = vectors.length / dim;
    this.assignment = newAssignment(count, statistics.counts.length, weights);
    this.nearest = room < count ? { ...this.assignment, codes: this.assignment.codes.slice() } : this.assignment;
  }

  /** Of vectors[N][D] and a codebook[K][D], which it changes. */
  static async open(
    backend: Backend,
    vectors: Float32Array,
    held: HeldRows | null | undefined,
    codebook: Float32Array,
    rule: KmeansRule,
  ): Promise<HostKmeansRows> {
    const statistics = emptyStatistics(codebook.length / rule.dim, await gridExponentsFor(vectors, rule.dim));
    return new HostKmeansRows(backend, vectors, held, codebook, statistics, rule);
  }

  async iterate(signal: AbortSignal | undefined): Promise<KmeansIteration> {
    const { backend, vectors, rows, assignment, nearest, codewords, statistics } = this;
    const { dim, metric, weights, shrinkage, room } = this.rule;
    const spec = { dim, metric, weights, codebooks: [codewords] };
    await rows.assign(spec, this.before?.codebook, nearest, signal);
    const { codes } = assignment;
    if (nearest !== assignment) {
      codes.set(nearest.codes);
      await moveExcess(backend, spec, vectors, assignment, room, signal);
    }
    // In the metric that decides: what weights hide is no reason to re-seed.
    const { plain } = await stageErrors({ stage: 0, ...assignment }, null, null, 1);
    const moved = this.before === undefined || !(await sameCodes(codes, this.before.codes));
    if (moved) await rows.accumulate(statistics, codes, this.before?.codes);

    this.before ??= {
      codebook: new Float32Array(codewords.length),
      codes: newCodeArray(codes.length, [statistics.counts.length]),
    };
    this.before.codebook.set(codewords);
    this.before.codes.set(codes);
    await runInSlices(meanSteps(statistics, codewords, shrinkage));
    if (metric === "cosine") keepNonZero(codewords, this.before.codebook, dim);
    return { error: plain, counts: statistics.counts.slice(), moved };
  }

  async codebook(): Promise<Float32Array> {
    return this.codewords;
  }

  async outcome(): Promise<KmeansOutcome> {
    const { codes, distances } = this.assignment;
    return { codebook: this.codewords, codes, distances };
  }

  async restart(): Promise<void> {}

  dispose(): void {}
}

/** With the cosine metric a codeword needs a direction: where the mean is exactly zero it keeps its earlier value. */
export function keepNonZero(codebook: Float32Array, before: Float32Array, dim: number): void {
  for (let start = 0; start < codebook.length; start += dim) {
    if (!isZeroRow(codebook, start, dim)) continue;
    codebook.set(before.subarray(start, start + dim), start);
  }
}

async function sameCodes(a: CodeArray, b: CodeArray): Promise<boolean> {
  let same = true;
  await inSlices(a.length, 1, (from, to) => {
    for (let i = from; same && i < to; i++) same = a[i] === b[i];
  });
  return same;
}

/** The grid of each dimension of vectors[N][D]: columns of very different scales (with weights to match) all keep their bits. */
export async function gridExponentsFor(vectors: Float32Array, dim: number): Promise<Int32Array> {
  return gridExponentsOf(await columnMagnitudes(vectors, dim), vectors.length / dim);
}
