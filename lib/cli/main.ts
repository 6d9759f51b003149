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

// Lost output does not stop the work, whose result is a file most of the time; the exit code tells of it in the end.
let outputLost = false;
const outputs = [
  { name: "standard output", stream: process.stdout, other: process.stderr },
  { name: "standard error", stream: process.stderr, other: process.stdout },
];
for (const { name, stream, other } of outputs) {
  let reported = false;
  stream.on("error", (error: NodeJS.ErrnoException) => {
    // Whoever reads the output may stop reading (`rvq info … | head`); that is no failure.
    if (reported || (stream === process.stdout && error.code === "EPIPE")) return;
    reported = true;
    outputLost = true;
    // The last write can fail when the work is done already.
    process.exitCode ||= 1;
    other.write(`rvq: ${name} cannot be written: ${error.message}\n`);
  });
}

void run(process.argv.slice(2), { stdout: process.stdout, stderr: process.stderr, signal: stop.signal }).then(
  (code) => {
    process.exitCode = code === 0 && outputLost ? 1 : code;
  },
);
