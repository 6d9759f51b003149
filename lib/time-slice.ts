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
    if (sliceOver()) await nextSlice();
    const step = steps.next();
    if (step.done) return step.value;
  }
}

/** When work on this thread last gave the event loop a turn. One for all: a thousand short calls in a row are one long one. */
let lastTurnMs = 0;

/** Whether the work on this thread has had its slice. */
export function sliceOver(): boolean {
  return performance.now() - lastTurnMs >= sliceMs;
}

/** Resolves in a later turn of the loop, after timers and I/O; awaiting a settled promise would let neither run. */
export async function nextSlice(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
  lastTurnMs = performance.now();
}

/**
 * `inPieces` with a turn of the event loop between slices. A `work` that sums up does it in a variable of its own, piece by piece:
 * additions to one outside are slow.
 */
export function inSlices(length: number, width: number, work: (from: number, to: number) => void): Promise<void> {
  return runInSlices(inPieces(length, width, work));
}

/** Calls `work(from, to)` over the elements 0 … length in pieces of whole rows of `width` elements, a step a piece. */
export function* inPieces(length: number, width: number, work: (from: number, to: number) => void): Steps<void> {
  const piece = width * Math.max(1, Math.floor(elementsPerPiece / width));
  for (let from = 0; from < length; from += piece) {
    work(from, Math.min(length, from + piece));
    yield;
  }
}

/** Elements that simple loops pass over in about a millisecond at most. */
const elementsPerPiece = 2 ** 16;

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
