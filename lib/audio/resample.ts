// Changing a signal's sample rate with a windowed-sinc low-pass filter, for any pair of rates.

import { invalidArgument } from "../errors.js";
import { runToEnd, StepMeter, type Steps } from "../js/time-slice.js";
import { maxSamples } from "./wav.js";

/** Zero crossings of the sinc on each side: a transition band of 10 % of the lower Nyquist frequency at 100 dB. */
const zeroCrossings = 64;
/** The pass band ends 5 % below the lower Nyquist frequency (−6 dB point), so the stop band begins at it. */
const cutoff = 0.95;
/** Kaiser's formula 0.1102 (A − 8.7) for A = 100 dB of stop-band attenuation. */
const kaiserBeta = 0.1102 * (100 - 8.7);
/**
 * Filter values tabulated between two zero crossings; interpolating linearly between them errs by less than −125 dB.
 */
const tableSteps = 1024;

/** Output samples for `count` input samples. */
export function resampledLength(count: number, fromRate: number, toRate: number): number {
  return count === 0 ? 0 : Math.max(1, Math.round((count * toRate) / fromRate));
}

/**
 * samples[n] at `fromRate` → the same signal at `toRate`, resampledLength(n) samples; output i lies at the time of
 * input i · fromRate / toRate. Content under 90 % of the lower Nyquist frequency passes flat to within 0.001 dB.
 */
export function resample(samples: Float32Array, fromRate: number, toRate: number): Float32Array {
  return runToEnd(resampleSteps(samples, fromRate, toRate));
}

/** `resample` in steps, for long recordings. */
export function* resampleSteps(samples: Float32Array, fromRate: number, toRate: number): Steps<Float32Array> {
  for (const [name, rate] of Object.entries({ fromRate, toRate })) {
    if (!Number.isInteger(rate) || rate < 1) throw invalidArgument(name, "a positive integer in Hz", rate);
  }
  if (fromRate === toRate) return samples.slice();

  const length = resampledLength(samples.length, fromRate, toRate);
  if (length > maxSamples) {
    throw invalidArgument("samples", `at most ${maxSamples} samples at ${toRate} Hz`, length);
  }
  const output = new Float32Array(length);
  // Filter taps in units of the lower rate's sample period: when the rate goes down, the sinc is stretched over more
  // input.
  const scale = Math.min(1, toRate / fromRate);
  const reach = zeroCrossings / scale;
  const table = filterTable();
  const meter = new StepMeter();
  for (let i = 0; i < output.length; i++) {
    // Whole and fractional position by integer arithmetic: no drift in long files.
    const scaled = i * fromRate;
    const whole = Math.floor(scaled / toRate);
    const position = whole + (scaled - whole * toRate) / toRate;
    const first = Math.max(0, Math.ceil(position - reach));
    const last = Math.min(samples.length - 1, Math.floor(position + reach));
    let sum = 0;
    for (let n = first; n <= last; n++) {
      const at = Math.abs(position - n) * scale * tableSteps;
      const entry = Math.floor(at);
      sum += samples[n] * (table[entry] + (at - entry) * (table[entry + 1] - table[entry]));
    }
    output[i] = sum * scale;
    if (meter.add(2 * reach)) yield;
  }
  return output;
}

let cachedTable: Float64Array | undefined;

/**
 * table[i] = the filter's impulse response i / tableSteps zero crossings from its middle; the last two entries are 0.
 */
function filterTable(): Float64Array {
  if (cachedTable) return cachedTable;
  const length = zeroCrossings * tableSteps;
  const table = new Float64Array(length + 2);
  for (let i = 0; i < length; i++) {
    const x = i / tableSteps;
    const sinc = i === 0 ? cutoff : Math.sin(Math.PI * cutoff * x) / (Math.PI * x);
    const edge = i / length;
    table[i] = (sinc * besselI0(kaiserBeta * Math.sqrt(1 - edge * edge))) / besselI0(kaiserBeta);
  }
  cachedTable = table;
  return table;
}

/** The modified Bessel function of order 0 by its power series; 0 ≤ x ≤ 10.1 here. */
function besselI0(x: number): number {
  let term = 1;
  let sum = 1;
  for (let k = 1; term > sum * 1e-17; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}
