// A trained quantizer as an audio codec: which signals it was trained on, and the way from samples to codes and back.

import { RvqError, show } from "../errors.js";
import { allocateStages, frameErrors, type ResidualQuantizer, type WritableCodes } from "../index.js";
import { bitsPerCode } from "../pack-layout.js";
import { runToEnd, type Steps } from "../time-slice.js";
import { isHop, Mdct } from "./mdct.js";
import { runStoppable } from "./stoppable.js";
import { maxSampleRate, minSampleRate } from "./wav.js";

/** What a model's metadata say under "audio": its vectors are MDCT frames of signals at this rate. */
export interface AudioSettings {
  /** Hz. */
  readonly sampleRate: number;
  /** H: samples a frame, and the dimension of the vectors. */
  readonly hop: number;
}

export interface SignalOptions {
  /** How many stages to use; default: all. */
  readonly stages?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

/** The audio settings in a model's metadata. Throws `RvqError` INVALID_MODEL for a model not trained on audio. */
export function audioSettings(quantizer: ResidualQuantizer): AudioSettings {
  const audio = quantizer.metadata.audio;
  if (typeof audio !== "object" || audio === null || !("sampleRate" in audio) || !("hop" in audio)) {
    throw new RvqError(
      "INVALID_MODEL",
      "expected a model trained on audio (by rvq train or rvq demo), got another one",
    );
  }
  const { sampleRate, hop } = audio;
  // Anyone can write metadata: a rate of 1 GHz would make gigabytes of a second of audio.
  if (!isSampleRate(sampleRate) || !isHop(hop) || hop !== quantizer.dim) {
    const expected = `a sample rate of ${minSampleRate} to ${maxSampleRate} Hz and an even hop that is its dimension`;
    const got = `sample rate ${show(sampleRate)}, hop ${show(hop)} and dimension ${quantizer.dim}`;
    throw new RvqError("INVALID_MODEL", `expected a model with ${expected}, got ${got}`);
  }
  return { sampleRate, hop };
}

export interface EncodeSignalOptions extends SignalOptions {
  /** Partial codes kept in the search; default: 1. */
  readonly beam?: number;
  /** Choose each frame's stages so that the packed codes fill this rate; default: all frames have `stages`. */
  readonly kbps?: number;
}

/** samples[n] at the model's rate → codes of its frames. */
export async function encodeSignal(
  quantizer: ResidualQuantizer,
  samples: Float32Array,
  { kbps, ...options }: EncodeSignalOptions = {},
): Promise<WritableCodes> {
  const { sampleRate, hop } = audioSettings(quantizer);
  const frames = await runStoppable(new Mdct(hop).analyseSteps(samples), options.signal);
  const codes = await quantizer.encode(frames, options);
  if (kbps === undefined) return codes;
  const errors = await frameErrors(quantizer, frames, codes, { signal: options.signal });
  const bits = quantizer.codebookSizes.slice(0, codes.stages).map(bitsPerCode);
  const { stageCounts } = allocateStages(errors, bits, { frameRate: sampleRate / hop, kbps });
  return { ...codes, stageCounts };
}

/** Codes of a signal of `sampleCount` samples → samples[sampleCount]. */
export async function decodeSignal(
  quantizer: ResidualQuantizer,
  codes: WritableCodes,
  sampleCount: number,
  { stages, signal }: SignalOptions = {},
): Promise<Float32Array> {
  const mdct = new Mdct(audioSettings(quantizer).hop);
  const frames = await quantizer.decode(codes, { stages, signal });
  return runStoppable(mdct.synthesiseSteps(frames, sampleCount), signal);
}

/** The frames of several signals, one after the other: frames[total][hop]. */
export function framesOfSignals(signals: readonly Float32Array[], hop: number): Float32Array {
  return runToEnd(framesOfSignalsSteps(signals, new Mdct(hop)));
}

/** `framesOfSignals` in steps, for long recordings, into the beginning of `frames` if that is given. */
export function* framesOfSignalsSteps(
  signals: readonly Float32Array[],
  mdct: Mdct,
  frames = new Float32Array(totalFrames(signals, mdct) * mdct.hop),
): Steps<Float32Array> {
  let at = 0;
  for (const samples of signals) {
    const end = at + mdct.frameCount(samples.length) * mdct.hop;
    yield* mdct.analyseSteps(samples, frames.subarray(at, end));
    at = end;
  }
  return frames;
}

/** Frames of all signals together. */
export function totalFrames(signals: readonly Float32Array[], mdct: Mdct): number {
  return signals.reduce((sum, samples) => sum + mdct.frameCount(samples.length), 0);
}

/** 10 log10 of signal energy over error energy, in dB; infinite for a perfect reconstruction, NaN for silence. */
export function signalToNoiseDb(original: Float32Array, reconstruction: Float32Array): number {
  let energy = 0;
  let noise = 0;
  for (let i = 0; i < original.length; i++) {
    energy += original[i] * original[i];
    noise += (original[i] - reconstruction[i]) ** 2;
  }
  return 10 * Math.log10(energy / noise);
}

function isSampleRate(rate: unknown): rate is number {
  return typeof rate === "number" && Number.isInteger(rate) && rate >= minSampleRate && rate <= maxSampleRate;
}
