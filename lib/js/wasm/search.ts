// The residual search with a WebAssembly SIMD screen: float32 scores and their bound decide most rows, d64 the others.
//
// Blocks of rows go through all stages. For each stage: pack the block into tiles, screen it against one segment of the
// codebook after the other, and collect for each row the codewords that can be nearest. A single one is the answer
// (error-bound.ts has the proof); among several the canonical distance decides; where there are too many, or the row is
// beyond the range of float32 scores, it decides among all.

import type { BadInput, EncodeRequest } from "../../backend.js";
import { squaredDistance, unitVector } from "../canonical.js";
import type { JsCodebook } from "../codebook.js";
import { firstBadInput, scan } from "../scan.js";
import type { Search } from "../search.js";
import { StepMeter, type Steps } from "../time-slice.js";
import { type Engine, SavedState } from "./engine.js";
import { largestRowNorm } from "./error-bound.js";
import { groupCodewords, listBytes, listCapacity, tileRows } from "./kernels.js";
import { mostSegmentGroups, type PackedCodebook, packCodebook } from "./packed-codebook.js";

/** Elements of a block's rows, and rows: a few hundred KiB of state; copies of streamed codebooks serve that many rows. */
const blockElements = 65_536;
const mostBlockRows = 128;

export class WasmSearch implements Search {
  private readonly packed: readonly PackedCodebook[];

  constructor(
    private readonly engine: Engine,
    private readonly codebooks: readonly JsCodebook[],
  ) {
    this.packed = codebooks.map(({ targets, dim, originalIndex, weights }) =>
      packCodebook(targets, dim, originalIndex, weights),
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
        const bad = firstBadInput(engine.floats, residual, rows, dim, cosine);
        if (bad !== null) return { ...bad, row: firstRow + bad.row };

        for (let stage = 0; stage < stages; stage++) {
          const codebook = codebooks[stage];
          const choices = codebook.originalIndex.length;
          if (choices > 1) {
            prepareRows(engine, codebook, packed[stage], work, rows);
            if (meter.add(2 * rows * dim)) yield* this.pause(work);
            yield* this.screen(packed[stage], work, rows, meter);
          }
          for (let r = 0; r < rows; r++) {
            const code = choices > 1 ? decide(engine, codebook, packed[stage], work, r, meter) : 0;
            codes[(firstRow + r) * stages + stage] = code;
            if (stage + 1 < stages || residuals !== undefined) {
              subtract(engine.floats, residual + r * dim, codebook.codewords, code * dim, dim);
            }
            if (meter.add(dim)) yield* this.pause(work);
          }
        }
        residuals?.set(engine.floats.subarray(residual, residual + rows * dim), firstRow * dim);
      }
      return null;
    } finally {
      engine.leave(work.state);
    }
  }

  dispose(): void {
    for (const { space, segments } of [...this.packed].reverse()) {
      for (const segment of [...segments].reverse()) this.engine.release(segment);
      this.engine.release(space);
    }
  }

  /** Lets others run; they may use the memory, grow it and drop copies of codebooks. */
  private *pause(work: Workspace): Steps<void> {
    yield;
    this.engine.enter(work.state);
  }

  private *screen(packed: PackedCodebook, work: Workspace, rows: number, meter: StepMeter): Steps<void> {
    const { engine } = this;
    const { dim, kernels } = { dim: packed.space.words.length / 2, kernels: engine.kernels };
    for (let s = 0; s < packed.segments.length; s++) {
      const firstGroup = s * packed.segmentGroups;
      const groups = Math.min(packed.segmentGroups, packed.numGroups - firstGroup);
      for (let r = 0; r < rows; r += tileRows) {
        const segment = engine.place(packed.segments[s]);
        const panel = work.panel + 4 * r * dim;
        const slopes = work.slopes + 4 * r;
        const constants = work.constants + 4 * r;
        const lower = work.lower + 4 * r;
        const lists = work.lists + listBytes * r;
        kernels.screen(segment, groups, dim, panel, slopes, constants, lower, work.upper);
        const position = firstGroup * groupCodewords;
        kernels.collect(segment, groups, dim, panel, slopes, constants, lower, work.upper, lists, position);
        if (meter.add(tileRows * groups * groupCodewords * dim)) yield* this.pause(work);
      }
    }
  }
}

