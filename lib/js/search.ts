// The TypeScript residual search: screen in float64, certify by an error bound, re-rank by the canonical distance.
//
// Screen. With X = x − m and C = c − m, m a float32 vector near the codewords' mean, distances are what they were and
// S_k = X·C_k − ½‖C_k‖² (the largest wins; ‖X − C_k‖² = ‖X‖² − 2·S_k).
//
// Certify. With u = 2^-53, ρ = ‖X‖, n the largest ‖C‖ and any order of summation, the computed S_k is within
// (D+8)·u·(ρn + ½n²) of the true one: every operand has been rounded once (with weights a codeword twice), every product
// and every sum once. The canonical distance itself is within (D/8+9)·u of the true one, relatively, and the true one is
// at most (ρ+n)². Both together shift a score by less than E = (D+16)·u·(ρ+n)². A best score that leads by more than 2·E
// is therefore the unique smallest canonical distance. The same holds with weights, in the weighted norm. float64 holds
// the squares of all float32 values and of their differences, so nothing over- or underflows here.
//
// Re-rank. Of rows without that lead (near ties: one in 10^12 on ordinary data, most rows on integer grids) the codewords
// within 2·E of the best are compared by the canonical distance; where they are many because the row is so far away that
// all distances are the same number, none needs to be.

import type { BadInput, DecodeRequest, DistanceRequest, EncodeRequest } from "../backend.js";
import { firstBadInput } from "../bad-input.js";
import { squaredDistance, unitVector } from "../canonical.js";
import { StepMeter, type Steps } from "../time-slice.js";
import type { JsCodebook } from "./codebook.js";
import {
  followLead,
  type Lead,
  type PairedCodebook,
  packTile,
  pairCodewords,
  scoreTile,
  tileRows,
} from "./plain-screen.js";
import { isEquallyFar } from "./reach.js";

/** Codewords between two chances to pause, so that a pause is at most about a millisecond away at D = 1000. */
const codewordsPerStep = 1024;

/** A way to search; all of them give the same codes. */
export interface Search {
  /** The residual search of lib/backend.ts. */
  encodeSteps(request: EncodeRequest): Steps<BadInput | null>;
  /** The reconstruction and the distances of lib/backend.ts; null where there is nothing faster than the plain loop. */
  decodeSteps(request: DecodeRequest): Steps<void> | null;
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

  decodeSteps(): null {
    return null;
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
  const mostSlots = codebooks.reduce((most, { slots }) => Math.max(most, slots), 0);
  const scores = new Float64Array(tileRows * mostSlots);
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
      packTile(query, codebook);

      // Screen the whole codebook, a step at a time.
      lead.best.fill(-Infinity);
      lead.second.fill(-Infinity);
      lead.index.fill(0);
      const { screen, slots } = codebook;
      for (let from = 0; from < slots; from += codewordsPerStep) {
        const to = Math.min(slots, from + codewordsPerStep);
        scoreTile(screen, dim, from, to, scores);
        for (let r = 0; r < rows; r++) followLead(scores, from, to, r, lead);
        if (meter.add(tileRows * (to - from) * dim)) {
          yield;
          // Another call may have put its own tile there.
          packTile(query, codebook);
        }
      }

      // Certify or re-rank each row, then pass the residual on.
      for (let r = 0; r < rows; r++) {
        let code = hasNoDistance(codebook, residual, r) ? 0 : -1;
        if (code < 0) {
          const margin = leadNeeded(codebook, query, r);
          if (lead.best[r] - lead.second[r] > margin) code = codebook.originalIndex[lead.index[r]];
          else {
            code = rankedCode(codebook, query, r, scores, lead, margin);
            // Counted as a scan, which it may have been.
            if (meter.add(codebook.originalIndex.length * dim)) yield;
          }
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

/**
 * True for a residual that overflowed, also where a zero weight hides the infinity, and for one without a direction: code 0
 * by definition.
 */
function hasNoDistance({ dim, cosine }: PairedCodebook, residual: Float32Array, r: number): boolean {
  let zero = true;
  for (let i = r * dim, end = i + dim; i < end; i++) {
    if (residual[i] - residual[i] !== 0) return true;
    if (residual[i] !== 0) zero = false;
  }
  return cosine && zero;
}

/** 2·E of row r. */
function leadNeeded({ dim, centre, weights, maxNorm }: PairedCodebook, query: Float32Array, r: number): number {
  let norm = 0;
  for (let i = 0; i < dim; i++) {
    const x = query[r * dim + i] - centre[i];
    norm += (weights === null ? x : weights[i] * x) * x;
  }
  const reach = Math.sqrt(norm) + maxNorm;
  return 2 * (dim + 16) * unitRoundoff * reach * reach;
}

/** The code of row r by the canonical distance, among the codewords whose score is within the margin of the best. */
function rankedCode(
  codebook: PairedCodebook,
  query: Float32Array,
  r: number,
  scores: Float64Array,
  lead: Lead,
  margin: number,
): number {
  const { targets, dim, weights, originalIndex, box } = codebook;
  const offset = r * dim;
  if (isEquallyFar(box, query, offset, weights)) return 0;
  const least = lead.best[r] - margin;
  let smallest = Infinity;
  let code = 0;
  // The lowest code with the smallest distance: in increasing order.
  for (let j = 0; j < originalIndex.length; j++) {
    if (scores[tileRows * j + r] < least) continue;
    const k = originalIndex[j];
    const distance = squaredDistance(query, offset, targets, k * dim, dim, weights, smallest);
    if (distance < smallest) {
      smallest = distance;
      code = k;
    }
  }
  return code;
}

/** Half the distance from 1 to the next float64. */
const unitRoundoff = 2 ** -53;
