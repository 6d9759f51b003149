#!/usr/bin/env node
// The command `rvq`: runs the program on this process's arguments, streams and signals.

import { run } from "./program.js";

const stop = new AbortController();
for (const name of ["SIGINT", "SIGTERM"] as const) {
  // The first one stops the work cleanly; a second one, where that takes too long, ends the process.
  process.on(name, () => {
    if (stop.signal.aborted) process.exit(130);
    stop.abort();
  });
}
// Whoever reads the output may stop reading (`rvq info … | head`); that is no failure.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});

void run(process.argv.slice(2), { stdout: process.stdout, stderr: process.stderr, signal: stop.signal }).then(
  (code) => {
    process.exitCode = code;
  },
);
