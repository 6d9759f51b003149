// The TypeScript residual search: screen in float64, certify by an error bound, re-rank by the canonical distance.
//
// Screen. S_k = x·c_k − ½‖c_k‖² (the largest wins; ‖x − c_k‖² = ‖x‖² − 2·S_k), three rows by two codewords at a time in
// float64, which V8 keeps in registers. Only the best and the second-best score of a row are kept.
//
// Certify. With u = 2^-53, n the largest codeword norm and any order of summation, the computed S_k is within
// (D+4)·u·(‖x‖n + ½n²) of the true one; the canonical distance itself is within (D/8+9)·u of the true one, relatively,
// and the true one is at most (‖x‖+n)². Both together shift a score by less than E = (D+16)·u·(‖x‖+n)². A best score
// that leads by more than 2·E is therefore the unique smallest canonical distance. The same holds with weights, in the
// weighted norm. float64 holds the squares of all float32 values, so nothing over- or underflows here.
//
// Re-rank. Rows without that lead (near ties: one in 10^12 on ordinary data, most rows on integer grids) are scanned by
// the canonical distance, which stops early for codewords that are clearly farther than the screen's best.

import type { BadInput, DistanceRequest, EncodeRequest } from "../backend.js";
import { firstBadInput } from "../bad-input.js";
import { unitVector } from "../canonical.js";
import { StepMeter, type Steps } from "../time-slice.js";
import { type JsCodebook, type PairedCodebook, pairCodewords } from "./codebook.js";
import { scan } from "./scan.js";

/** Rows of one register tile; with two codewords its six float64 sums and five operands fit the 16 SSE registers. */
const tileRows = 3;

/** Codewords between two chances to pause, so that a pause is at most about a millisecond away at D = 1000. */
const codewordsPerStep = 1024;

/** Best and second-best screen score of each row of a tile, and where the best was (index among the distinct codewords). */
interface Lead {
  readonly best: Float64Array;
  readonly second: Float64Array;
  readonly index: Int32Array;
}

/** A way to search; all of them give the same codes. */
export interface Search {
  /** The residual search of lib/backend.ts. */
  encodeSteps(request: EncodeRequest): Steps<BadInput | null>;
  /** The distances of lib/backend.ts; null where there is nothing faster than the plain loop. */
  distanceSteps(request: DistanceRequest): Steps<void> | null;
  dispose(): void;
}

export class PlainSearch implements Search {
  private readonly codebooks: readonly PairedCodebook[];

  constructor(codebooks: readonly JsCodebook[]) {
    this.codebooks = codebooks.map(pairCodewords);
  }

  encodeSteps(request: EncodeRequest): Steps<BadInput | null> {
    return encodeSteps(this.codebooks, request);
  }

  distanceSteps(): null {
    return null;
  }

  dispose(): void {}
}

function* encodeSteps(codebooks: readonly PairedCodebook[], request: EncodeRequest): Steps<BadInput | null> {
  const { vectors, count, stages, codes, residuals } = request;
  const { dim, cosine } = codebooks[0];
  const meter = new StepMeter();
  const residual = new Float32Array(tileRows * dim);
  const query = cosine ? new Float32Array(tileRows * dim) : residual;
  const packed = new Float64Array(tileRows * dim);
  const lead: Lead = {
    best: new Float64Array(tileRows),
    second: new Float64Array(tileRows),
    index: new Int32Array(tileRows),
  };

  for (let firstRow = 0; firstRow < count; firstRow += tileRows) {
    const rows = Math.min(tileRows, count - firstRow);
    residual.fill(0);
    residual.set(vectors.subarray(firstRow * dim, (firstRow + rows) * dim));
    const bad = firstBadInput(residual.subarray(0, rows * dim), dim, cosine);
    if (bad !== null) return { ...bad, row: firstRow + bad.row };

    for (let stage = 0; stage < stages; stage++) {
      const codebook = codebooks[stage];
      if (cosine) for (let r = 0; r < rows; r++) unitVector(residual, r * dim, dim, query, r * dim);
      packTile(query, dim, packed);

      // Screen the whole codebook, a step at a time.
      lead.best.fill(-Infinity);
      lead.second.fill(-Infinity);
      lead.index.fill(0);
      const slots = codebook.halfNorms.length;
      for (let from = 0; from < slots; from += codewordsPerStep) {
        const to = Math.min(slots, from + codewordsPerStep);
        screenTile(codebook, packed, from, to, lead);
        if (meter.add(tileRows * (to - from) * dim)) yield;
      }

      // Certify or re-rank each row, then pass the residual on.
      for (let r = 0; r < rows; r++) {
        let code = certifiedCode(codebook, query, residual, r, lead);
        if (code < 0) {
          code = scan(codebook, query, r * dim, codebook.originalIndex[lead.index[r]]);
          if (meter.add(codebook.originalIndex.length * dim)) yield;
        }
        codes[(firstRow + r) * stages + stage] = code;
        const c = code * dim;
        for (let i = 0; i < dim; i++) residual[r * dim + i] -= codebook.codewords[c + i];
      }
    }
    if (residuals !== undefined) residuals.set(residual.subarray(0, rows * dim), firstRow * dim);
  }
  return null;
}

