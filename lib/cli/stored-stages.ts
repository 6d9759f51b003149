// How many stages a `.rvq` file has, against what a command was asked for.

import { RvqError } from "../index.js";

/** Throws INVALID_ARGUMENT where more are asked for than `input` stores. */
export function checkStoredStages(input: string, asked: number | undefined, stored: number): void {
  if (asked === undefined || asked <= stored) return;
  const expected = `at most the ${stored} stages that ${input} holds`;
  throw new RvqError("INVALID_ARGUMENT", `--stages: expected ${expected}, got ${asked}`);
}
