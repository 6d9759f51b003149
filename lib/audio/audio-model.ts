// A trained quantizer as an audio codec: which signals it was trained on, and the way from samples to codes and back.

import { RvqError } from "../errors.js";
import type { Codes, ResidualQuantizer } from "../index.js";
import { Mdct } from "./mdct.js";

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
  const isRate = typeof sampleRate === "number" && Number.isInteger(sampleRate) && sampleRate > 0;
  if (!isRate || hop !== quantizer.dim) {
    const got = `sample rate ${String(sampleRate)} and hop ${String(hop)}`;
    throw new RvqError(
      "INVALID_MODEL",
      `expected a model with a sample rate in Hz and hop ${quantizer.dim}, got ${got}`,
    );
  }
  return { sampleRate, hop };
}

/** samples[n] at the model's rate → codes of its frames. */
export async function encodeSignal(
  quantizer: ResidualQuantizer,
  samples: Float32Array,
  options: SignalOptions = {},
): Promise<Codes> {
  return quantizer.encode(new Mdct(audioSettings(quantizer).hop).analyse(samples), options);
}

/** Codes of a signal of `sampleCount` samples → samples[sampleCount]. */
export async function decodeSignal(
  quantizer: ResidualQuantizer,
  codes: Codes,
  sampleCount: number,
  { stages, signal }: SignalOptions = {},
): Promise<Float32Array> {
  const frames = await quantizer.decode(codes, { stages, signal });
  return new Mdct(audioSettings(quantizer).hop).synthesise(frames, sampleCount);
}

/** The frames of several signals, one after the other: frames[total][hop]. */
export function framesOfSignals(signals: readonly Float32Array[], hop: number): Float32Array {
  const mdct = new Mdct(hop);
  const total = signals.reduce((sum, samples) => sum + mdct.frameCount(samples.length), 0);
  const frames = new Float32Array(total * hop);
  let at = 0;
  for (const samples of signals) {
    const part = mdct.analyse(samples);
    frames.set(part, at);
    at += part.length;
  }
  return frames;
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
