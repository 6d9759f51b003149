// The residual search with a WebAssembly SIMD screen: float32 scores and their bound decide most rows, d64 the others.
//
// Blocks of rows go through all stages. For each stage: pack the block into tiles, screen it against one segment of the
// codebook after the other, and collect for each row the codewords that can be nearest. A single one is the answer
// (error-bound.ts has the proof); among several the canonical distance decides; where there are too many, or the row is
// beyond the range of float32 scores, it decides among all.

import type { BadInput, DecodeRequest, DistanceRequest, EncodeRequest } from "../../backend.js";
import { firstBadInput } from "../../bad-input.js";
import { unitVector } from "../../canonical.js";
import { StepMeter, type Steps } from "../../time-slice.js";
import type { JsCodebook } from "../codebook.js";
import type { Search } from "../search.js";
import { type Engine, Segment } from "./engine.js";
import { largestRowNorm } from "./error-bound.js";
import { groupCodewords, listBytes, tileRows } from "./kernels.js";
import { type PackedCodebook, packCodebook } from "./packed-codebook.js";
import { decodeSteps, distanceSteps } from "./row-kernels.js";
import { certifiedCode, rankedCode } from "./verdict.js";
import { Workspace } from "./workspace.js";

/** Up to this many rows of a tile are faster one by one, with the codewords in the lanes. */
const fewRows = 8;
/** Codebooks beyond this are subtracted in TypeScript, where that takes less than 2 % of a stage. */
const mostCopiedBytes = 2 ** 20;

export class WasmSearch implements Search {
  /** Rows of all calls and stages that the screen left to the canonical distance: for tests and benchmarks. */
  openRows = 0;
  private readonly packed: readonly PackedCodebook[];
  /** The codewords as given, where copies of them are worth their place. */
  private readonly codewords: readonly (Segment | null)[];

  constructor(
    private readonly engine: Engine,
    private readonly codebooks: readonly JsCodebook[],
  ) {
    this.packed = codebooks.map(({ targets, dim, originalIndex, weights }) =>
      packCodebook(targets, dim, originalIndex, weights),
    );
    this.codewords = codebooks.map(({ codewords }) =>
      codewords.byteLength <= mostCopiedBytes ? new Segment(codewords) : null,
    );
  }

  *encodeSteps(request: EncodeRequest): Steps<BadInput | null> {
    const { vectors, count, stages, codes, residuals } = request;
    const { engine, codebooks, packed } = this;
    const { dim, cosine } = codebooks[0];
    const work = new Workspace(dim, cosine, count);
    const meter = new StepMeter();
    try {
      for (let firstRow = 0; firstRow < count; firstRow += work.rows) {
        const rows = Math.min(work.rows, count - firstRow);
        engine.enter(work.state);
        const residual = work.residual / 4;
        engine.floats.set(vectors.subarray(firstRow * dim, (firstRow + rows) * dim), residual);
        for (let stage = 0; stage < stages; stage++) {
          const codebook = codebooks[stage];
          const choices = codebook.originalIndex.length;

          // Prepare; the norms that come of it also tell whether an element is bad.
          if (stage === 0 || choices > 1) {
            const good = prepareRows(engine, codebook, packed[stage], work, rows);
            const block = engine.floats.subarray(residual, residual + rows * dim);
            const bad = good || stage > 0 ? null : firstBadInput(block, dim, cosine);
            if (bad !== null) return { ...bad, row: firstRow + bad.row };
            if (meter.add(2 * rows * dim)) yield* this.pause(work);
          }

          // Screen, certify or rank each row, then pass the residuals on.
          if (choices > 1) yield* this.screen(packed[stage], work, rows, meter);
          for (let r = 0; r < rows; r++) {
            let code = choices > 1 ? certifiedCode(engine, packed[stage], work, r) : 0;
            if (code < 0) {
              code = rankedCode(engine, codebook, packed[stage], work, r);
              this.openRows++;
              // Counted as a scan, which it may have been.
              if (meter.add(choices * dim)) yield* this.pause(work);
            }
            codes[(firstRow + r) * stages + stage] = code;
            engine.words[work.codes / 4 + r] = code;
          }
          if (stage + 1 < stages || residuals !== undefined) this.subtractCodewords(stage, work, rows);
          if (meter.add(rows * dim)) yield* this.pause(work);
        }
        residuals?.set(engine.floats.subarray(residual, residual + rows * dim), firstRow * dim);
      }
      return null;
    } finally {
      engine.leave(work.state);
    }
  }

  decodeSteps(request: DecodeRequest): Steps<void> | null {
    const { dim } = this.codebooks[0];
    const codewords = this.firstCodewords(request.stages);
    return codewords && decodeSteps(this.engine, codewords, dim, request);
  }

  distanceSteps(request: DistanceRequest): Steps<void> | null {
    const { dim, weights } = this.codebooks[0];
    const codewords = this.firstCodewords(request.stages);
    return codewords && distanceSteps(this.engine, codewords, dim, request.weighted ? weights : null, request);
  }

