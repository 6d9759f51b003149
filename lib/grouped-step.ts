// A step of codebook learning of all groups of a product form, each on its own dimensions of the batch.

import type { BadInput } from "./backend.js";
import { firstBadInput } from "./bad-input.js";
import { newCodeArray } from "./code-array.js";
import type { ColumnGroup } from "./column-groups.js";
import { type CountingRows, gatherCounting } from "./counting-rows.js";
import { columnsInSlices, type GroupLayout } from "./group-layout.js";
import { type PartMemory, type PartStep, type StepBatch, stepOnBatch, stepOnRows } from "./part-step.js";
import { inSlices } from "./time-slice.js";
import type { StepResult, TrainerPart, TrainerState } from "./training-step.js";

/**
 * The result of a step on batch[N][dim], and the state of each part after it, in its own memory; the states before are left alone. Parts differ in nothing but their dimensions from trainers of their own, save that with quantize dropout the first draws for
 * all: a row that stops after a stage does so in every group, as a stream that is cut there. With groups the batch is an array.
 */
export async function computeGroupedStep(
  shared: PartStep,
  parts: readonly TrainerPart[],
  memories: readonly PartMemory[],
  layout: GroupLayout,
  batch: StepBatch,
): Promise<{ next: TrainerState[]; result: StepResult }> {
  const { checkedRows, step } = shared;
  const { dim, stages, groups } = layout;
  if (parts.length === 1 || !(batch instanceof Float32Array)) {
    const { next, result } = await stepOnBatch(shared, parts[0], memories[0], batch);
    return { next: [next], result };
  }

  const rows = await gatherCounting("batch", batch, dim, checkedRows);
  await refuseNotFinite(rows, dim);
  const { count } = checkedRows;
  const next: TrainerState[] = [];
  const results: StepResult[] = [];
  let drawn: Uint16Array | null | undefined;
  for (const [group, part] of parts.entries()) {
    const own = await rowsOfGroup(rows, dim, layout.columns[group], group);
    const done = await stepOnRows(shared, part, memories[group], own, drawn);
    drawn = done.stagesOfRow;
    next.push(done.next);
    results.push(done.result);
  }

  // One result of all.
  const columns = stages * groups.length;
  const data = newCodeArray(count * columns, layout.codebookSizes);
  const reconstruction = step.reconstruct ? new Float32Array(count * dim) : null;
  for (const [group, result] of results.entries()) {
    layout.putCodes(result.codes, group, data);
    if (reconstruction !== null && result.reconstruction !== null) {
      layout.putVectors(result.reconstruction, group, reconstruction);
    }
  }
  const reports = Array.from({ length: stages }, (_, stage) => results.map((result) => result.stages[stage]));
  const loss = results.reduce((sum, { commitmentLoss }, group) => sum + commitmentLoss * groups[group], 0) / dim;
  const codes = { count, stages: columns, data };
  return { next, result: { ...results[0], codes, reconstruction, stages: reports.flat(), commitmentLoss: loss } };
}

/** The first bad row of all groups, rather than that of the first group with one. */
async function refuseNotFinite({ vectors, refuse }: CountingRows, dim: number): Promise<void> {
  await inSlices(vectors.length, dim, (from, to) => {
    const bad = firstBadInput(vectors.subarray(from, to), dim, false);
    if (bad !== null) throw refuse({ ...bad, row: from / dim + bad.row });
  });
}

async function rowsOfGroup(
  rows: CountingRows,
  dim: number,
  columns: ColumnGroup,
  group: number,
): Promise<CountingRows> {
  const { magnitudes } = rows.range;
  const range = { ...rows.range, magnitudes: magnitudes.slice(columns.from, columns.from + columns.width) };
  const refuse = (bad: BadInput) => rows.refuse({ ...bad, column: columns.from + bad.column }, `group ${group}`);
  return { ...rows, vectors: await columnsInSlices(rows.vectors, dim, columns), range, refuse };
}
