// Counts of values in fixed ranges, as plain numbers that any metrics client can hand on.

export interface Histogram {
  /** Upper bounds of the ranges, inclusive, ascending; after the last comes a range without a bound. */
  readonly bounds: readonly number[];
  /** counts[bounds + 1]: values in each range, and in no range below it. */
  readonly counts: readonly number[];
  /** How many values there were. */
  readonly count: number;
  readonly sum: number;
}

export class HistogramCounts {
  private readonly counts: number[];
  private count = 0;
  private sum = 0;

  constructor(private readonly bounds: readonly number[]) {
    this.counts = new Array<number>(bounds.length + 1).fill(0);
  }

  add(value: number): void {
    let range = 0;
    while (range < this.bounds.length && value > this.bounds[range]) range++;
    this.counts[range]++;
    this.count++;
    this.sum += value;
  }

  /** A copy that later values do not change. */
  snapshot(): Histogram {
    return { bounds: [...this.bounds], counts: [...this.counts], count: this.count, sum: this.sum };
  }
}

/** From a short call on an idle machine to what nobody waits for, in ms. */
export const latencyBoundsMs = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];

/** 1, 2, 4, … and `most`. */
export function sizeBounds(most: number): number[] {
  const bounds: number[] = [];
  for (let bound = 1; bound < most; bound *= 2) bounds.push(bound);
  return [...bounds, most];
}