  dispose(): void {
    // In the reverse order of the first use.
    const used = this.packed.flatMap(({ space, segments }, stage) => [space, ...segments, this.codewords[stage]]);
    for (const segment of used.reverse()) if (segment !== null) this.engine.release(segment);
  }

  /** Those of the first stages; null where one is not worth copying. */
  private firstCodewords(stages: number): Segment[] | null {
    const first = this.codewords.slice(0, stages);
    const copied = first.filter((segment) => segment !== null);
    return copied.length === first.length ? copied : null;
  }

  /** Lets others run; they may use the memory and drop copies of codebooks. */
  private *pause(work: Workspace): Steps<void> {
    yield;
    this.engine.enter(work.state);
  }

  /** rows[r] −= the codeword of codes[r], rounded to float32. */
  private subtractCodewords(stage: number, work: Workspace, rows: number): void {
    const { engine } = this;
    const { codewords, dim } = this.codebooks[stage];
    const copied = this.codewords[stage];
    if (copied !== null) {
      engine.kernels.subtractCodewords(work.residual, rows, dim, engine.place(copied), work.codes);
      return;
    }
    const { floats, words } = engine;
    for (let r = 0, x = work.residual / 4; r < rows; r++) {
      const end = x + dim;
      for (let c = words[work.codes / 4 + r] * dim; x < end; x++, c++) floats[x] -= codewords[c];
    }
  }

  private *screen(packed: PackedCodebook, work: Workspace, rows: number, meter: StepMeter): Steps<void> {
    const { engine } = this;
    const { kernels } = engine;
    const { dim } = this.codebooks[0];
    for (let s = 0; s < packed.segments.length; s++) {
      const firstGroup = s * packed.segmentGroups;
      const groups = Math.min(packed.segmentGroups, packed.numGroups - firstGroup);
      for (let r = 0; r < rows; r += tileRows) {
        const segment = engine.place(packed.segments[s]);
        const position = firstGroup * groupCodewords;
        const panel = work.panel + 4 * r * dim;
        const [slopes, constants, lower] = [work.slopes, work.constants, work.lower].map((address) => address + 4 * r);
        const lists = work.lists + listBytes * r;
        if (rows - r > fewRows) {
          kernels.screen(segment, groups, dim, panel, slopes, constants, lower, work.upper);
          kernels.collect(segment, groups, dim, panel, slopes, constants, lower, work.upper, lists, position);
        } else {
          for (let i = 0; i < rows - r; i++) {
            const places = [panel, slopes, constants, lower].map((address) => address + 4 * i);
            const [x, slope, constant, low] = places;
            kernels.screenRow(segment, groups, dim, x, slope, constant, low, lists + listBytes * i, position);
          }
        }
        if (meter.add(tileRows * groups * groupCodewords * dim)) yield* this.pause(work);
      }
    }
  }
}

/**
 * Queries, panels and the rows' parts of the bound; lower ends and lists are reset. False where a row is not finite or, with
 * the cosine metric, zero.
 */
function prepareRows(
  engine: Engine,
  codebook: JsCodebook,
  packed: PackedCodebook,
  work: Workspace,
  rows: number,
): boolean {
  const { dim, cosine } = codebook;
  const space = engine.place(packed.space);
  const { floats, doubles, words, kernels } = engine;
  if (cosine) {
    for (let r = 0; r < rows; r++) {
      const residual = work.residual / 4 + r * dim;
      const query = work.query / 4 + r * dim;
      // A residual of zero has no direction: marked by an infinity, which gets code 0.
      if (!unitVector(floats, residual, dim, floats, query)) floats.fill(Infinity, query, query + dim);
    }
  }

  const { bound } = packed;
  let good = true;
  for (let r = 0; r < rows; r++) {
    if (r % 4 === 0) {
      const panel = work.panel + 4 * ((r - (r % tileRows)) * dim + (r % tileRows));
      kernels.packRows(work.query + 4 * r * dim, 4 * dim, dim, space, panel, work.squaredNorms + 8 * r);
    }
    const squaredNorm = doubles[work.squaredNorms / 8 + r];
    const norm = bound.norm(squaredNorm);
    if (norm - norm !== 0) good = false;
    const inRange = norm <= largestRowNorm;
    floats[work.slopes / 4 + r] = inRange ? bound.rowSlope(norm) : 0;
    floats[work.constants / 4 + r] = inRange ? bound.rowConstant(norm) : 0;
    // A row out of range is not screened: whatever its list says, `decide` does not look.
    floats[work.lower / 4 + r] = inRange ? -Infinity : Infinity;
    words[(work.lists + r * listBytes) / 4] = 0;
  }
  // Rows that fill up the last tile, whatever is in them.
  const end = rows + ((tileRows - (rows % tileRows)) % tileRows);
  floats.fill(Infinity, work.lower / 4 + rows, work.lower / 4 + end);
  return good;
}
