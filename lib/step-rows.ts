// Codes and sums of the rows of a step, stage by stage: on this thread, or in parts by workers, to the same numbers.

import type { Backend, CodebookSpec } from "./backend.js";
import type { CountingRows } from "./counting-rows.js";
import { newCodeArray } from "./pack-codes.js";
import { type RowWorkers, sharedCopy, type WalkResult } from "./row-workers.js";
import { addRows, addSums, emptySums, type StageGrid, type StageSums } from "./stage-sums.js";
import { type StageOfRows, type WalkOptions, walkStages } from "./stage-walk.js";
import { inSlices } from "./time-slice.js";

export interface StepRows {
  readonly spec: CodebookSpec;
  /** The vectors become residuals. */
  readonly rows: CountingRows;
  readonly grids: readonly StageGrid[];
  readonly stagesOfRow: Uint16Array | null;
  readonly signal: AbortSignal | undefined;
}

/** Hands every stage's rows, codes, distances and exact sums on, in order. */
export async function walkAndSum(
  backend: Backend,
  workers: RowWorkers | null,
  step: StepRows,
  visit: (rows: StageOfRows, sums: StageSums) => Promise<void>,
): Promise<void> {
  const { spec, rows, grids, stagesOfRow, signal } = step;
  const results = workers === null ? null : await walkInWorkers(workers, step);
  if (results !== null) return visitParts(results, step, visit);

  const options: WalkOptions = { stagesOfRow, measure: true, signal, refuse: rows.refuse };
  await walkStages(backend, spec, rows.vectors, options, async (stageRows) => {
    const sums = emptySums(sizeOf(spec, stageRows.stage), grids[stageRows.stage], rows.weights !== null);
    await addRows(backend, sums, stageRows.residuals, stageRows.counted, rows.weights);
    await visit(stageRows, sums);
  });
}

/** Null where workers fail: here it works, or fails with the right words. */
async function walkInWorkers(workers: RowWorkers, step: StepRows): Promise<readonly WalkResult[] | null> {
  const { spec, rows, grids, stagesOfRow, signal } = step;
  const { vectors, weights, range } = rows;
  const parts = workers.parts(range.rows);
  if (!workers.usable || parts.length < 2) return null;
  const requests = parts.map(({ first, end }) => ({
    kind: "walk" as const,
    spec,
    grids,
    vectors: sharedCopy(vectors.subarray(first * spec.dim, end * spec.dim)),
    // Of a view, all that is behind it would be sent.
    weights: weights?.slice(first, end) ?? null,
    stagesOfRow: stagesOfRow?.slice(first, end) ?? null,
  }));
  let results: readonly WalkResult[];
  try {
    results = await workers.run(requests, signal);
  } catch {
    signal?.throwIfAborted();
    return null;
  }
  for (const [place, { bad }] of results.entries()) {
    if (bad !== null) throw rows.refuse({ ...bad, row: parts[place].first + bad.row });
  }
  return results;
}

/** The stages of all parts together. */
async function visitParts(
  results: readonly WalkResult[],
  { spec, rows, grids, signal }: StepRows,
  visit: (rows: StageOfRows, sums: StageSums) => Promise<void>,
): Promise<void> {
  const { dim, codebooks, weights } = spec;
  const count = rows.range.rows;
  const residuals = rows.vectors;
  for (const [stage, codebook] of codebooks.entries()) {
    const parts = results.map(({ stages }) => stages[stage]);
    const size = sizeOf(spec, stage);
    const join = <Numbers extends { set(from: Numbers, at: number): void; length: number }>(
      into: Numbers,
      of: (part: (typeof parts)[number]) => Numbers,
    ): Numbers => {
      let next = 0;
      for (const part of parts) {
        into.set(of(part), next);
        next += of(part).length;
      }
      return into;
    };
    const codes = join(newCodeArray(count, [size + 1]), (part) => part.codes);
    const counted = join(newCodeArray(count, [size + 1]), (part) => part.counted);
    const distances = join(new Float64Array(count), (part) => part.distances);
    const plainDistances = weights === null ? distances : join(new Float64Array(count), (part) => part.plainDistances);
    const sums = emptySums(size, grids[stage], rows.weights !== null);
    for (const part of parts) addSums(sums, part.sums);
    await visit({ stage, residuals, codes, counted, distances, plainDistances }, sums);
    signal?.throwIfAborted();
    if (stage === codebooks.length - 1) return;
    await inSlices(residuals.length, dim, (from, to) => {
      for (let start = from; start < to; start += dim) {
        const codeword = codes[start / dim] * dim;
        for (let i = 0; i < dim; i++) residuals[start + i] -= codebook[codeword + i];
      }
    });
  }
}

function sizeOf({ dim, codebooks }: CodebookSpec, stage: number): number {
  return codebooks[stage].length / dim;
}
