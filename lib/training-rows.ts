// The rows of a k-means training: assigned and summed on this thread, or in parts by workers that hold them, to the same numbers.

import { type Assignment, assignRows, partOfAssignment } from "./assign-rows.js";
import type { Backend, CodeArray, CodebookSpec } from "./backend.js";
import type { HeldRows } from "./resident.js";
import { type RowWorkers, sharedCopy } from "./row-workers.js";
import { accumulate, type StageStatistics } from "./statistics.js";
import { inSlices } from "./time-slice.js";

export interface TrainingRows {
  /** The nearest codewords of the first stage; with `previous` the codes are on entry those of that codebook, as in lib/backend.ts. */
  assign(
    spec: CodebookSpec,
    previous: Float32Array | undefined,
    into: Assignment,
    signal: AbortSignal | undefined,
  ): Promise<void>;
  /** As `accumulate` of lib/statistics.ts. */
  accumulate(statistics: StageStatistics, codes: CodeArray, previousCodes: CodeArray | undefined): Promise<void>;
}

export class RowsHere implements TrainingRows {
  constructor(
    private readonly backend: Backend,
    private readonly vectors: Float32Array,
    private readonly held: HeldRows | null | undefined,
  ) {}

  async assign(
    spec: CodebookSpec,
    previous: Float32Array | undefined,
    into: Assignment,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const prepared = this.backend.prepare(spec, previous);
    try {
      await assignRows(
        this.backend,
        prepared,
        this.vectors,
        into,
        spec.codebooks[0].length / spec.dim,
        signal,
        this.held,
      );
    } finally {
      prepared.dispose();
    }
  }

  accumulate(statistics: StageStatistics, codes: CodeArray, previousCodes: CodeArray | undefined): Promise<void> {
    return accumulate(this.backend, statistics, this.vectors, codes, previousCodes, this.held);
  }
}

/** What a worker fails at is done here, and so is all that follows. */
export class RowsOfWorkers implements TrainingRows {
  private held = false;

  constructor(
    private readonly workers: RowWorkers,
    private readonly here: TrainingRows,
    private readonly vectors: Float32Array,
    private readonly dim: number,
  ) {}

  async assign(
    spec: CodebookSpec,
    previous: Float32Array | undefined,
    into: Assignment,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { workers, vectors, dim } = this;
    const parts = workers.parts(into.codes.length);
    try {
      if (!workers.usable) throw new Error("workers have failed");
      if (!this.held) {
        const copies = parts.map(({ first, end }) => sharedCopy(vectors.subarray(first * dim, end * dim)));
        await workers.run(
          copies.map((copy) => ({ kind: "hold" as const, dim, vectors: copy })),
          signal,
        );
        this.held = true;
      }
      const request = { kind: "assign", spec, previous } as const;
      const results = await workers.run(
        parts.map(() => request),
        signal,
      );
      for (const [place, { first, end }] of parts.entries()) {
        const part = partOfAssignment(into, first, end);
        part.codes.set(results[place].codes);
        part.distances.set(results[place].distances);
        if (part.plainDistances !== part.distances) part.plainDistances.set(results[place].plainDistances);
      }
    } catch {
      signal?.throwIfAborted();
      await this.here.assign(spec, previous, into, signal);
    }
  }

  async accumulate(statistics: StageStatistics, codes: CodeArray, previousCodes: CodeArray | undefined): Promise<void> {
    const { workers } = this;
    const { gridExponents, counts, sums } = statistics;
    const shared = { kind: "accumulate", numCodewords: counts.length, gridExponents } as const;
    const requests = workers.parts(codes.length).map(({ first, end }) => ({
      ...shared,
      codes: codes.slice(first, end),
      previousCodes: previousCodes?.slice(first, end),
    }));
    try {
      if (!workers.usable || !this.held) throw new Error("workers have failed");
      for (const result of await workers.run(requests, undefined)) {
        await addTo(counts, result.counts);
        await addTo(sums, result.sums);
      }
    } catch {
      await this.here.accumulate(statistics, codes, previousCodes);
    }
  }
}

/** Integers, whose sums are exact in any order. */
function addTo(to: Float64Array, from: Float64Array): Promise<void> {
  return inSlices(to.length, 1, (first, end) => {
    for (let i = first; i < end; i++) to[i] += from[i];
  });
}
