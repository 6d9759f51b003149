// Compositions of a backend's operations that can run either way: one after the other on the calling thread, or asynchronously.

import type { BadInput } from "./backend.js";

/** One operation in its two forms. */
export interface Operation {
  later(): Promise<BadInput | null>;
  now(): BadInput | null;
}

/** Yields operations, gets what they found wrong with their input; the return value is the result. */
export type Operations<Result> = Generator<Operation, Result, BadInput | null>;

export async function runLater<Result>(operations: Operations<Result>): Promise<Result> {
  let step = operations.next();
  while (!step.done) step = operations.next(await step.value.later());
  return step.value;
}

export function runNow<Result>(operations: Operations<Result>): Result {
  let step = operations.next();
  while (!step.done) step = operations.next(step.value.now());
  return step.value;
}
