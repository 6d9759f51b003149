// Checking recordings before training on them: what is broken, silent, clipped, noisy or there twice is found and said.

import { createHash } from "node:crypto";
import { RvqError } from "../errors.js";
import { inPieces, type Steps } from "../time-slice.js";
import type { FoundRecordings } from "./find-recordings.js";
import { type Levels, levelsSteps, percentile, silenceDb } from "./levels.js";
import { resampleSteps } from "./resample.js";
import { runStoppable } from "./stoppable.js";
import { describeFormat, monoSteps, readWav, type Wav } from "./wav.js";

/** Shorter clips are clicks and cut-offs, not speech. */
const shortestSeconds = 0.1;
/** A recording with fewer frames above the silence threshold than this has nothing to learn from. */
const silentLimit = 0.99;
/** Above this share the flattened peaks would be learned as if they were speech. */
const clippedLimit = 0.01;

/** From here on a finding is worth a warning. */
const warnAt = { silentShare: 0.5, clippedShare: 0.0001, dcOffset: 0.005, noiseFloorDb: -35, snrDb: 15 } as const;

/** What was found out about one file. */
export interface Recording {
  readonly path: string;
  /** "16-bit PCM, mono, 16000 Hz"; null for a file that is no sound WAV. */
  readonly format: string | null;
  readonly sampleRate: number | null;
  readonly seconds: number;
  readonly levels: Levels | null;
  /** Why it is not trained on; null: it is. */
  readonly skipped: string | null;
  readonly warnings: readonly string[];
}

/** What was found out about all of them. */
export interface RecordingsReport {
  /** The rate that all signals have in the end. */
  readonly sampleRate: number;
  readonly recordings: readonly Recording[];
  readonly used: number;
  readonly skipped: number;
  readonly usedSeconds: number;
  /** How many sound files have which sample rate. */
  readonly sampleRates: Readonly<Record<string, number>>;
  /** Seconds of the recordings in use; null when there is none. */
  readonly lengths: Readonly<Record<"shortest" | "p10" | "median" | "p90" | "longest", number>> | null;
}

/** One recording's samples[n], mono, at the common rate. */
export interface Signal {
  readonly path: string;
  readonly samples: Float32Array;
}

