// What is computed row by row, by WebAssembly SIMD and a block at a time: reconstructions and canonical distances.
//
// Nothing is kept in the memory from one block to the next, so a call may pause between any two.

import type { CodeArray, DecodeRequest, DistanceRequest, LowerDistancesRequest } from "../../backend.js";
import { StepMeter, type Steps } from "../../time-slice.js";
import { type Engine, SavedState, type Segment } from "./engine.js";
import { lanes } from "./exact-kernels.js";

/** Elements of a block: 64 KiB of rows, copied and read while they are in the cache. */
const blockElements = 16_384;
/** Longer rows are left to the plain loops. */
export const largestRowDim = 16_384;

export function* lowerDistancesSteps(engine: Engine, request: LowerDistancesRequest): Steps<void> {
  const { vectors, count, dim, weights, centre, distances } = request;
  const work = new RowBlock(engine, dim);
  const meter = new StepMeter();
  for (let firstRow = 0; firstRow < count; firstRow += work.rows) {
    const rows = Math.min(work.rows, count - firstRow);
    work.begin(weights);
    const { floats, doubles } = engine;
    floats.set(vectors.subarray(firstRow * dim, (firstRow + rows) * dim), work.vectors / 4);
    floats.set(centre, work.others / 4);
    doubles.set(distances.subarray(firstRow, firstRow + rows), work.distances / 8);
    work.lower(rows, 0, weights !== null);
    distances.set(doubles.subarray(work.distances / 8, work.distances / 8 + rows), firstRow);
    if (meter.add(rows * dim)) yield;
  }
}

/** codewords[s]: the codebook of stage s. */
export function* decodeSteps(
  engine: Engine,
  codewords: readonly Segment[],
  dim: number,
  request: DecodeRequest,
): Steps<void> {
  const { codes, count, codeStages, stages, vectors } = request;
  const work = new RowBlock(engine, dim);
  const meter = new StepMeter();
  for (let firstRow = 0; firstRow < count; firstRow += work.rows) {
    const rows = Math.min(work.rows, count - firstRow);
    work.begin(null);
    work.clear(rows);
    for (let stage = 0; stage < stages; stage++) {
      work.add(codewords[stage], codes, firstRow * codeStages + stage, codeStages, rows);
    }
    const start = work.others / 4;
    vectors.set(engine.floats.subarray(start, start + rows * dim), firstRow * dim);
    if (meter.add(stages * rows * dim)) yield;
  }
}

/** codewords[s]: the codebook of stage s. */
export function* distanceSteps(
  engine: Engine,
  codewords: readonly Segment[],
  dim: number,
  weights: Float32Array | null,
  request: DistanceRequest,
): Steps<void> {
  const { vectors, count, codes, codeStages, stages, distances } = request;
  const work = new RowBlock(engine, dim);
  const meter = new StepMeter();
  for (let firstRow = 0; firstRow < count; firstRow += work.rows) {
    const rows = Math.min(work.rows, count - firstRow);
    work.begin(weights);
    engine.floats.set(vectors.subarray(firstRow * dim, (firstRow + rows) * dim), work.vectors / 4);
    work.clear(rows);
    for (let stage = 0; stage < stages; stage++) {
      work.add(codewords[stage], codes, firstRow * codeStages + stage, codeStages, rows);
      const { doubles } = engine;
      const results = work.distances / 8;
      doubles.fill(Infinity, results, results + rows);
      work.lower(rows, 4 * dim, weights !== null);
      for (let r = 0; r < rows; r++) distances[(firstRow + r) * stages + stage] = doubles[results + r];
    }
    if (meter.add(stages * rows * dim)) yield;
  }
}

/** What `lowerDistances` reads at these addresses for rows of D elements. */
export function placeMaskAndWeights(
  { words, doubles }: Engine,
  dim: number,
  weights: Float32Array | null,
  maskAddress: number,
  weightsAddress: number,
): void {
  const mask = maskAddress / 4;
  words.fill(0, mask, mask + 2 * lanes);
  words.fill(0xffffffff, mask, mask + 2 * (dim % lanes));
  if (weights === null) return;
  doubles.fill(0, weightsAddress / 8 + dim, weightsAddress / 8 + dim + lanes);
  doubles.set(weights, weightsAddress / 8);
}

/** Addresses in bytes of one block. */
class RowBlock {
  readonly rows: number;
  /** [rows][D], and what they are compared with: [rows][D] or [D]. Each with room to read eight elements at the end. */
  readonly vectors: number;
  readonly others: number;
  /** [rows] float64 */
  readonly distances: number;
  /** [rows] uint32 */
  readonly codes: number;
  /** [D up to a multiple of 8] float64 */
  private readonly weights: number;
  /** [8] of 64 bits */
  private readonly mask: number;
  private readonly state = new SavedState(0);

  constructor(
    private readonly engine: Engine,
    private readonly dim: number,
  ) {
    this.rows = Math.max(1, Math.floor(blockElements / Math.max(8, dim)));
    let next = 0;
    const room = (bytes: number) => {
      const address = next;
      next += Math.ceil(bytes / 16) * 16;
      return address;
    };
    this.mask = room(64);
    this.weights = room(8 * (dim + 8));
    this.distances = room(8 * this.rows);
    this.codes = room(4 * this.rows);
    this.vectors = room(4 * (this.rows * dim + 8));
    this.others = room(4 * (this.rows * dim + 8));
  }

  /** Takes the memory over; what another block left there is gone. */
  begin(weights: Float32Array | null): void {
    const { engine, dim } = this;
    engine.enter(this.state);
    placeMaskAndWeights(engine, dim, weights, this.mask, this.weights);
  }

  /** others[rows][D] = 0 */
  clear(rows: number): void {
    this.engine.floats.fill(0, this.others / 4, this.others / 4 + rows * this.dim);
  }

  /** others[r] += the codeword of codes[first + r·stride] */
  add(codewords: Segment, codes: CodeArray, first: number, stride: number, rows: number): void {
    const codebook = this.engine.place(codewords);
    const { words, kernels } = this.engine;
    const to = this.codes / 4;
    for (let r = 0; r < rows; r++) words[to + r] = codes[first + r * stride];
    kernels.addCodewords(this.others, rows, this.dim, codebook, this.codes);
  }

  lower(rows: number, otherBytes: number, weighted: boolean): void {
    const { lowerDistances, lowerWeightedDistances } = this.engine.kernels;
    const lower = weighted ? lowerWeightedDistances : lowerDistances;
    lower(this.vectors, rows, this.dim, this.others, otherBytes, this.weights, this.mask, this.distances);
  }
}
