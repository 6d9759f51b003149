// The screen of the plain search: scores of three rows at a time in float64, and who leads.
//
// Three rows by two codewords are six sums and five operands: they fit the registers, and V8 keeps them there. Tile and
// codewords lie in one array, and indices have a known range: V8 checks kind, place and length of every array again in
// every turn of a loop, and a second array or an index that may wrap costs a fifth of the speed. Nothing else is in that
// loop: a branch that is rare at first would have it compiled twice.

import { chooseCentre } from "./centre.js";
import type { JsCodebook } from "./codebook.js";

/** Rows of one tile. */
export const tileRows = 3;

/** What the plain screen reads besides. */
export interface PairedCodebook extends JsCodebook {
  /** centre[D], subtracted from both sides. */
  readonly centre: Float32Array;
  /**
   * A tile [D][3] of rows less the centre, then the codewords in pairs [slots / 2][1 + D][2]: −½ Σ w·c², then w·c, c being
   * less the centre. A missing second codeword is zero, with −infinity. The tile is scratch of the call at work.
   */
  readonly screen: Float64Array;
  /** Places for codewords in `screen`: the number of distinct ones, made even. */
  readonly slots: number;
  /** The largest (weighted) norm of a codeword less the centre. */
  readonly maxNorm: number;
}

/** Best and second-best score of each row of a tile, and where the best was (index among the distinct codewords). */
export interface Lead {
  readonly best: Float64Array;
  readonly second: Float64Array;
  readonly index: Int32Array;
}

export function pairCodewords(codebook: JsCodebook): PairedCodebook {
  const { dim, targets, weights, originalIndex } = codebook;
  const roots = Float64Array.from({ length: dim }, (_, i) => (weights === null ? 1 : Math.sqrt(weights[i])));
  const centre = chooseCentre(targets, originalIndex, roots);
  const slots = 2 * Math.ceil(originalIndex.length / 2);
  const screen = new Float64Array(tileRows * dim + slots * (1 + dim));
  let maxNorm = 0;
  for (let j = 0; j < slots; j++) {
    const target = tileRows * dim + (j >> 1) * 2 * (1 + dim) + (j & 1);
    if (j === originalIndex.length) {
      screen[target] = -Infinity;
      continue;
    }
    const source = originalIndex[j] * dim;
    let norm = 0;
    for (let i = 0; i < dim; i++) {
      const value = targets[source + i] - centre[i];
      const weighted = weights === null ? value : weights[i] * value;
      screen[target + 2 * (i + 1)] = weighted;
      norm += weighted * value;
    }
    screen[target] = -norm / 2;
    maxNorm = Math.max(maxNorm, Math.sqrt(norm));
  }
  return { ...codebook, centre, screen, slots, maxNorm };
}

/** The tile of `screen` from query[3][D]. */
export function packTile(query: Float32Array, { dim, centre, screen }: PairedCodebook): void {
  for (let i = 0; i < dim; i++) {
    screen[3 * i] = query[i] - centre[i];
    screen[3 * i + 1] = query[dim + i] - centre[i];
    screen[3 * i + 2] = query[2 * dim + i] - centre[i];
  }
}

/** scores[k][3] of the slots from … to − 1 (both even) against the tile. */
export function scoreTile(screen: Float64Array, dim: number, from: number, to: number, scores: Float64Array): void {
  const length = dim & 0xfffff;
  const step = (2 * dim + 2) | 0;
  let pair = (tileRows * dim + from * (dim + 1)) | 0;
  let out = (tileRows * from) | 0;
  for (let k = from | 0; k < to; k = (k + 2) | 0) {
    let s00 = screen[pair];
    let s10 = s00;
    let s20 = s00;
    let s01 = screen[(pair + 1) | 0];
    let s11 = s01;
    let s21 = s01;
    const first = (pair + 2) & 0x3fffffff;
    for (let i = 0; i < length; i++) {
      const x = 3 * i;
      const c = first + 2 * i;
      const x0 = screen[x];
      const x1 = screen[x + 1];
      const x2 = screen[x + 2];
      const c0 = screen[c];
      const c1 = screen[c + 1];
      s00 += x0 * c0;
      s10 += x1 * c0;
      s20 += x2 * c0;
      s01 += x0 * c1;
      s11 += x1 * c1;
      s21 += x2 * c1;
    }
    scores[out] = s00;
    scores[(out + 1) | 0] = s10;
    scores[(out + 2) | 0] = s20;
    scores[(out + 3) | 0] = s01;
    scores[(out + 4) | 0] = s11;
    scores[(out + 5) | 0] = s21;
    pair = (pair + step) | 0;
    out = (out + 6) | 0;
  }
}

/** Updates the lead of row r with its scores of the slots from … to − 1. */
export function followLead(scores: Float64Array, from: number, to: number, r: number, lead: Lead): void {
  let best = lead.best[r];
  let second = lead.second[r];
  let index = lead.index[r];
  for (let k = from | 0, at = (tileRows * from + r) | 0; k < to; k = (k + 1) | 0, at = (at + 3) | 0) {
    const score = scores[at];
    // Most codewords are not even second best: one comparison each.
    if (score > second) {
      if (score > best) {
        second = best;
        best = score;
        index = k;
      } else second = score;
    }
  }
  lead.best[r] = best;
  lead.second[r] = second;
  lead.index[r] = index;
}
