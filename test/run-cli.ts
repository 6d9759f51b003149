// Runs a command of `rvq` in this process, for tests.

import { Writable } from "node:stream";
import { run } from "../lib/cli/program.js";

export interface CliResult {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

export interface RunCliOptions {
  readonly signal?: AbortSignal | undefined;
  /** stderr is a terminal of so many rows of 100 columns. */
  readonly terminalRows?: number | undefined;
}

export async function runCli(args: readonly string[], options: RunCliOptions = {}): Promise<CliResult> {
  const { signal = new AbortController().signal, terminalRows } = options;
  const texts = { out: "", err: "" };
  const into = (name: "out" | "err") =>
    new Writable({
      write(chunk, _, done) {
        texts[name] += String(chunk);
        done();
      },
    });
  const stderr = into("err");
  if (terminalRows !== undefined) Object.assign(stderr, { isTTY: true, rows: terminalRows, columns: 100 });
  const code = await run(args, { stdout: into("out"), stderr, signal });
  return { code, ...texts };
}
