// What every command of `rvq` gets: where to write, when to stop, and which backend to use.

import type { BackendChoiceOptions } from "../index.js";

/** A terminal or a pipe. */
export type Output = NodeJS.WritableStream & { readonly isTTY?: boolean; readonly rows?: number };

export interface CommandContext {
  /** Results go here. */
  readonly stdout: Output;
  /** Progress goes here. */
  readonly stderr: Output;
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal;
  /** The global options `--backend` and `--threads`. */
  readonly backend: BackendChoiceOptions;
}

export function printLine(output: Output, line = ""): void {
  output.write(`${line}\n`);
}
