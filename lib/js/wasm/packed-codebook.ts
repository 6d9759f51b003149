// One stage's distinct codewords as the WebAssembly screen reads them: centred, scaled, in order of norm, in segments.

import { chooseCentre, squaredNorm } from "../centre.js";
import { Segment } from "./engine.js";
import { ErrorBound } from "./error-bound.js";
import { groupCodewords, groupHeader } from "./kernels.js";

/**
 * A segment is as many groups as fit half of a usual L2 cache of 512 KiB, at most 128: the upper ends of a tile's scores
 * then take 8 KiB of the L1 cache. A search copies and pauses between segments.
 */
const segmentBytes = 256 * 1024;
export const mostSegmentGroups = 128;
/** A group must fit a segment. Longer rows are left to the plain loops. */
export const largestDim = 4096;

export interface PackedCodebook {
  readonly bound: ErrorBound;
  /** [D] pairs of float64: centre and scale, X_i = (x_i − centre_i)·scale_i. */
  readonly space: Segment;
  /** As kernels.ts reads them. */
  readonly segments: readonly Segment[];
  /** Of every segment but the last. */
  readonly segmentGroups: number;
  /** Groups in all. */
  readonly numGroups: number;
  /** codes[position]: the codeword at each place of the segments. */
  readonly codes: Uint32Array;
}

/** Packs targets[K][D], of which `distinct` (increasing, at least one) are different. */
export function packCodebook(
  targets: Float32Array,
  dim: number,
  distinct: Uint32Array,
  weights: Float32Array | null,
): PackedCodebook {
  // Space.
  const scale = Float64Array.from({ length: dim }, (_, i) => (weights === null ? 1 : Math.sqrt(weights[i])));
  const centre = chooseCentre(targets, distinct, scale);
  const squaredNorms = Float64Array.from(distinct, (k) => squaredNorm(targets, k, centre, scale));
  const shrink = powerOfTwoBelow(squaredNorms.reduce((a, b) => Math.max(a, b), 0));
  for (let i = 0; i < dim; i++) scale[i] *= shrink;
  for (let j = 0; j < distinct.length; j++) squaredNorms[j] *= shrink * shrink;
  const space = new Float64Array(2 * dim);
  for (let i = 0; i < dim; i++) {
    space[2 * i] = centre[i];
    space[2 * i + 1] = scale[i];
  }

  // Neighbours of like norm share a group, so that a few large codewords do not loosen the bound of all others.
  const order = Uint32Array.from(distinct.keys()).sort((a, b) => squaredNorms[a] - squaredNorms[b] || a - b);

  const bound = new ErrorBound(dim);
  const numGroups = Math.ceil(order.length / groupCodewords);
  const groupLength = (groupHeader + dim) * groupCodewords;
  const segmentGroups = Math.max(1, Math.min(mostSegmentGroups, Math.floor(segmentBytes / (4 * groupLength))));
  const segments: Segment[] = [];
  for (let first = 0; first < numGroups; first += segmentGroups) {
    const words = new Float32Array(Math.min(segmentGroups, numGroups - first) * groupLength);
    for (let start = 0; start < words.length; start += groupLength) {
      fillGroup(words.subarray(start, start + groupLength), first + start / groupLength);
    }
    segments.push(new Segment(words));
  }
  const codes = order.map((j) => distinct[j]);
  return { bound, space: new Segment(space), segments, segmentGroups, numGroups, codes };

  function fillGroup(group: Float32Array, index: number): void {
    for (let lane = 0; lane < groupCodewords; lane++) {
      // A missing codeword has the score −infinity and the bound of the last one.
      const position = index * groupCodewords + lane;
      const j = order[Math.min(position, order.length - 1)];
      const norm = bound.norm(squaredNorms[j]);
      group[lane] = position < order.length ? -0.5 * squaredNorms[j] : -Infinity;
      // Rounding to float32 must not make it smaller.
      group[groupCodewords + lane] = norm * (1 + 2 ** -22);
      group[2 * groupCodewords + lane] = bound.codewordConstant(norm);
      if (position >= order.length) continue;
      const source = distinct[j] * dim;
      let target = groupHeader * groupCodewords + lane;
      for (let i = 0; i < dim; i++, target += groupCodewords) {
        group[target] = (targets[source + i] - centre[i]) * scale[i];
      }
    }
  }
}

/** The power of two that brings the root of x into [½, 1): codebooks of 1e-30 or 1e30 neither under- nor overflow. */
function powerOfTwoBelow(x: number): number {
  if (x === 0) return 1;
  let power = 2 ** -Math.floor(Math.log2(Math.sqrt(x)) + 1);
  while (Math.sqrt(x) * power >= 1) power /= 2;
  while (Math.sqrt(x) * power < 0.5) power *= 2;
  return power;
}