export interface CheckOptions {
  /** Files at other rates are resampled to this or refused. */
  readonly sampleRate: number;
  readonly otherRates?: "resample" | "refuse";
  /** Folders that the search could not list: the report names them after the files. */
  readonly unreadable?: FoundRecordings["unreadable"];
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

/** Reads and judges each file; returns the report and the signals that are fit to train on, in the order of `paths`. */
export async function checkRecordings(
  paths: readonly string[],
  options: CheckOptions,
): Promise<{ report: RecordingsReport; signals: Signal[] }> {
  const { sampleRate, unreadable = [], signal, onProgress } = options;
  const recordings: Recording[] = [];
  const signals: Signal[] = [];
  const pathOfContent = new Map<string, string>();
  for (const path of paths) {
    signal?.throwIfAborted();
    const { recording, samples } = await judge(path, pathOfContent, options);
    recordings.push(recording);
    if (samples) signals.push({ path, samples });
    onProgress?.(recordings.length, paths.length);
  }
  signal?.throwIfAborted();
  for (const { path, reason } of unreadable) recordings.push(notAudio(path, reason));
  return { report: summarise(recordings, sampleRate), signals };
}

async function judge(
  path: string,
  pathOfContent: Map<string, string>,
  { sampleRate, otherRates = "resample", signal }: CheckOptions,
): Promise<{ recording: Recording; samples?: Float32Array }> {
  let wav: Wav;
  let samples: Float32Array;
  try {
    wav = await readWav(path, { signal });
    samples = await runStoppable(monoSteps(wav), signal);
  } catch (error) {
    if (!(error instanceof RvqError)) throw error;
    return { recording: notAudio(path, error.message) };
  }

  const seconds = wav.count / wav.sampleRate;
  const levels = await runStoppable(levelsSteps(samples, wav.sampleRate), signal);
  const content = await runStoppable(contentSteps(samples, wav.sampleRate), signal);
  const twin = pathOfContent.get(content);
  const skipped =
    reasonToSkip(wav, seconds, levels) ??
    (twin === undefined ? null : `same samples as ${twin}`) ??
    (otherRates === "refuse" && wav.sampleRate !== sampleRate
      ? `sample rate ${wav.sampleRate} Hz, not ${sampleRate} Hz`
      : null);
  const recording: Recording = {
    path,
    format: describeFormat(wav),
    sampleRate: wav.sampleRate,
    seconds,
    levels,
    skipped,
    warnings: skipped === null ? warnings(wav, levels, sampleRate) : [],
  };
  if (skipped !== null) return { recording };
  try {
    if (wav.sampleRate !== sampleRate) {
      samples = await runStoppable(resampleSteps(samples, wav.sampleRate, sampleRate), signal);
    }
  } catch (error) {
    if (!(error instanceof RvqError)) throw error;
    return { recording: { ...recording, skipped: `cannot be resampled: ${error.message}`, warnings: [] } };
  }
  pathOfContent.set(content, path);
  return { recording, samples };
}

function notAudio(path: string, reason: string): Recording {
  // The path has its own column.
  const skipped = reason.startsWith(`${path}: `) ? reason.slice(path.length + 2) : reason;
  return { path, format: null, sampleRate: null, seconds: 0, levels: null, skipped, warnings: [] };
}

/** The digest by which the same samples under two names are found. */
function* contentSteps(samples: Float32Array, sampleRate: number): Steps<string> {
  const hash = createHash("sha256").update(`${sampleRate} `);
  yield* inPieces(samples.length, 1, (from, to) => {
    hash.update(samples.subarray(from, to));
  });
  return hash.digest("hex");
}

function reasonToSkip(wav: Wav, seconds: number, levels: Levels): string | null {
  if (wav.missing > 0) {
    const missing = wav.missing / wav.sampleRate;
    return `truncated: the header promises ${(seconds + missing).toFixed(2)} s, the file holds ${seconds.toFixed(2)} s`;
  }
  if (seconds < shortestSeconds) return `too short: ${seconds.toFixed(3)} s, at least ${shortestSeconds} s are needed`;
  if (levels.silentShare >= silentLimit) {
    return `silent: ${percent(levels.silentShare)} of it is below ${silenceDb} dBFS`;
  }
  if (levels.clippedShare > clippedLimit) {
    return `clipped: ${percent(levels.clippedShare)} of its samples are in flattened peaks`;
  }
  return null;
}

function warnings(wav: Wav, levels: Levels, sampleRate: number): string[] {
  const found: string[] = [];
  if (wav.sampleRate !== sampleRate) found.push(`resampled from ${wav.sampleRate} Hz`);
  if (wav.sampleRate < sampleRate) found.push(`nothing above ${wav.sampleRate / 2} Hz`);
  if (wav.layout.channels > 1) found.push(`${wav.layout.channels} channels mixed to one`);
  if (levels.silentShare > warnAt.silentShare) found.push(`${percent(levels.silentShare)} silence`);
  if (levels.clippedShare > warnAt.clippedShare) found.push(`clipping, ${percent(levels.clippedShare)} of the samples`);
  if (Math.abs(levels.dcOffset) > warnAt.dcOffset) found.push(`constant offset of ${levels.dcOffset.toFixed(3)}`);
  if (levels.noiseFloorDb > warnAt.noiseFloorDb) found.push(`noise floor at ${levels.noiseFloorDb.toFixed(0)} dBFS`);
  if (levels.snrDb < warnAt.snrDb) found.push(`only ${levels.snrDb.toFixed(0)} dB between loud and quiet`);
  return found;
}

function summarise(recordings: readonly Recording[], sampleRate: number): RecordingsReport {
  const used = recordings.filter((recording) => recording.skipped === null);
  const lengths = Float64Array.from(used, (recording) => recording.seconds).sort();
  const sampleRates: Record<string, number> = {};
  for (const { sampleRate: rate } of recordings) {
    if (rate !== null) sampleRates[rate] = (sampleRates[rate] ?? 0) + 1;
  }
  return {
    sampleRate,
    recordings,
    used: used.length,
    skipped: recordings.length - used.length,
    usedSeconds: lengths.reduce((sum, seconds) => sum + seconds, 0),
    sampleRates,
    lengths:
      lengths.length === 0
        ? null
        : {
            shortest: lengths[0],
            p10: percentile(lengths, 0.1),
            median: percentile(lengths, 0.5),
            p90: percentile(lengths, 0.9),
            longest: lengths[lengths.length - 1],
          },
  };
}

function percent(share: number): string {
  return `${(share * 100).toFixed(share < 0.01 ? 2 : 0)} %`;
}