/** packed[D][3] from query[3][D]. */
function packTile(query: Float32Array, dim: number, packed: Float64Array): void {
  for (let i = 0; i < dim; i++) {
    packed[3 * i] = query[i];
    packed[3 * i + 1] = query[dim + i];
    packed[3 * i + 2] = query[2 * dim + i];
  }
}

/** Scores the codeword slots from … to−1 (both even) against the three packed rows and updates their leads. */
function screenTile(codebook: PairedCodebook, rows: Float64Array, from: number, to: number, lead: Lead): void {
  const { packed, halfNorms, dim } = codebook;
  const { best, second, index } = lead;
  let best0 = best[0];
  let best1 = best[1];
  let best2 = best[2];
  let second0 = second[0];
  let second1 = second[1];
  let second2 = second[2];
  let index0 = index[0];
  let index1 = index[1];
  let index2 = index[2];

  const end = (3 * dim) | 0;
  let next = (from * dim) | 0;
  for (let k = from | 0; k < to; k = (k + 2) | 0) {
    let s00 = -halfNorms[k];
    let s10 = s00;
    let s20 = s00;
    let s01 = -halfNorms[k + 1];
    let s11 = s01;
    let s21 = s01;
    for (let i = 0; i < end; i = (i + 3) | 0) {
      const c0 = packed[next];
      const c1 = packed[(next + 1) | 0];
      next = (next + 2) | 0;
      const x0 = rows[i];
      const x1 = rows[(i + 1) | 0];
      const x2 = rows[(i + 2) | 0];
      s00 += x0 * c0;
      s01 += x0 * c1;
      s10 += x1 * c0;
      s11 += x1 * c1;
      s20 += x2 * c0;
      s21 += x2 * c1;
    }

    // Most codewords are not even second best: one comparison each.
    if (s00 > second0) {
      if (s00 > best0) {
        second0 = best0;
        best0 = s00;
        index0 = k;
      } else second0 = s00;
    }
    if (s01 > second0) {
      if (s01 > best0) {
        second0 = best0;
        best0 = s01;
        index0 = k + 1;
      } else second0 = s01;
    }
    if (s10 > second1) {
      if (s10 > best1) {
        second1 = best1;
        best1 = s10;
        index1 = k;
      } else second1 = s10;
    }
    if (s11 > second1) {
      if (s11 > best1) {
        second1 = best1;
        best1 = s11;
        index1 = k + 1;
      } else second1 = s11;
    }
    if (s20 > second2) {
      if (s20 > best2) {
        second2 = best2;
        best2 = s20;
        index2 = k;
      } else second2 = s20;
    }
    if (s21 > second2) {
      if (s21 > best2) {
        second2 = best2;
        best2 = s21;
        index2 = k + 1;
      } else second2 = s21;
    }
  }

  best[0] = best0;
  best[1] = best1;
  best[2] = best2;
  second[0] = second0;
  second[1] = second1;
  second[2] = second2;
  index[0] = index0;
  index[1] = index1;
  index[2] = index2;
}

/** The code of row r where the screen alone decides it, else −1. */
function certifiedCode(
  codebook: PairedCodebook,
  query: Float32Array,
  residual: Float32Array,
  r: number,
  lead: Lead,
): number {
  const { dim, weights, cosine, maxNorm } = codebook;
  let zero = true;
  let norm = 0;
  for (let i = r * dim, column = 0; column < dim; i++, column++) {
    const weighted = weights === null ? query[i] : weights[column] * query[i];
    norm += weighted * query[i];
    // A residual that overflowed has code 0 by definition, also where a zero weight hides the infinity.
    if (residual[i] - residual[i] !== 0) return 0;
    if (residual[i] !== 0) zero = false;
  }
  if (cosine && zero) return 0;
  const reach = Math.sqrt(norm) + maxNorm;
  const margin = 2 * (dim + 16) * unitRoundoff * reach * reach;
  return lead.best[r] - lead.second[r] > margin ? codebook.originalIndex[lead.index[r]] : -1;
}

/** Half the distance from 1 to the next float64. */
const unitRoundoff = 2 ** -53;
