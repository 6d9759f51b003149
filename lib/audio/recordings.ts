// Checking recordings before training on them: what is broken, silent, clipped, noisy or there twice is found and said.

import { createHash } from "node:crypto";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { RvqError } from "../errors.js";
import { ioError } from "./io-error.js";
import { type Levels, measureLevels, percentile, silenceDb } from "./levels.js";
import { resample } from "./resample.js";
import { describeFormat, readWav, type Wav, wavToMono } from "./wav.js";

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
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

/** The WAV files among `paths` and, in the order of their names, under the folders among them. */
export async function findRecordings(paths: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const path of paths) {
    if (!(await isFolder(path))) {
      found.push(path);
      continue;
    }
    const names = (await listFolder(path)).filter((name) => /\.wave?$/i.test(name));
    // Sorted by code unit, so that the order, and with it the trained model, is the same in every locale.
    found.push(...names.sort().map((name) => join(path, name)));
  }
  return [...new Set(found)];
}

/** Reads and judges each file; returns the report and the signals that are fit to train on, in the order of `paths`. */
export async function checkRecordings(
  paths: readonly string[],
  { sampleRate, otherRates = "resample", signal, onProgress }: CheckOptions,
): Promise<{ report: RecordingsReport; signals: Signal[] }> {
  const recordings: Recording[] = [];
  const signals: Signal[] = [];
  const pathOfContent = new Map<string, string>();
  for (const path of paths) {
    signal?.throwIfAborted();
    const { recording, samples } = await judge(path, sampleRate, otherRates, pathOfContent);
    recordings.push(recording);
    if (samples) signals.push({ path, samples });
    onProgress?.(recordings.length, paths.length);
  }
  return { report: summarise(recordings, sampleRate), signals };
}

async function judge(
  path: string,
  sampleRate: number,
  otherRates: "resample" | "refuse",
  pathOfContent: Map<string, string>,
): Promise<{ recording: Recording; samples?: Float32Array }> {
  let wav: Wav;
  let samples: Float32Array;
  try {
    wav = await readWav(path);
    samples = wavToMono(wav);
  } catch (error) {
    if (!(error instanceof RvqError)) throw error;
    const recording = { path, format: null, sampleRate: null, seconds: 0, levels: null, warnings: [] };
    return { recording: { ...recording, skipped: withoutPath(error.message, path) } };
  }

  const seconds = wav.count / wav.sampleRate;
  const levels = measureLevels(samples, wav.sampleRate);
  const content = createHash("sha256").update(`${wav.sampleRate} `).update(samples).digest("hex");
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
  pathOfContent.set(content, path);
  return {
    recording,
    samples: wav.sampleRate === sampleRate ? samples : resample(samples, wav.sampleRate, sampleRate),
  };
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

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch {
    return false; // reading it as a file will say what is wrong
  }
}

async function listFolder(path: string): Promise<string[]> {
  try {
    return await readdir(path, { recursive: true });
  } catch (error) {
    throw ioError(path, "listed", error);
  }
}

/** The path has its own column. */
function withoutPath(message: string, path: string): string {
  return message.startsWith(`${path}: `) ? message.slice(path.length + 2) : message;
}

function percent(share: number): string {
  return `${(share * 100).toFixed(share < 0.01 ? 2 : 0)} %`;
}
