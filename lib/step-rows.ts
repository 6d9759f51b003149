// The rows of a step, which hand on what every stage came to, and update it: by arrays of the host, on this thread or in
// parts by workers, to the same numbers. lib/device/device-rows.ts has those on a device.

import type { Backend, CodeArray, CodebookSpec } from "./backend.js";
import { newCodeArray } from "./code-array.js";
import type { CountingRows } from "./counting-rows.js";
import { type AverageRule, averageSteps, type StageState } from "./moving-average.js";
import { type RowWorkers, sharedCopy, type WalkResult } from "./row-workers.js";
import { type StageErrors, stageErrors } from "./stage-errors.js";
import {
  addRows,
  addSums,
  emptySums,
  massesOf,
  type StageGrid,
  type StageSums,
  type VectorRange,
} from "./stage-sums.js";
import { type StageOfRows, type WalkOptions, walkStages } from "./stage-walk.js";
import { inSlices, runInSlices } from "./time-slice.js";

/** One stage of the M rows of a step that count, by the codebooks before the update, when its update is done. */
export interface StepStage {
  readonly stage: number;
  /** masses[K]: rows of every codeword, or sums of their weights. */
  readonly masses: Float64Array;
  readonly errors: StageErrors;
  /** Only until the visit is over, as `pick`. */
  measured(): Promise<MeasuredRows>;
  /** Codes and residuals of a few rows. */
  pick(rows: Uint32Array): Promise<PickedRows>;
}

export interface MeasuredRows {
  /** distances[M] = d64(residual, codeword), with the weights of the metric. */
  readonly distances: Float64Array;
  /** Whether a row counts in this stage. */
  counts(row: number): boolean;
}

export interface PickedRows {
  /** codes[R] of the stage */
  readonly codes: Uint32Array;
  /** residuals[R][D]: what the stage quantizes */
  readonly residuals: Float32Array;
}

/** What a step makes of the state of every stage. */
export interface StepUpdate {
  readonly before: readonly StageState[];
  /** Output. */
  readonly after: readonly StageState[];
  readonly decay: number;
  readonly average: AverageRule;
}

export interface StepWalk {
  readonly grids: readonly StageGrid[];
  /** stagesOfRow[M]: a row counts in so many stages; null: in all. */
  readonly stagesOfRow: Uint16Array | null;
  readonly update: StepUpdate;
  readonly signal: AbortSignal | undefined;
  /** Output codes[N][stages] of the batch; rows that do not count are left alone. */
  readonly codes: CodeArray;
}

export interface StepRows {
  /** rows[M]: where each is in the batch; null: all rows of the batch count. */
  readonly rows: Uint32Array | null;
  /** weights[M]; null: each counts as 1. */
  readonly weights: Float32Array | null;
  readonly range: VectorRange;
  /** [stages][D], the largest |c_i| of every stage; null where nobody has looked yet. */
  readonly codewordMagnitudes: Float32Array | null;
  /** Once: hands every stage on, in order. `visit` says whether it has changed the state after. */
  walk(step: StepWalk, visit: (stage: StepStage) => Promise<boolean>): Promise<void>;
}

/** Rows in memory of the host. Their vectors become residuals. */
export class HostRows implements StepRows {
  readonly rows: Uint32Array | null;
  readonly weights: Float32Array | null;
  readonly range: VectorRange;
  readonly codewordMagnitudes = null;

  constructor(
    private readonly backend: Backend,
    private readonly workers: RowWorkers | null,
    private readonly spec: CodebookSpec,
    private readonly counting: CountingRows,
  ) {
    this.rows = counting.rows;
    this.weights = counting.weights;
    this.range = counting.range;
  }

  async walk(step: StepWalk, visit: (stage: StepStage) => Promise<boolean>): Promise<void> {
    const { backend, workers, spec, counting } = this;
    const { grids, stagesOfRow, update, signal } = step;
    const visitRows = async (rows: StageOfRows, sums: StageSums) => {
      const errors = await stageErrors(rows, counting.weights, stagesOfRow, spec.codebooks.length);
      const { before, after, decay, average } = update;
      await runInSlices(averageSteps(before[rows.stage], sums, decay, average, after[rows.stage]));
      await visit(stageOf(rows, massesOf(sums), errors, spec.dim));
      await scatterCodes(rows, counting.rows, step.codes, spec.codebooks.length);
    };
    const results = workers === null ? null : await this.walkInWorkers(workers, step);
    if (results !== null) return this.visitParts(results, step, visitRows);

    const options: WalkOptions = { stagesOfRow, measure: true, signal, refuse: counting.refuse };
    await walkStages(backend, spec, counting.vectors, options, async (rows) => {
      const sums = emptySums(sizeOf(spec, rows.stage), grids[rows.stage], counting.weights !== null);
      await addRows(backend, sums, rows.residuals, rows.counted, counting.weights);
      await visitRows(rows, sums);
    });
  }

