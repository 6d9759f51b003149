// What follows from a row's screen: its code where that is certain, else the canonical distance among those in question.

import { squaredDistance } from "../../canonical.js";
import type { JsCodebook } from "../codebook.js";
import { isEquallyFar } from "../reach.js";
import type { Engine } from "./engine.js";
import { largestRowNorm } from "./error-bound.js";
import { listBytes, listCapacity } from "./kernels.js";
import type { PackedCodebook } from "./packed-codebook.js";
import { placeMaskAndWeights } from "./row-kernels.js";
import type { Workspace } from "./workspace.js";

/** The code of row r where the screen alone decides it, else −1. */
export function certifiedCode(engine: Engine, packed: PackedCodebook, work: Workspace, r: number): number {
  const { floats, doubles, words } = engine;
  // Every distance of a row that is not finite is infinite or NaN, also with weights of zero; none of those is smaller
  // than the infinity that code 0 starts with.
  const squaredNorm = doubles[work.squaredNorms / 8 + r];
  if (squaredNorm - squaredNorm !== 0) return 0;
  if (packed.bound.norm(squaredNorm) > largestRowNorm) return -1;

  const list = (work.lists + r * listBytes) / 4;
  if (words[list] > listCapacity) return -1;
  // The row's lower end has risen since the first candidates came.
  const lower = floats[work.lower / 4 + r];
  let code = -1;
  for (let entry = list + 2; entry < list + 2 + 2 * words[list]; entry += 2) {
    if (floats[entry + 1] < lower) continue;
    if (code >= 0) return -1;
    code = packed.codes[words[entry]];
  }
  return code;
}

/** The code of row r by the canonical distance: among its candidates where they are known, else among all codewords. */
export function rankedCode(
  engine: Engine,
  codebook: JsCodebook,
  packed: PackedCodebook,
  work: Workspace,
  r: number,
): number {
  const { floats, doubles, words } = engine;
  const { targets, dim, weights, box } = codebook;
  const query = work.query / 4 + r * dim;
  const list = (work.lists + r * listBytes) / 4;
  const known = packed.bound.norm(doubles[work.squaredNorms / 8 + r]) <= largestRowNorm && words[list] > 0;
  if (!known || words[list] > listCapacity) {
    return isEquallyFar(box, floats, query, weights) ? 0 : nearestOfAll(engine, codebook, work, r);
  }

  const lower = floats[work.lower / 4 + r];
  let code = -1;
  let smallest = Infinity;
  for (let entry = list + 2; entry < list + 2 + 2 * words[list]; entry += 2) {
    if (floats[entry + 1] < lower) continue;
    const candidate = packed.codes[words[entry]];
    const distance = squaredDistance(floats, query, targets, candidate * dim, dim, weights, smallest);
    if (distance < smallest || (distance === smallest && candidate < code)) {
      smallest = distance;
      code = candidate;
    }
  }
  return code;
}

/** The definition itself, some codewords at a time: the smallest k with the smallest distance. */
function nearestOfAll(engine: Engine, codebook: JsCodebook, work: Workspace, r: number): number {
  const { floats, doubles, kernels } = engine;
  const { targets, dim, weights, numCodewords } = codebook;
  const lower = weights === null ? kernels.lowerDistances : kernels.lowerWeightedDistances;
  const query = work.query + 4 * r * dim;
  placeMaskAndWeights(engine, dim, weights, work.mask, work.weights);
  let code = 0;
  let smallest = Infinity;
  for (let first = 0; first < numCodewords; first += work.scanned) {
    const number = Math.min(work.scanned, numCodewords - first);
    floats.set(targets.subarray(first * dim, (first + number) * dim), work.codewords / 4);
    // Only a distance below the smallest so far is written.
    const distances = doubles.subarray(work.distances / 8, work.distances / 8 + number).fill(smallest);
    lower(work.codewords, number, dim, query, 0, work.weights, work.mask, work.distances);
    for (let k = 0; k < number; k++) {
      if (distances[k] < smallest) {
        smallest = distances[k];
        code = first + k;
      }
    }
  }
  return code;
}
