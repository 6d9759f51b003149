// Rows that stay on a device, in tests.

import type { CodebookSpec } from "../../lib/backend.js";
import { openBackend } from "../../lib/open-backend.js";
import type { DeviceMemory, ResidentCodebooks } from "../../lib/resident.js";
import { makeData, makeStages, type Shape, withoutZeroRows } from "./families.js";

/** From rows alone, without what came before. */
export async function becomeMeans(
  resident: ResidentCodebooks,
  rows: { readonly vectors: DeviceMemory; readonly count: number; readonly codes: DeviceMemory },
  shape: {
    readonly stage: number;
    readonly codeStages: number;
    readonly numCodewords: number;
    readonly dim: number;
    readonly wide?: boolean;
    /** Arguments in the place of others. */
    readonly instead?: object;
  },
) {
  const { numCodewords, dim, stage, codeStages, wide = false, instead } = shape;
  const [counts, sums] = [1, dim].map((width) => resident.allocate(numCodewords * width * 8));
  const countsAfter = new Float64Array(numCodewords);
  const totals = new Float64Array(2);
  const grid = { gridExponents: new Int32Array(dim).fill(-30), shrinkage: 0 };
  const distances = resident.allocate(rows.count * 8);
  const outputs = { distances, counts, sums, countsAfter, totals };
  await resident.means({ ...rows, wide, codeStages, stage, ...grid, ...outputs, ...instead });
  return { countsAfter, totals };
}

/** Codebooks on the device that is there. */
export function open(spec: CodebookSpec): ResidentCodebooks {
  const resident = openBackend("cuda", undefined).prepare(spec).resident?.();
  if (resident === undefined) throw new Error("no resident codebooks");
  return resident;
}

/** Blocks of 256 rows, each from zero, then all blocks. */
export function errorsOf(
  weighted: Float64Array,
  plain: Float64Array,
  stage: number,
  stagesOfRow: Uint16Array | null,
  numStages: number,
): Float64Array {
  const errors = new Float64Array(4);
  for (let first = 0; first < weighted.length; first += 256) {
    const block = new Float64Array(4);
    for (let n = first; n < Math.min(first + 256, weighted.length); n++) {
      const stages = stagesOfRow?.[n] ?? numStages;
      const terms = [1, weighted[n], plain[n], stages === stage + 1 ? plain[n] : 0];
      if (stages > stage) for (const [place, term] of terms.entries()) block[place] += term;
    }
    for (const place of errors.keys()) errors[place] += block[place];
  }
  return errors;
}

export function emptyLearning(resident: ResidentCodebooks, numCodewords: number, dim: number) {
  const [usage, averages] = [1, dim].map((width) => resident.allocate(numCodewords * width * 8));
  const [masses, usageAfter, errors] = [numCodewords, numCodewords, 4].map((length) => new Float64Array(length));
  const rule = { decay: 0.9, epsilon: 1e-5, encodec: true, unused: true };
  return { usage, averages, masses, usageAfter, errors, gridExponents: new Int32Array(dim).fill(-30), ...rule };
}

/** Vectors of a family, and three stages. */
export function makeSpec(family: string, shape: Shape, metric: "l2" | "cosine", weighted: boolean) {
  const { dim } = shape;
  const data = makeData(family, shape, 15);
  const prepare = (matrix: Float32Array) => (metric === "cosine" ? withoutZeroRows(matrix, dim) : matrix);
  const weights = weighted ? Float32Array.from({ length: dim }, (_, i) => (i % 4) / 3) : null;
  const codebooks = makeStages(data, shape, 3, 15).map(prepare);
  return { vectors: prepare(data.vectors), spec: { dim, metric, weights, codebooks } };
}

export async function upload(
  resident: ResidentCodebooks,
  source: Float32Array | Float64Array | Uint16Array | Uint32Array,
) {
  const memory = resident.allocate(source.byteLength);
  await memory.upload({ source, offset: 0 });
  return memory;
}

export async function download(memory: DeviceMemory, length: number): Promise<Float32Array> {
  const target = new Float32Array(length);
  await memory.download({ target, offset: 0 });
  return target;
}

export async function downloadDoubles(memory: DeviceMemory, length: number): Promise<Float64Array> {
  const target = new Float64Array(length);
  await memory.download({ target, offset: 0 });
  return target;
}
