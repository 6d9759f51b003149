// Everything but the search in plain TypeScript: reconstructions, distances and statistics, row by row.
//
// Four elements a turn: V8 checks kind, place and length of every array again in every turn of a loop.

import type {
  AccumulateRequest,
  CodeArray,
  DecodeRequest,
  DistanceRequest,
  LowerDistancesRequest,
} from "../backend.js";
import { squaredDistance } from "../canonical.js";
import { StepMeter, type Steps } from "../time-slice.js";
import type { JsCodebook } from "./codebook.js";

/** Elements of the rows that one call of such a function goes over. */
const elementsTogether = 8192;

export function* decodeSteps(codebooks: readonly JsCodebook[], request: DecodeRequest): Steps<void> {
  const { count, stages } = request;
  const { dim } = codebooks[0];
  const meter = new StepMeter();
  for (const [first, end] of ranges(count, dim)) {
    request.vectors.fill(0, first * dim, end * dim);
    for (let stage = 0; stage < stages; stage++) addStage(codebooks[stage], request, stage, first, end);
    if (meter.add((end - first) * stages * dim)) yield;
  }
}

/** vectors[n] += the codeword of stage `stage`, rounded to float32 by the store. */
function addStage(codebook: JsCodebook, request: DecodeRequest, stage: number, first: number, end: number): void {
  const { dim } = codebook;
  const { codes, codeStages, vectors } = request;
  for (let n = first; n < end; n++) addCodeword(codebook, codes[n * codeStages + stage], vectors, n * dim);
}

function addCodeword({ codewords, dim }: JsCodebook, code: number, out: Float32Array, offset: number): void {
  const c = code * dim;
  const whole = dim - (dim % 4);
  for (let i = 0; i < whole; i += 4) {
    const y0 = out[offset + i] + codewords[c + i];
    const y1 = out[offset + i + 1] + codewords[c + i + 1];
    const y2 = out[offset + i + 2] + codewords[c + i + 2];
    const y3 = out[offset + i + 3] + codewords[c + i + 3];
    out[offset + i] = y0;
    out[offset + i + 1] = y1;
    out[offset + i + 2] = y2;
    out[offset + i + 3] = y3;
  }
  for (let i = whole; i < dim; i++) out[offset + i] += codewords[c + i];
}

export function* distanceSteps(codebooks: readonly JsCodebook[], request: DistanceRequest): Steps<void> {
  const { count, stages } = request;
  const { dim } = codebooks[0];
  const reconstruction = new Float32Array(dim);
  const meter = new StepMeter();
  for (const [first, end] of ranges(count, dim)) {
    for (let n = first; n < end; n++) measureRow(codebooks, request, n, reconstruction);
    if (meter.add((end - first) * 2 * stages * dim)) yield;
  }
}

/** distances[n][s] for every stage; `reconstruction` is scratch. */
function measureRow(
  codebooks: readonly JsCodebook[],
  request: DistanceRequest,
  n: number,
  reconstruction: Float32Array,
): void {
  const { vectors, codes, codeStages, stages, distances, weighted } = request;
  const { dim, weights } = codebooks[0];
  reconstruction.fill(0);
  for (let stage = 0; stage < stages; stage++) {
    addCodeword(codebooks[stage], codes[n * codeStages + stage], reconstruction, 0);
    distances[n * stages + stage] = squaredDistance(
      vectors,
      n * dim,
      reconstruction,
      0,
      dim,
      weighted ? weights : null,
      Infinity,
    );
  }
}

export function* accumulateSteps(request: AccumulateRequest): Steps<void> {
  const { count, dim, gridExponents, previousCodes } = request;
  const meter = new StepMeter();
  const scales = Float64Array.from(gridExponents, (exponent) => 2 ** -exponent);
  const negatedScales = scales.map((scale) => -scale);
  for (const [first, end] of ranges(count, dim)) {
    if (previousCodes === undefined) accumulateRows(request, scales, first, end);
    else moveRows(request, previousCodes, scales, negatedScales, first, end);
    if (meter.add((end - first) * dim)) yield;
  }
}

/** |x / q| ≤ 2^51, so adding and subtracting this rounds to the nearest integer, ties to even. */
const rounder = 1.5 * 2 ** 52;

function accumulateRows(request: AccumulateRequest, scales: Float64Array, first: number, end: number): void {
  const { vectors, dim, codes, counts, sums } = request;
  for (let n = first; n < end; n++) {
    counts[codes[n]] += 1;
    addOnGrid(vectors, n * dim, scales, sums, codes[n] * dim);
  }
}

/** Rows whose code is another than before move from one codeword to the other; negated scales take away what they add. */
function moveRows(
  request: AccumulateRequest,
  previousCodes: CodeArray,
  scales: Float64Array,
  negatedScales: Float64Array,
  first: number,
  end: number,
): void {
  const { vectors, dim, codes, counts, sums } = request;
  for (let n = first; n < end; n++) {
    if (codes[n] === previousCodes[n]) continue;
    counts[previousCodes[n]] -= 1;
    addOnGrid(vectors, n * dim, negatedScales, sums, previousCodes[n] * dim);
    counts[codes[n]] += 1;
    addOnGrid(vectors, n * dim, scales, sums, codes[n] * dim);
  }
}

/** sums[i] += x_i / q_i, rounded. */
function addOnGrid(vectors: Float32Array, row: number, scales: Float64Array, sums: Float64Array, sum: number): void {
  const dim = scales.length;
  const whole = dim - (dim % 4);
  for (let i = 0; i < whole; i += 4) {
    const t0 = vectors[row + i] * scales[i] + rounder - rounder;
    const t1 = vectors[row + i + 1] * scales[i + 1] + rounder - rounder;
    const t2 = vectors[row + i + 2] * scales[i + 2] + rounder - rounder;
    const t3 = vectors[row + i + 3] * scales[i + 3] + rounder - rounder;
    sums[sum + i] += t0;
    sums[sum + i + 1] += t1;
    sums[sum + i + 2] += t2;
    sums[sum + i + 3] += t3;
  }
  for (let i = whole; i < dim; i++) sums[sum + i] += vectors[row + i] * scales[i] + rounder - rounder;
}

export function* lowerDistancesSteps(request: LowerDistancesRequest): Steps<void> {
  const { count, dim } = request;
  const meter = new StepMeter();
  for (const [first, end] of ranges(count, dim)) {
    lowerRows(request, first, end);
    if (meter.add((end - first) * 2 * dim)) yield;
  }
}

function lowerRows(
  { vectors, dim, weights, centre, distances }: LowerDistancesRequest,
  first: number,
  end: number,
): void {
  for (let n = first; n < end; n++) {
    const distance = squaredDistance(vectors, n * dim, centre, 0, dim, weights, distances[n]);
    if (distance < distances[n]) distances[n] = distance;
  }
}

/** 0 … count − 1 in ranges [first, end) of rows of D elements. */
function* ranges(count: number, dim: number): Generator<[number, number], void, undefined> {
  const rows = Math.max(1, Math.floor(elementsTogether / dim));
  for (let first = 0; first < count; first += rows) yield [first, Math.min(count, first + rows)];
}
