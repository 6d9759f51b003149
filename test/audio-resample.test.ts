// The resampler keeps what both rates can hold and removes what only the higher one can.

import { describe, expect, it } from "vitest";
import { resample, resampledLength } from "../lib/audio/resample.js";

function sine(frequency: number, rate: number, count: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => 0.5 * Math.sin((2 * Math.PI * frequency * i) / rate));
}

/** Skips the ends, where the filter reaches past the signal. */
const margin = 1000;

function level(samples: Float32Array): number {
  const middle = samples.subarray(margin, samples.length - margin);
  return 10 * Math.log10(middle.reduce((sum, x) => sum + x * x, 0) / middle.length + 1e-30);
}

describe("resampling", () => {
  it.each([
    [44100, 16000, 1000],
    [48000, 16000, 7000],
    [8000, 16000, 3500],
    [22050, 16000, 440],
    [16000, 44100, 7000],
    [44101, 16000, 5000],
    [96000, 16000, 7150],
  ])("%i → %i Hz keeps a sine of %i Hz to 95 dB", (from, to, frequency) => {
    const output = resample(sine(frequency, from, from), from, to);
    const expected = sine(frequency, to, to);
    expect(output).toHaveLength(to);
    const error = output.map((sample, i) => sample - expected[i]);
    expect(level(expected) - level(error)).toBeGreaterThan(95);
  });

  it.each([
    [48000, 16000, 8100],
    [44100, 16000, 15000],
    [48000, 44100, 23000],
  ])("%i → %i Hz removes a sine of %i Hz by 95 dB", (from, to, frequency) => {
    const output = resample(sine(frequency, from, from), from, to);
    expect(level(output)).toBeLessThan(-9 - 95);
  });

  it("gives the rounded length, and at least one sample of one", () => {
    expect(resampledLength(44100, 44100, 16000)).toBe(16000);
    expect(resampledLength(0, 44100, 16000)).toBe(0);
    expect(resample(Float32Array.of(1), 768000, 8000)).toHaveLength(1);
  });

  it("copies a signal that has the rate already", () => {
    const signal = Float32Array.of(1, 2, 3);
    const output = resample(signal, 16000, 16000);
    expect(output).toEqual(signal);
    expect(output).not.toBe(signal);
  });

  it("refuses rates that are no positive integers", () => {
    expect(() => resample(Float32Array.of(1), 0, 16000)).toThrow(/fromRate: expected a positive integer in Hz, got 0/);
    expect(() => resample(Float32Array.of(1), 16000, 0.5)).toThrow(/toRate/);
  });
});