/** Addresses in bytes of the state of one call; rows is a multiple of a tile. */
class Workspace {
  readonly rows: number;
  /** [rows][D]: what is left of the vectors. */
  readonly residual: number;
  /** [rows][D]: what is searched; the residual, or with the cosine metric its unit vector. */
  readonly query: number;
  /** [rows / 8][D][8] */
  readonly panel: number;
  /** [rows] float64, and [rows] float32 for the others. */
  readonly squaredNorms: number;
  readonly slopes: number;
  readonly constants: number;
  readonly lower: number;
  /** [mostSegmentGroups][8] */
  readonly upper: number;
  readonly lists: number;
  readonly state: SavedState;

  constructor(dim: number, cosine: boolean, count: number) {
    const wanted = Math.min(mostBlockRows, blockElements / dim, count + tileRows - 1);
    this.rows = Math.max(tileRows, wanted - (wanted % tileRows));
    let next = 0;
    const room = (bytes: number) => {
      const address = next;
      next += bytes;
      return address;
    };
    const matrix = 4 * this.rows * dim;
    this.squaredNorms = room(8 * this.rows);
    this.slopes = room(4 * this.rows);
    this.constants = room(4 * this.rows);
    this.lower = room(4 * this.rows);
    this.upper = room(4 * tileRows * mostSegmentGroups);
    this.lists = room(listBytes * this.rows);
    this.panel = room(matrix);
    this.residual = room(matrix);
    this.query = cosine ? room(matrix) : this.residual;
    this.state = new SavedState(next);
  }
}

/** Queries, panels and the rows' parts of the bound; lower ends and lists are reset. */
function prepareRows(
  engine: Engine,
  codebook: JsCodebook,
  packed: PackedCodebook,
  work: Workspace,
  rows: number,
): void {
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
  for (let r = 0; r < rows; r++) {
    if (r % 4 === 0) {
      const panel = work.panel + 4 * ((r - (r % tileRows)) * dim + (r % tileRows));
      kernels.packRows(work.query + 4 * r * dim, 4 * dim, dim, space, panel, work.squaredNorms + 8 * r);
    }
    const squaredNorm = doubles[work.squaredNorms / 8 + r];
    const norm = bound.norm(squaredNorm);
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
}

/** The code of row r after the screen. */
function decide(
  engine: Engine,
  codebook: JsCodebook,
  packed: PackedCodebook,
  work: Workspace,
  r: number,
  meter: StepMeter,
): number {
  const { floats, doubles, words } = engine;
  const { targets, dim, weights, originalIndex } = codebook;
  const query = work.query / 4 + r * dim;
  // Every distance of a row that is not finite is infinite or NaN, also with weights of zero; none of those is smaller
  // than the infinity that code 0 starts with.
  const squaredNorm = doubles[work.squaredNorms / 8 + r];
  if (squaredNorm - squaredNorm !== 0) return 0;

  if (packed.bound.norm(squaredNorm) > largestRowNorm) {
    meter.add(originalIndex.length * dim);
    return scan(codebook, floats, query, originalIndex[0]);
  }

  const list = (work.lists + r * listBytes) / 4;
  const listed = words[list];
  const first = list + 2;
  const end = first + 2 * listed;
  if (listed > listCapacity) {
    meter.add(originalIndex.length * dim);
    return scan(codebook, floats, query, packed.codes[words[first]]);
  }

  // The row's lower end has risen since the first candidates came.
  const lower = floats[work.lower / 4 + r];
  let code = -1;
  let smallest = Infinity;
  for (let entry = first; entry < end; entry += 2) {
    if (floats[entry + 1] < lower) continue;
    const candidate = packed.codes[words[entry]];
    if (code < 0) {
      code = candidate;
      continue;
    }
    if (smallest === Infinity) smallest = squaredDistance(floats, query, targets, code * dim, dim, weights, Infinity);
    const distance = squaredDistance(floats, query, targets, candidate * dim, dim, weights, smallest);
    if (distance < smallest || (distance === smallest && candidate < code)) {
      smallest = distance;
      code = candidate;
    }
  }
  return code < 0 ? scan(codebook, floats, query, originalIndex[0]) : code;
}

/** x[xOffset … +D] −= c[cOffset … +D], rounded to float32 by the store. */
function subtract(x: Float32Array, xOffset: number, c: Float32Array, cOffset: number, dim: number): void {
  for (let i = 0; i < dim; i++) x[xOffset + i] -= c[cOffset + i];
}
