// The parts of a ProjectedQuantizer in a backend's hands: rows of vectors to codes, and codes to sums of reconstructions.

import type {
  Backend,
  BadInput,
  CodeArray,
  CodebookSpec,
  PreparedCodebooks,
  PreparedProjection,
  ProjectRequest,
} from "./backend.js";
import { badInput, isZeroRow } from "./check.js";
import { newCodeArray } from "./code-array.js";
import { putColumns, takeColumns } from "./column-groups.js";
import { RvqError } from "./errors.js";
import type { Operations } from "./operations.js";
import { codebooksOf, type ProjectedPart, type ProjectedSpec } from "./projected-options.js";

/** Rows of a call, of which the first is row `firstRow` of what the caller gave. */
export interface PartRows {
  readonly firstRow: number;
  readonly rows: number;
  readonly chunkOf: object | undefined;
}

/** Codes have a column for each stage of each part: those of part 0, then those of part 1, … */
export class PreparedParts {
  readonly dim: number;
  readonly codebookSizes: readonly number[];
  /** About what encoding a vector takes, a multiply-add in float64 counting as several of a search. */
  readonly multiplyAddsPerVector: number;
  private readonly parts: readonly PreparedPart[];

  constructor(
    backend: Backend,
    private readonly spec: ProjectedSpec,
  ) {
    this.dim = spec.dim;
    this.parts = spec.parts.map((part) => new PreparedPart(backend, part, spec));
    this.codebookSizes = this.parts.flatMap(({ codebookSizes }) => codebookSizes);
    this.multiplyAddsPerVector = spec.parts.reduce(
      (sum, { dim, codebooks }) =>
        sum + projectionCost * dim * spec.dim + codebooks.reduce((all, codebook) => all + codebook.length, 0),
      0,
    );
  }

  /** codes[rows][stages] of vectors[rows][dim], which are used up. */
  *encode(vectors: Float32Array, stages: number, codes: CodeArray, rows: PartRows): Operations<void> {
    const used = this.partsOf(stages);
    for (const [p, { part, first, count }] of used.entries()) {
      const own = newCodeArray(rows.rows * count, part.codebookSizes);
      yield* part.encode(vectors, count, own, rows, p > 0 && this.spec.arrangement === "residual");
      putColumns(own, codes, stages, { from: first, step: 1, width: count });
      if (this.spec.arrangement === "parallel" || p === used.length - 1) continue;
      yield* part.decode(own, count, "subtract", vectors, rows);
    }
  }

  /** vectors[rows][dim] = the reconstructions from the first `stages` columns of codes[rows][columns]. */
  *decode(codes: CodeArray, columns: number, stages: number, vectors: Float32Array, rows: PartRows): Operations<void> {
    vectors.fill(0);
    for (const used of this.partsOf(stages)) yield* this.addPart(used, codes, columns, vectors, rows);
  }

  /** Calls `visit(n, x̂)` with the reconstructions from the first n = 1, 2, … stages of codes[rows][stages]; x̂ is used again. */
  *prefixes(
    codes: CodeArray,
    stages: number,
    rows: PartRows,
    visit: (stages: number, reconstructions: Float32Array) => void,
  ): Operations<void> {
    const before = new Float32Array(rows.rows * this.dim);
    const vectors = new Float32Array(before.length);
    for (const { part, first, count } of this.partsOf(stages)) {
      for (let n = 1; n <= count; n++) {
        vectors.set(before);
        yield* this.addPart({ part, first, count: n }, codes, stages, vectors, rows);
        visit(first + n, vectors);
      }
      before.set(vectors);
    }
  }

  dispose(): void {
    for (const part of this.parts) part.dispose();
  }

  private *addPart(
    { part, first, count }: UsedPart,
    codes: CodeArray,
    columns: number,
    vectors: Float32Array,
    rows: PartRows,
  ): Operations<void> {
    const own = newCodeArray(rows.rows * count, part.codebookSizes);
    takeColumns(codes, columns, { from: first, step: 1, width: count }, own);
    yield* part.decode(own, count, "add", vectors, rows);
  }

  /** The parts that the first `stages` columns belong to, and how many of their stages. */
  private partsOf(stages: number): UsedPart[] {
    const used: UsedPart[] = [];
    let first = 0;
    for (const part of this.parts) {
      const count = Math.min(part.codebookSizes.length, stages - first);
      if (count > 0) used.push({ part, first, count });
      first += part.codebookSizes.length;
    }
    return used;
  }
}

/** Float64 has half the lanes, and the screens of a search are faster than multiply-adds. */
const projectionCost = 8;

interface UsedPart {
  readonly part: PreparedPart;
  /** The column of its first stage. */
  readonly first: number;
  /** How many of its stages. */
  readonly count: number;
}

class PreparedPart {
  private readonly vectorDim: number;
  private readonly dim: number;
  readonly codebookSizes: readonly number[];
  private readonly spec: CodebookSpec;
  private readonly codebooks: PreparedCodebooks;
  private readonly input: PreparedProjection | null;
  private readonly output: PreparedProjection | null;
  private codesOfZero: CodeArray | null = null;

