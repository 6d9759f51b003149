// The error of reconstructions from every number of stages, summed chunk by chunk.

import type { CodebookSpec, PreparedCodebooks, StagingMemory } from "./backend.js";
import { firstBadInput } from "./bad-input.js";
import { squaredDistance } from "./canonical.js";
import { badInput, type Codes, checkCodeRange } from "./check.js";
import { StagedRows, stageRows } from "./staging.js";

/** Error of a reconstruction from the first `stages` stages, over all vectors of the call. */
export interface Distortion {
  readonly stages: number;
  /** Mean over vectors of the squared (with weights: weighted squared) distance to the reconstruction. */
  readonly distortion: number;
  /** Mean squared error per element, without weights. */
  readonly mse: number;
  /** 10·log10(Σ x² / Σ (x − x̂)²). */
  readonly snrDb: number;
}

/** What was measured of one chunk. */
export interface MeasuredChunk {
  /** vectors[rows][dim] */
  readonly vectors: Float32Array;
  /** distances[rows][stages]; the second the same array as the first where there are no weights. */
  readonly distances: Float64Array;
  readonly weightedDistances: Float64Array;
}

/** Sums over vectors[count][dim] and their codes, in row order in float64: the same bits on every backend. To be closed. */
export class DistortionSums {
  private energy = 0;
  private readonly errors: Float64Array;
  private readonly weightedErrors: Float64Array;
  private readonly codebookSizes: readonly number[];
  private readonly staging: StagedRows<Float32Array>;

  constructor(
    private readonly spec: CodebookSpec,
    private readonly prepared: PreparedCodebooks,
    vectors: Float32Array,
    private readonly codes: Codes,
    memory: StagingMemory | undefined,
  ) {
    this.staging = new StagedRows("vectors", vectors, spec.dim, memory);
    this.errors = new Float64Array(codes.stages);
    this.weightedErrors = spec.weights === null ? this.errors : new Float64Array(codes.stages);
    this.codebookSizes = spec.codebooks.map((codebook) => codebook.length / spec.dim);
  }

  /** @throws RvqError NOT_FINITE, CODE_OUT_OF_RANGE */
  async measure(firstRow: number, rows: number, chunkOf: object | undefined): Promise<MeasuredChunk> {
    const { dim, weights } = this.spec;
    const { stages, data } = this.codes;
    const vectors = this.staging.copy(firstRow, rows);
    const bad = firstBadInput(vectors, dim, false);
    if (bad !== null) throw badInput("vectors", bad, firstRow, vectors[bad.row * dim + bad.column]);
    const codes = stageRows("codes.data", data, firstRow, rows, stages);
    checkCodeRange("codes", codes, stages, this.codebookSizes, firstRow);
    const measure = async (weighted: boolean) => {
      const distances = new Float64Array(rows * stages);
      const codesOfRows = { codes, codeStages: stages, stages };
      await this.prepared.distances({ vectors, count: rows, ...codesOfRows, weighted, distances, chunkOf });
      return distances;
    };
    const distances = await measure(false);
    return { vectors, distances, weightedDistances: weights === null ? distances : await measure(true) };
  }

  /** Adds the chunks, which come in row order. */
  add({ vectors, distances, weightedDistances }: MeasuredChunk): void {
    const { dim, weights } = this.spec;
    this.energy = energyOfRows(vectors, dim, this.energy);
    addRows(this.errors, distances);
    if (weights !== null) addRows(this.weightedErrors, weightedDistances);
    this.staging.release(vectors);
  }

  /** Once all chunks have settled. */
  close(): void {
    this.staging.close();
  }

  /** For the first 1, 2, … stages. */
  result(): Distortion[] {
    const { count } = this.codes;
    return Array.from(this.errors, (error, stage) => ({
      stages: stage + 1,
      distortion: this.weightedErrors[stage] / count,
      mse: error / (count * this.spec.dim),
      snrDb: 10 * Math.log10(this.energy / error),
    }));
  }
}

/** energy + Σ |x|² of vectors[…][dim], added in row order. */
export function energyOfRows(vectors: Float32Array, dim: number, energy = 0): number {
  const origin = new Float32Array(dim);
  let sum = energy;
  for (let start = 0; start < vectors.length; start += dim) {
    sum += squaredDistance(vectors, start, origin, 0, dim, null, Infinity);
  }
  return sum;
}

/** totals[columns] += the rows of matrix[…][columns], in row order. */
function addRows(totals: Float64Array, matrix: Float64Array): void {
  const columns = totals.length;
  for (let i = 0; i < matrix.length; i++) totals[i % columns] += matrix[i];
}
