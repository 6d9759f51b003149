// Runs long work on the event-loop thread in slices, so that timers and I/O get their turn in between.

/** Work cut into steps of at most about a millisecond each; the return value is the result. */
export type Steps<Result> = Generator<undefined, Result, undefined>;

/** A slice ends at the first step boundary after this long: a few slices fit into one 60 Hz frame. */
const sliceMs = 5;

export function runToEnd<Result>(steps: Steps<Result>): Result {
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
  }
}

export async function runInSlices<Result>(steps: Steps<Result>): Promise<Result> {
  for (;;) {
    const deadline = performance.now() + sliceMs;
    do {
      const step = steps.next();
      if (step.done) return step.value;
    } while (performance.now() < deadline);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Counts work and says when a step is over. */
export class StepMeter {
  private done = 0;

  /** True once about a millisecond of work (in multiply-adds at 2 GFLOP/s and more) has been added since the last true. */
  add(multiplyAdds: number): boolean {
    this.done += multiplyAdds;
    if (this.done < multiplyAddsPerStep) return false;
    this.done = 0;
    return true;
  }
}

const multiplyAddsPerStep = 1_000_000;