  /** Null where workers fail: here it works, or fails with the right words. */
  private async walkInWorkers(
    workers: RowWorkers,
    { grids, stagesOfRow, signal }: StepWalk,
  ): Promise<readonly WalkResult[] | null> {
    const { spec, counting } = this;
    const { vectors, weights, range } = counting;
    const parts = workers.parts(range.rows);
    if (!workers.usable || parts.length < 2) return null;
    const requests = parts.map(({ first, end }) => ({
      kind: "walk" as const,
      spec,
      grids,
      vectors: sharedCopy(vectors.subarray(first * spec.dim, end * spec.dim)),
      // Of a view, all that is behind it would be sent.
      weights: weights?.slice(first, end) ?? null,
      stagesOfRow: stagesOfRow?.slice(first, end) ?? null,
    }));
    let results: readonly WalkResult[];
    try {
      results = await workers.run(requests, signal);
    } catch {
      signal?.throwIfAborted();
      return null;
    }
    for (const [place, { bad }] of results.entries()) {
      if (bad !== null) throw counting.refuse({ ...bad, row: parts[place].first + bad.row });
    }
    return results;
  }

  /** The stages of all parts together. */
  private async visitParts(
    results: readonly WalkResult[],
    { grids, signal }: StepWalk,
    visit: (rows: StageOfRows, sums: StageSums) => Promise<void>,
  ): Promise<void> {
    const { spec, counting } = this;
    const { dim, codebooks, weights } = spec;
    const count = counting.range.rows;
    const residuals = counting.vectors;
    for (const [stage, codebook] of codebooks.entries()) {
      const parts = results.map(({ stages }) => stages[stage]);
      const size = sizeOf(spec, stage);
      const join = <Numbers extends { set(from: Numbers, at: number): void; length: number }>(
        into: Numbers,
        of: (part: (typeof parts)[number]) => Numbers,
      ): Numbers => {
        let next = 0;
        for (const part of parts) {
          into.set(of(part), next);
          next += of(part).length;
        }
        return into;
      };
      const codes = join(newCodeArray(count, [size + 1]), (part) => part.codes);
      const counted = join(newCodeArray(count, [size + 1]), (part) => part.counted);
      const distances = join(new Float64Array(count), (part) => part.distances);
      const plainDistances =
        weights === null ? distances : join(new Float64Array(count), (part) => part.plainDistances);
      const sums = emptySums(size, grids[stage], counting.weights !== null);
      for (const part of parts) addSums(sums, part.sums);
      await visit({ stage, residuals, codes, counted, distances, plainDistances }, sums);
      signal?.throwIfAborted();
      if (stage === codebooks.length - 1) return;
      await inSlices(residuals.length, dim, (from, to) => {
        for (let start = from; start < to; start += dim) {
          const codeword = codes[start / dim] * dim;
          for (let i = 0; i < dim; i++) residuals[start + i] -= codebook[codeword + i];
        }
      });
    }
  }
}

function stageOf(
  { stage, residuals, codes, counted, distances }: StageOfRows,
  masses: Float64Array,
  errors: StageErrors,
  dim: number,
): StepStage {
  return {
    ...{ stage, masses, errors },
    measured: async () => ({ distances, counts: (row) => counted[row] === codes[row] }),
    pick: async (rows) => ({ codes: rows.map((row) => codes[row]), residuals: pickRows(residuals, dim, rows) }),
  };
}

/** Rows of matrix[…][width], one after the other. */
export function pickRows(matrix: Float32Array, width: number, rows: Uint32Array): Float32Array {
  const picked = new Float32Array(rows.length * width);
  for (const [place, row] of rows.entries()) {
    picked.set(matrix.subarray(row * width, (row + 1) * width), place * width);
  }
  return picked;
}

/** Puts the stage's codes of the rows that count into data[N][stages]. */
function scatterCodes(
  { stage, codes }: StageOfRows,
  rows: Uint32Array | null,
  data: CodeArray,
  stages: number,
): Promise<void> {
  return inSlices(codes.length, 1, (from, to) => {
    for (let n = from; n < to; n++) data[(rows === null ? n : rows[n]) * stages + stage] = codes[n];
  });
}

function sizeOf({ dim, codebooks }: CodebookSpec, stage: number): number {
  return codebooks[stage].length / dim;
}
