// Recordings to train on: found, checked and framed, with progress.

import { stat } from "node:fs/promises";
import { findRecordings } from "../audio/find-recordings.js";
import { ioError } from "../audio/io-error.js";
import { checkRecordings, type RecordingsReport, type Signal } from "../audio/recordings.js";
import { RvqError } from "../index.js";
import type { CommandContext } from "./context.js";
import { startProgress } from "./progress.js";

/** Finds and checks the recordings, with progress. */
export async function checkWithProgress(
  context: CommandContext,
  paths: readonly string[],
  sampleRate: number,
  otherRates: "resample" | "refuse",
): Promise<{ report: RecordingsReport; signals: Signal[] }> {
  const { stderr, signal } = context;
  await requireThere(paths);
  const { files, unreadable } = await findRecordings(paths, { signal });
  const progress = startProgress(stderr, "checking", files.length);
  try {
    return await checkRecordings(files, {
      sampleRate,
      otherRates,
      unreadable,
      signal,
      onProgress: (done) => progress.update(done),
    });
  } finally {
    progress.stop();
  }
}

/** What a folder holds may be skipped; a name that was typed and is not there is a mistake. */
async function requireThere(paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    await stat(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") throw ioError(path, "read", error);
    });
  }
}

/** Throws `RvqError` INVALID_AUDIO, with the first reason, where no recording is fit to train on. */
export function requireSignals(report: RecordingsReport, signals: readonly Signal[]): void {
  if (signals.length > 0) return;
  const [first] = report.recordings;
  const reason = first === undefined ? "no WAV file was found" : `${first.path}: ${first.skipped}`;
  const more = report.skipped > 1 ? ` (and ${report.skipped - 1} more were skipped)` : "";
  throw new RvqError("INVALID_AUDIO", `no recording to train on: ${reason}${more}`);
}

/** Seconds of all signals. */
export function totalSeconds(signals: readonly Float32Array[], sampleRate: number): number {
  return signals.reduce((sum, samples) => sum + samples.length, 0) / sampleRate;
}
