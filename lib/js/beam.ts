// Beam search in plain TypeScript: the definition of `beam` in lib/backend.ts, hypothesis by hypothesis, codeword by codeword.

import type { BadInput, EncodeRequest } from "../backend.js";
import { squaredDistance } from "../canonical.js";
import { StepMeter, type Steps } from "../time-slice.js";
import type { JsCodebook } from "./codebook.js";

/** @param greedySteps the search with a beam of 1 */
export function* beamSteps(
  codebooks: readonly JsCodebook[],
  request: EncodeRequest,
  beam: number,
  greedySteps: (request: EncodeRequest) => Steps<BadInput | null>,
): Steps<BadInput | null> {
  const { vectors, count, stages, codes, residuals } = request;
  const bad = yield* greedySteps({ vectors, count, stages, codes });
  if (bad !== null) return bad;

  const { dim } = codebooks[0];
  const search = new BeamSearch(codebooks.slice(0, stages), beam);
  const x = new Float32Array(dim);
  for (let n = 0; n < count; n++) {
    x.set(vectors.subarray(n * dim, (n + 1) * dim));
    const found = yield* search.pathSteps(x);
    const greedy = codes.subarray(n * stages, (n + 1) * stages);
    if (search.distance(x, found) < search.distance(x, greedy)) greedy.set(found);
    if (residuals === undefined) continue;
    for (let stage = 0; stage < stages; stage++) subtract(x, 0, codebooks[stage], greedy[stage]);
    residuals.set(x, n * dim);
  }
  return null;
}

class BeamSearch {
  /** residuals[beam][D] of this stage's hypotheses and of the next one's. */
  private residuals: Float32Array;
  private next: Float32Array;
  /** Of every stage: what its hypotheses, in order, came from. */
  private readonly kept: readonly Children[];
  private readonly path: Uint32Array;
  private readonly reconstruction: Float32Array;
  private readonly meter = new StepMeter();

  constructor(
    private readonly codebooks: readonly JsCodebook[],
    beam: number,
  ) {
    const { dim } = codebooks[0];
    this.residuals = new Float32Array(beam * dim);
    this.next = new Float32Array(beam * dim);
    this.kept = codebooks.map(() => new Children(beam));
    this.path = new Uint32Array(codebooks.length);
    this.reconstruction = new Float32Array(dim);
  }

  /** The codes of the first hypothesis after the last stage, until the next call. */
  *pathSteps(x: Float32Array): Steps<Uint32Array> {
    const { codebooks, kept, path, meter } = this;
    const { dim } = codebooks[0];
    this.residuals.set(x);
    let hypotheses = 1;
    for (const [stage, codebook] of codebooks.entries()) {
      const children = kept[stage];
      children.clear();
      for (let h = 0; h < hypotheses; h++) {
        addChildren(codebook, this.residuals, h, children);
        if (meter.add(dim * codebook.originalIndex.length)) yield;
      }

      hypotheses = children.size;
      for (let h = 0; h < hypotheses; h++) {
        const parent = children.parents[h] * dim;
        this.next.set(this.residuals.subarray(parent, parent + dim), h * dim);
        subtract(this.next, h * dim, codebook, children.codes[h]);
      }
      [this.residuals, this.next] = [this.next, this.residuals];
    }

    for (let stage = codebooks.length - 1, h = 0; stage >= 0; stage--) {
      path[stage] = kept[stage].codes[h];
      h = kept[stage].parents[h];
    }
    return path;
  }

  /** The weighted d64(x, x̂) of the codes of all stages. */
  distance(x: Float32Array, codes: ArrayLike<number>): number {
    const { codebooks, reconstruction } = this;
    const { dim, weights } = codebooks[0];
    reconstruction.fill(0);
    for (const [stage, { codewords }] of codebooks.entries()) {
      const codeword = codes[stage] * dim;
      for (let i = 0; i < dim; i++) reconstruction[i] += codewords[codeword + i];
    }
    return squaredDistance(x, 0, reconstruction, 0, dim, weights, Infinity);
  }
}

/** The best children of a stage so far, in the order of the contract. */
class Children {
  size = 0;
  readonly parents: Uint32Array;
  readonly codes: Uint32Array;
  private readonly distances: Float64Array;

  constructor(private readonly capacity: number) {
    this.parents = new Uint32Array(capacity);
    this.codes = new Uint32Array(capacity);
    this.distances = new Float64Array(capacity);
  }

  clear(): void {
    this.size = 0;
  }

  /** What a further child must be nearer than; nothing while there is room. */
  get limit(): number {
    return this.size < this.capacity ? Infinity : this.distances[this.capacity - 1];
  }

  /** Children come in the order of parents and codes: each belongs behind all that are as near. */
  add(distance: number, parent: number, code: number): void {
    const { distances, parents, codes, capacity } = this;
    if (this.size === capacity && !(distance < distances[capacity - 1])) return;
    let at = this.size === capacity ? capacity - 1 : this.size++;
    for (; at > 0 && distances[at - 1] > distance; at--) {
      distances[at] = distances[at - 1];
      parents[at] = parents[at - 1];
      codes[at] = codes[at - 1];
    }
    distances[at] = distance;
    parents[at] = parent;
    codes[at] = code;
  }
}

function addChildren(codebook: JsCodebook, residuals: Float32Array, h: number, children: Children): void {
  const { dim, codewords, weights, originalIndex } = codebook;
  const start = h * dim;
  if (!isFiniteRow(residuals, start, dim)) {
    children.add(Infinity, h, 0);
    return;
  }
  for (const k of originalIndex) {
    children.add(squaredDistance(residuals, start, codewords, k * dim, dim, weights, children.limit), h, k);
  }
}

function isFiniteRow(residuals: Float32Array, start: number, dim: number): boolean {
  for (let i = start; i < start + dim; i++) if (residuals[i] - residuals[i] !== 0) return false;
  return true;
}

function subtract(residuals: Float32Array, start: number, { dim, codewords }: JsCodebook, code: number): void {
  for (let i = 0; i < dim; i++) residuals[start + i] -= codewords[code * dim + i];
}
