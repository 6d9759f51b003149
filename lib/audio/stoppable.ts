// Loops over long recordings: other work gets its turn in between, and an abort signal ends them.

import { runInSlices, type Steps } from "../js/time-slice.js";

/** Elements that simple loops pass over in about a millisecond. */
const elementsPerPiece = 2 ** 16;

/** Runs the steps with a turn of the event loop every few milliseconds; throws the signal's reason once it is aborted. */
export function runStoppable<Result>(steps: Steps<Result>, signal: AbortSignal | undefined): Promise<Result> {
  return runInSlices(checked(steps, signal));
}

/** Calls `work(from, to)` over 0 … length, a step a piece; each index stands for `width` elements. */
export function* inPieces(length: number, width: number, work: (from: number, to: number) => void): Steps<void> {
  const piece = Math.max(1, Math.floor(elementsPerPiece / width));
  for (let from = 0; from < length; from += piece) {
    work(from, Math.min(length, from + piece));
    yield;
  }
}

function* checked<Result>(steps: Steps<Result>, signal: AbortSignal | undefined): Steps<Result> {
  for (;;) {
    signal?.throwIfAborted();
    const step = steps.next();
    if (step.done) return step.value;
    yield;
  }
}
