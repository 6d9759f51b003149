// The backends under test: all that can run here; the others are shown as skipped, with the reason.

import type { Backend, BackendName } from "../../lib/backend.js";
import { openBackend, status } from "../../lib/open-backend.js";

export interface Candidate {
  /** For the test's title: the name, with the reason where it cannot run. */
  readonly title: string;
  readonly name: BackendName;
  readonly available: boolean;
  open(threads?: number): Backend;
}

export const candidates: readonly Candidate[] = status().backends.map(({ name, available, reason }) => ({
  title: available ? name : `${name} (${reason})`,
  name,
  available,
  open: (threads?: number) => openBackend(name, threads),
}));

/** A failure that can be repeated: what ran, on what, and the first element that differs. */
export function expectSame(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  context: Record<string, unknown>,
): void {
  const where = () => JSON.stringify(context);
  if (actual.length !== expected.length)
    throw new Error(`${actual.length} elements, not ${expected.length}: ${where()}`);
  for (let i = 0; i < expected.length; i++) {
    // Object.is: NaN equals NaN, and +0 differs from −0.
    if (Object.is(actual[i], expected[i])) continue;
    throw new Error(`element ${i} is ${actual[i]}, not ${expected[i]}: ${where()}`);
  }
}
