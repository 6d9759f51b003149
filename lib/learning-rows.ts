// The rows that k-means learns from: an array, what a device holds of it, and what stage after stage leaves over of both.

import type { Backend, CodeArray, CodebookSpec } from "./backend.js";
import { gatherRows } from "./copy-row.js";
import { subtractHeld } from "./device/held-search.js";
import type { HeldRows } from "./resident.js";
import { encodeStage, nonZeroRows, subtractCodewords, subtractStage } from "./residual-rows.js";
import type { SeedRows } from "./seed-codebook.js";

export interface LearningRowsOptions {
  /** Whether a device may subtract alone: nobody asks for `host` then unless it fails. */
  readonly runsAhead: boolean;
  readonly signal: AbortSignal | undefined;
}

export class LearningRows implements SeedRows {
  readonly count: number;
  /** Null: nothing, and nobody is to ask again; undefined: nobody has asked. */
  private held: HeldRows | null | undefined;
  /** Stages that have been subtracted from what is held, but from the array not yet. */
  private readonly ahead: CodebookSpec[] = [];
  /** Those that have a direction, where others have none. */
  private directed: LearningRows | undefined;

  /** Of vectors[N][D], finite, which change when something is subtracted. */
  constructor(
    private readonly backend: Backend,
    private readonly vectors: Float32Array,
    private readonly dim: number,
    private readonly options: LearningRowsOptions,
  ) {
    this.count = vectors.length / dim;
  }

  /** What the backend holds of the rows, which stays the owner's; null: nothing. */
  async hold(): Promise<HeldRows | null> {
    if (this.held === undefined) this.held = (await this.backend.hold?.(this.vectors, this.dim)) ?? null;
    return this.held;
  }

  /** The device cannot go on with what is held: from here on there is nothing until something is subtracted. */
  letGo(): void {
    this.held?.dispose();
    this.held = null;
  }

  /** All rows [N][D], in memory of the host. May be called again where it has failed. */
  async host(): Promise<Float32Array> {
    const { backend, vectors, ahead, options } = this;
    while (ahead.length > 0) {
      const [stage] = ahead;
      // The vectors stay as they are until all codes are there.
      const codes = await encodeStage(backend, stage, vectors, options.signal);
      ahead.shift();
      await subtractCodewords(stage.codebooks[0], codes, vectors);
    }
    return vectors;
  }

  /** Copies of some rows, in this order; or all of them, not copied. */
  async gather(rows: Uint32Array | null): Promise<Float32Array> {
    if (rows !== null && this.ahead.length > 0 && this.held) return this.held.gather(rows);
    const vectors = await this.host();
    return rows === null ? vectors : gatherRows(vectors, rows, this.dim);
  }

  /** The rows that have a direction, until something is subtracted; these same ones where all have. */
  async nonZero(stage: number): Promise<LearningRows> {
    const vectors = await this.host();
    const kept = await nonZeroRows(vectors, this.dim, stage);
    if (kept === vectors) return this;
    this.directed?.dispose();
    this.directed = new LearningRows(this.backend, kept, this.dim, this.options);
    return this.directed;
  }

  /**
   * Subtracts the nearest codeword of the spec's one stage from every row; where it throws the rows are unspecified.
   * @throws RvqError INVALID_ARGUMENT where a residual overflows float32
   */
  async subtract(spec: CodebookSpec): Promise<void> {
    const { held, backend, count } = this;
    const { runsAhead, signal } = this.options;
    if (held && runsAhead && (await subtractHeld(backend, held.memory, count, spec, signal))) {
      this.ahead.push(spec);
      return;
    }
    // What is held is of no use any more, and its memory may be what is missing.
    this.dispose();
    await subtractStage(backend, spec, await this.host(), signal);
  }

  /** Subtracts the codewords of codes[N]; throws as `subtract`. */
  async subtractCoded(codebook: Float32Array, codes: CodeArray): Promise<void> {
    this.dispose();
    await subtractCodewords(codebook, codes, await this.host());
  }

  /** Frees what is held; the rows can still be used. */
  dispose(): void {
    this.directed?.dispose();
    this.directed = undefined;
    this.held?.dispose();
    this.held = undefined;
  }
}