  constructor(
    private readonly backend: Backend,
    part: ProjectedPart,
    { dim: vectorDim, metric }: ProjectedSpec,
  ) {
    this.vectorDim = vectorDim;
    this.dim = part.dim;
    this.spec = codebooksOf(part, metric);
    this.codebookSizes = part.codebooks.map((codebook) => codebook.length / part.dim);
    this.codebooks = backend.prepare(this.spec);
    this.input = part.input === null ? null : backend.prepareProjection(part.input);
    this.output = part.output === null ? null : backend.prepareProjection(part.output);
  }

  /** codes[rows][stages]; `residual`: the vectors are no longer the caller's own. */
  *encode(
    vectors: Float32Array,
    stages: number,
    codes: CodeArray,
    { firstRow, rows, chunkOf }: PartRows,
    residual: boolean,
  ): Operations<void> {
    const { input, codebooks, dim } = this;
    let searched = vectors;
    if (input !== null) {
      searched = new Float32Array(rows * dim);
      const request = { vectors, count: rows, projected: searched, into: "replace", chunkOf } as const;
      const bad = yield { later: () => input.project(request), now: () => input.projectSync(request) };
      if (bad !== null) throw this.badVector(bad, residual ? null : vectors, firstRow);
    }
    // A direction is what the cosine metric needs: the first codeword stands for vectors that have none.
    const zeroRows = this.spec.metric === "cosine" ? findZeroRows(searched, dim) : [];
    if (zeroRows.length > 0 && input === null) searched = vectors.slice();
    for (const row of zeroRows) searched.set(this.spec.codebooks[0].subarray(0, dim), row * dim);

    const request = { vectors: searched, count: rows, stages, codes, chunkOf };
    const bad = yield { later: () => codebooks.encode(request), now: () => codebooks.encodeSync(request) };
    if (bad !== null) throw this.badVector(bad, residual || input !== null ? null : vectors, firstRow);
    for (const row of zeroRows) codes.set(this.zeroCodes().subarray(0, stages), row * stages);
  }

  /** Adds the reconstructions of codes[rows][stages] to vectors[rows][…], or subtracts them. */
  *decode(
    codes: CodeArray,
    stages: number,
    into: "add" | "subtract",
    vectors: Float32Array,
    { firstRow, rows, chunkOf }: PartRows,
  ): Operations<void> {
    const { codebooks, output, dim } = this;
    const sums = new Float32Array(rows * dim);
    const request = { codes, count: rows, codeStages: stages, stages, vectors: sums, chunkOf };
    yield {
      later: async () => {
        await codebooks.decode(request);
        return null;
      },
      now: () => {
        codebooks.decodeSync(request);
        return null;
      },
    };
    if (output === null) return combine(sums, into, vectors);
    const projection: ProjectRequest = { vectors: sums, count: rows, projected: vectors, into, chunkOf };
    const bad = yield { later: () => output.project(projection), now: () => output.projectSync(projection) };
    if (bad !== null) throw overflow("codes", "codewords whose sum", firstRow + bad.row);
  }

  dispose(): void {
    this.codebooks.dispose();
    this.input?.dispose();
    this.output?.dispose();
  }

  /** `own`: the caller's vectors; null where those were finite, and what came of them is not. */
  private badVector(bad: BadInput, own: Float32Array | null, firstRow: number): RvqError {
    if (own === null) return overflow("vectors", "magnitudes whose projections and residuals", firstRow + bad.row);
    return badInput("vectors", bad, firstRow, own[bad.row * this.vectorDim + bad.column]);
  }

  /** Of the zero vector: code 0, as a residual that is zero has, then what that leaves over. */
  private zeroCodes(): CodeArray {
    if (this.codesOfZero !== null) return this.codesOfZero;
    const codes = newCodeArray(this.codebookSizes.length, this.codebookSizes);
    const [first, ...others] = this.spec.codebooks;
    if (others.length > 0) {
      const vectors = first.subarray(0, this.dim).map((x) => 0 - x);
      const prepared = this.backend.prepare({ ...this.spec, codebooks: others });
      prepared.encodeSync({ vectors, count: 1, stages: others.length, codes: codes.subarray(1) });
      prepared.dispose();
    }
    this.codesOfZero = codes;
    return codes;
  }
}

function findZeroRows(matrix: Float32Array, dim: number): number[] {
  const rows: number[] = [];
  for (let start = 0; start < matrix.length; start += dim) if (isZeroRow(matrix, start, dim)) rows.push(start / dim);
  return rows;
}

function combine(from: Float32Array, into: "add" | "subtract", to: Float32Array): void {
  if (into === "add") for (let i = 0; i < from.length; i++) to[i] += from[i];
  else for (let i = 0; i < from.length; i++) to[i] -= from[i];
}

function overflow(name: string, what: string, row: number): RvqError {
  return new RvqError("NOT_FINITE", `${name}: expected ${what} float32 can hold, got an overflow in row ${row}`);
}
