// Loops over long recordings: other work gets its turn in between, and an abort signal ends them.

import { runInSlices, type Steps } from "../time-slice.js";

/** Runs the steps with a turn of the event loop every few milliseconds; throws the signal's reason once it is aborted. */
export function runStoppable<Result>(steps: Steps<Result>, signal: AbortSignal | undefined): Promise<Result> {
  return runInSlices(checked(steps, signal));
}

function* checked<Result>(steps: Steps<Result>, signal: AbortSignal | undefined): Steps<Result> {
  for (;;) {
    signal?.throwIfAborted();
    const step = steps.next();
    if (step.done) return step.value;
    yield;
  }
}
