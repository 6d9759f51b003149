// Where the rows of a step come from that is done on a device: an array of the host, or memory that is there already.

import type { Backend, BadInput } from "../backend.js";
import { firstBadInput } from "../bad-input.js";
import { badInput } from "../check.js";
import type { CountingRows } from "../counting-rows.js";
import { invalidArgument } from "../errors.js";
import type { DeviceMemory } from "../resident.js";
import type { VectorRange } from "../stage-sums.js";
import { checkLeftAlone } from "../staging.js";
import { pickRows } from "../step-rows.js";
import { inSlices } from "../time-slice.js";
import type { LentVectors } from "./device-arrays.js";
import type { DeviceState } from "./device-state.js";
import { uploadRows } from "./upload-rows.js";

export interface RowSource {
  /** M. */
  readonly count: number;
  /** rows[M]: where each is in the batch; null: all rows of the batch count. */
  readonly rows: Uint32Array | null;
  /** Null where nobody has looked yet. */
  readonly range: VectorRange | null;
  bring(device: DeviceState, signal: AbortSignal | undefined): Promise<BroughtRows>;
  /** Some of the vectors, one after the other. */
  pick(rows: Uint32Array): Promise<Float32Array>;
  /** The first number that is not finite. */
  firstNotFinite(): Promise<BadInput | null>;
  /** The error for what a search refuses. */
  refuse(bad: BadInput): Error;
}

/** vectors[M][D] on the device. */
export interface BroughtRows {
  readonly memory: DeviceMemory;
  /** Whether it may be written to. */
  readonly own: boolean;
}

/**
 * Rows of array[M][dim]: the caller's, which `uploader` copies in chunks and which is looked at by the device alone, or without an
 * uploader that of `counting`, which nobody else has.
 */
export function rowsOfArray(
  name: string,
  array: Float32Array,
  dim: number,
  uploader: Backend | null,
  counting: CountingRows | null = null,
): RowSource {
  const { length } = array;
  return {
    count: length / dim,
    rows: counting?.rows ?? null,
    range: counting?.range ?? null,
    bring: async (device, signal) => {
      const memory = device.take("vectors", length * Float32Array.BYTES_PER_ELEMENT);
      if (uploader !== null)
        await uploadRows(uploader, memory, name, array, dim, signal === undefined ? {} : { signal });
      else await memory.upload({ source: array, offset: 0 });
      return { memory, own: true };
    },
    pick: async (rows) => {
      checkLeftAlone(name, array, length);
      return pickRows(array, dim, rows);
    },
    firstNotFinite: () => firstNotFinite(array, dim),
    refuse: (bad) => counting?.refuse(bad) ?? badInput(name, bad, 0, array[bad.row * dim + bad.column]),
  };
}

/** A copy of a row of its own takes as long as so many bytes of a long one. */
const bytesOfACall = 2 ** 18;

/** Rows that are on the device and stay as they are. */
export function rowsOfDevice(name: string, { memory, device, count, dim }: LentVectors): RowSource {
  const rowBytes = dim * Float32Array.BYTES_PER_ELEMENT;
  const download = async (first: number, rows: number) => {
    const target = new Float32Array(rows * dim);
    await memory.download({ target, offset: first * rowBytes });
    return target;
  };
  return {
    count,
    rows: null,
    range: null,
    bring: async ({ resident }) => {
      if (device !== resident.device) throw invalidArgument(`${name}.device`, `device ${resident.device}`, device);
      return { memory, own: false };
    },
    pick: async (rows) => {
      if (rows.length * bytesOfACall > count * rowBytes) return pickRows(await download(0, count), dim, rows);
      const picked = new Float32Array(rows.length * dim);
      for (const [place, row] of rows.entries()) picked.set(await download(row, 1), place * dim);
      return picked;
    },
    firstNotFinite: async () => firstNotFinite(await download(0, count), dim),
    refuse: (bad) => badInput(name, bad, 0),
  };
}

async function firstNotFinite(vectors: Float32Array, dim: number): Promise<BadInput | null> {
  let first: BadInput | null = null;
  await inSlices(vectors.length, dim, (from, to) => {
    const bad = first === null ? firstBadInput(vectors.subarray(from, to), dim, false) : null;
    if (bad !== null) first = { ...bad, row: from / dim + bad.row };
  });
  return first;
}
