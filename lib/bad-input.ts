// Finds what a search refuses to look at: numbers that are not finite and, for directions, rows of zeros.

import type { BadInput } from "./backend.js";
import { inSlices } from "./time-slice.js";

/** The first element that is NaN or infinite, or (where `refuseZero`) the first row that is zero; null: none. */
export function firstBadInput(vectors: Float32Array, dim: number, refuseZero: boolean): BadInput | null {
  for (let start = 0, row = 0; start < vectors.length; start += dim, row++) {
    let zero = refuseZero;
    for (let column = 0; column < dim; column++) {
      const value = vectors[start + column];
      if (value - value !== 0) return { kind: "not finite", row, column };
      if (value !== 0) zero = false;
    }
    if (zero) return { kind: "zero", row, column: 0 };
  }
  return null;
}

export async function allFinite(numbers: Float32Array): Promise<boolean> {
  // Of a number and itself the difference is zero, of infinity or NaN it is NaN.
  let differences = 0;
  await inSlices(numbers.length, 1, (from, to) => {
    let some = 0;
    for (let i = from; i < to; i++) some += numbers[i] - numbers[i];
    differences += some;
  });
  return differences === 0;
}
