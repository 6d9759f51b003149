// Level, silence, clipping and noise floor of one recording, as one looks at them before training on it.

import { inPieces, runToEnd, type Steps } from "../time-slice.js";

/** Frames of this length are short enough to tell pauses from speech. */
const frameSeconds = 0.02;
/** Frames below this level count as silence. */
export const silenceDb = -60;
/** Samples at or above this magnitude are at full scale (16-bit files: the last 32 steps). */
const fullScale = 0.999;
/** A single sample at full scale is a peak; this many in a row are a flattened one. */
const clippedRun = 3;
/** Levels of digital silence are reported as this, so that reports stay finite (JSON has no infinity). */
export const lowestDb = -120;

/** What the numbers say about one recording; levels in dB relative to full scale. */
export interface Levels {
  readonly peakDb: number;
  readonly rmsDb: number;
  /** Mean of the samples, full scale 1. */
  readonly dcOffset: number;
  /** Share of frames below −60 dBFS, 0 … 1. */
  readonly silentShare: number;
  /** Share of samples in flattened peaks, 0 … 1. */
  readonly clippedShare: number;
  /** The 10th percentile of the frame levels, frames of digital silence left out. */
  readonly noiseFloorDb: number;
  /** 95th percentile of the frame levels less the noise floor: a rough signal-to-noise ratio. */
  readonly snrDb: number;
}

/** samples[n], full scale ±1. Clipping that happened before the level was turned down is not seen. */
export function measureLevels(samples: Float32Array, sampleRate: number): Levels {
  return runToEnd(levelsSteps(samples, sampleRate));
}

/** `measureLevels` in steps, for long recordings. */
export function* levelsSteps(samples: Float32Array, sampleRate: number): Steps<Levels> {
  let peak = 0;
  let sum = 0;
  let energy = 0;
  yield* inPieces(samples.length, 1, (from, to) => {
    // Variables of this function: those around it are slow in a loop.
    let [highest, total, power] = [peak, sum, energy];
    for (let i = from; i < to; i++) {
      const sample = samples[i];
      highest = Math.max(highest, Math.abs(sample));
      total += sample;
      power += sample * sample;
    }
    [peak, sum, energy] = [highest, total, power];
  });
  const count = Math.max(1, samples.length);
  const mean = sum / count;

  const frames = yield* frameLevels(samples, Math.max(1, Math.round(sampleRate * frameSeconds)), mean);
  const clipped = yield* countClipped(samples);
  const heard = frames.filter((level) => level > lowestDb).sort();
  const noiseFloorDb = percentile(heard, 0.1);
  return {
    peakDb: decibels(peak * peak),
    rmsDb: decibels(energy / count),
    dcOffset: mean,
    silentShare: frames.length === 0 ? 1 : frames.filter((level) => level < silenceDb).length / frames.length,
    clippedShare: clipped / count,
    noiseFloorDb,
    snrDb: percentile(heard, 0.95) - noiseFloorDb,
  };
}

/** The value below which `share` of the sorted values lie; the lowest level where there is no value. */
export function percentile(sorted: ArrayLike<number>, share: number): number {
  if (sorted.length === 0) return lowestDb;
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

/**
 * Levels of the frames without the constant offset, in dB; a last frame shorter than half is left out unless it is
 * the only one.
 */
function* frameLevels(samples: Float32Array, length: number, mean: number): Steps<Float64Array> {
  const count = Math.max(samples.length > 0 ? 1 : 0, Math.round(samples.length / length));
  const levels = new Float64Array(count);
  yield* inPieces(count * length, length, (from, to) => {
    for (let start = from; start < to; start += length) {
      const part = samples.subarray(start, start + length);
      let energy = 0;
      for (const sample of part) energy += (sample - mean) ** 2;
      levels[start / length] = decibels(energy / Math.max(1, part.length));
    }
  });
  return levels;
}

function* countClipped(samples: Float32Array): Steps<number> {
  let clipped = 0;
  let run = 0;
  yield* inPieces(samples.length, 1, (from, to) => {
    for (let i = from; i < to; i++) {
      if (Math.abs(samples[i]) >= fullScale) {
        run++;
      } else {
        if (run >= clippedRun) clipped += run;
        run = 0;
      }
    }
  });
  return run >= clippedRun ? clipped + run : clipped;
}

function decibels(power: number): number {
  return Math.max(lowestDb, 10 * Math.log10(power));
}
