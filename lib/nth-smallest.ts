// Finds a number by its place in increasing order without sorting all of them.

import { Random } from "./random.js";
import { StepMeter, type Steps } from "./time-slice.js";

/** The number that would be at `n` if values[…], none NaN, were sorted; reorders them (Hoare's quickselect). */
export function* nthSmallest(values: Float64Array, n: number): Steps<number> {
  // Pivots decide how long it takes, never what comes out.
  const random = new Random(0);
  const meter = new StepMeter();
  let from = 0;
  let to = values.length - 1;
  while (from < to) {
    const pivot = values[from + random.below(to - from + 1)];
    let i = from;
    let j = to;
    while (i <= j) {
      while (values[i] < pivot) i++;
      while (values[j] > pivot) j--;
      if (i > j) break;
      const larger = values[i];
      values[i++] = values[j];
      values[j--] = larger;
      if (meter.add(16)) yield;
    }

    // Now values[from … j] ≤ pivot ≤ values[i … to], and what lies between is the pivot.
    if (n <= j) to = j;
    else if (n >= i) from = i;
    else return pivot;
  }
  return values[n];
}
