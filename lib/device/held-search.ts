// Searches of rows that a device holds, where a training needs them.

import type { Backend, CodebookSpec, PreparedCodebooks } from "../backend.js";
import { bytesOfCode, hasWideCodes } from "../code-array.js";
import { isLoss } from "../errors.js";
import { type DeviceMemory, mostResidentRows, type ResidentCodebooks } from "../resident.js";
import { refuseOverflow } from "../residual-rows.js";

/** Whether a stage of a training with so many rows and elements of its codebook is to search them on the device. */
export function searchesHeld(backend: Backend, count: number, codebookLength: number): boolean {
  return count <= mostResidentRows && backend.stepsOnDevice?.(count * codebookLength) === true;
}

/** @throws Error where the backend has none, though it has a device */
export function residentOf(backend: Backend, prepared: PreparedCodebooks): ResidentCodebooks {
  const resident = prepared.resident?.();
  if (resident === undefined) throw new Error(`${backend.name} has a device, but no arrays on it`);
  return resident;
}

export interface HeldSearch {
  /** vectors[count][dim], which have been checked. */
  readonly vectors: DeviceMemory;
  readonly count: number;
  readonly dim: number;
  /** K of the stage. */
  readonly numCodewords: number;
  /** Output codes[count], of 16 bits or 32 as `newCodeArray` has them. */
  readonly codes: DeviceMemory;
  /** Output residuals[count][dim], where wanted; may be `vectors`. */
  readonly residuals?: DeviceMemory;
}

/** Encodes with one stage, chunk by chunk, to see the signal. */
export async function searchHeld(
  backend: Backend,
  resident: ResidentCodebooks,
  { dim, numCodewords, count, ...arrays }: HeldSearch,
  signal: AbortSignal | undefined,
): Promise<void> {
  const wide = hasWideCodes([numCodewords]);
  const chunkRows = backend.chunkRows(dim, numCodewords, false);
  for (let first = 0; first < count; first += chunkRows) {
    signal?.throwIfAborted();
    await resident.encode({ ...arrays, first, count: Math.min(chunkRows, count - first), stages: 1, wide });
  }
}

/**
 * vectors[count][D] −= the nearest codeword of the spec's one stage, of metric l2. False where the device is not to do it or cannot; if
 * it could not, the vectors are then unspecified.
 * @throws RvqError INVALID_ARGUMENT where a residual overflows float32
 */
export async function subtractHeld(
  backend: Backend,
  vectors: DeviceMemory,
  count: number,
  spec: CodebookSpec,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const { dim, codebooks } = spec;
  const [codebook] = codebooks;
  if (!searchesHeld(backend, count, codebook.length)) return false;
  let prepared: PreparedCodebooks | undefined;
  let codes: DeviceMemory | undefined;
  try {
    prepared = backend.prepare(spec);
    const resident = residentOf(backend, prepared);
    const numCodewords = codebook.length / dim;
    codes = resident.allocate(count * bytesOfCode([numCodewords]));
    await searchHeld(backend, resident, { vectors, count, dim, numCodewords, codes, residuals: vectors }, signal);
    const magnitudes = new Float32Array(dim);
    await resident.magnitudes({ vectors, count, dim, magnitudes });
    await refuseOverflow(magnitudes);
    return true;
  } catch (error) {
    if (isLoss(error)) return false;
    throw error;
  } finally {
    codes?.dispose();
    prepared?.dispose();
  }
}
