// A step of one part of a trainer on the rows of a batch: on the device where that is worth it and it can, else by arrays of the host.

import type { Backend } from "./backend.js";
import { type CountingRows, gatherCounting } from "./counting-rows.js";
import type { LentVectors } from "./device/device-arrays.js";
import { DeviceRows } from "./device/device-rows.js";
import { DeviceState } from "./device/device-state.js";
import { type RowSource, rowsOfArray, rowsOfDevice } from "./device/row-source.js";
import { isLoss } from "./errors.js";
import type { StageState } from "./moving-average.js";
import type { CheckedRows } from "./row-options.js";
import type { RowWorkers } from "./row-workers.js";
import { checkLeftAlone } from "./staging.js";
import { HostRows } from "./step-rows.js";
import type { CheckedStep } from "./trainer-options.js";
import { computeStep, type StepDone, specOf, type TrainerPart } from "./training-step.js";

/** The vectors of a step: the caller's array, or memory on a device. */
export type StepBatch = Float32Array | LentVectors;

/** What the steps of all parts on a batch share. */
export interface PartStep {
  readonly backend: Backend;
  readonly workers: RowWorkers | null;
  readonly checkedRows: CheckedRows;
  readonly step: CheckedStep;
}

/** Memory of a part from step to step. */
export interface PartMemory {
  /** For the states after the next step. */
  spare: readonly StageState[];
  /** What a device has of the part, where it steps on one. */
  device: DeviceState | null;
}

/** Of a part that has all columns of the batch; a batch on a device has no row options. */
export async function stepOnBatch(
  shared: PartStep,
  part: TrainerPart,
  memory: PartMemory,
  batch: StepBatch,
): Promise<StepDone> {
  const { checkedRows } = shared;
  const { dim } = part.model;
  if (!(batch instanceof Float32Array)) return stepOnDevice(shared, part, memory, rowsOfDevice("batch", batch));
  if (checkedRows.counting === checkedRows.count && !checkedRows.weighted) {
    checkLeftAlone("batch", batch, checkedRows.count * dim);
    const done = await tryOnDevice(shared, part, memory, rowsOfArray("batch", batch, dim, shared.backend));
    if (done !== null) return done;
    return stepOnHost(shared, part, memory, await gatherCounting("batch", batch, dim, checkedRows));
  }
  return stepOnRows(shared, part, memory, await gatherCounting("batch", batch, dim, checkedRows));
}

/** Of rows that have been copied; `given` as of `computeStep`. */
export async function stepOnRows(
  shared: PartStep,
  part: TrainerPart,
  memory: PartMemory,
  rows: CountingRows,
  given?: Uint16Array | null,
): Promise<StepDone> {
  // The sums of weighted rows are those of scaled copies, which only the host makes.
  const source = rows.weights === null ? rowsOfArray("batch", rows.vectors, part.model.dim, null, rows) : null;
  const done = source === null ? null : await tryOnDevice(shared, part, memory, source, given);
  return done ?? stepOnHost(shared, part, memory, rows, given);
}

/** Null where it is not to be on a device, or the device cannot: the host can with less of its memory, or without it. */
async function tryOnDevice(
  shared: PartStep,
  part: TrainerPart,
  memory: PartMemory,
  source: RowSource,
  given?: Uint16Array | null,
): Promise<StepDone | null> {
  const { backend, workers } = shared;
  const elements = part.state.stages.reduce((sum, { codebook }) => sum + codebook.length, 0);
  if (workers !== null || backend.stepsOnDevice?.(source.count * elements) !== true) return null;
  try {
    return await stepOnDevice(shared, part, memory, source, given);
  } catch (error) {
    if (isLoss(error)) return null;
    throw error;
  }
}

async function stepOnDevice(
  { backend, checkedRows, step }: PartStep,
  part: TrainerPart,
  memory: PartMemory,
  source: RowSource,
  given?: Uint16Array | null,
): Promise<StepDone> {
  memory.device ??= DeviceState.open(backend, part);
  const { device } = memory;
  // After an error, since nobody knows then what is there, and when no step comes.
  const drop = () => {
    device.dispose();
    memory.device = null;
  };
  try {
    const rows = await DeviceRows.open(part, device, source, step.signal);
    const done = await computeStep(part, memory.spare, rows, checkedRows, step, given);
    device.follow(done.next, drop);
    return done;
  } catch (error) {
    drop();
    throw error;
  }
}

function stepOnHost(
  { backend, workers, checkedRows, step }: PartStep,
  part: TrainerPart,
  memory: PartMemory,
  rows: CountingRows,
  given?: Uint16Array | null,
): Promise<StepDone> {
  return computeStep(part, memory.spare, new HostRows(backend, workers, specOf(part), rows), checkedRows, step, given);
}
