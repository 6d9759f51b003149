// The lapped transform that turns a signal into vectors: an orthonormal MDCT with a sine window, hop = dimension.

import { invalidArgument } from "../errors.js";
import { runToEnd, StepMeter, type Steps } from "../js/time-slice.js";

/** The cosine table of the direct transform has hop² entries: 32 MiB at this hop. */
export const maxHop = 2048;

/** Whether a transform can have this hop: even, 2 … 2048. */
export function isHop(hop: unknown): hop is number {
  return typeof hop === "number" && Number.isInteger(hop) && hop >= 2 && hop <= maxHop && hop % 2 === 0;
}

/**
 * X_t[k] = sqrt(2/H) Σ_{n<2H} w[n] x[(t−1)H + n] cos(π/H (n + ½ + H/2)(k + ½)), w[n] = sin(π/2H (n + ½)) (Princen,
 * Johnson and Bradley 1987). Frames overlap by half. The transform of the signal with H zeros before it and zeros to
 * the end of the last frame after it is orthonormal: energies and squared errors are the same in frames and in
 * samples, and `synthesise(analyse(x))` is x. Sums run in float64 in a fixed order and are rounded to float32 at the
 * end. The tables come from `Math.sin` and `Math.cos`, which other JavaScript engines may round differently in the
 * last of 53 bits.
 */
export class Mdct {
  /** H: new samples a frame, and coefficients a frame. */
  readonly hop: number;
  /** w[2H]. */
  private readonly window: Float64Array;
  /** basis[k][n] = sqrt(2/H) cos(π/H (n + ½)(k + ½)): the DCT-IV, which is symmetric and its own inverse. */
  private readonly basis: Float64Array;
  /** One frame of H folded samples, and one of H coefficients or aliased samples. */
  private readonly folded: Float64Array;
  private readonly unfolded: Float64Array;

  /** @param hop even, 2 … 2048 */
  constructor(hop: number) {
    if (!isHop(hop)) throw invalidArgument("hop", `an even integer from 2 to ${maxHop}`, hop);
    this.hop = hop;
    this.window = Float64Array.from({ length: 2 * hop }, (_, n) => Math.sin((Math.PI / (2 * hop)) * (n + 0.5)));
    this.basis = dct4Basis(hop);
    this.folded = new Float64Array(hop);
    this.unfolded = new Float64Array(hop);
  }

  /** Frames that cover `sampleCount` samples, each of them twice. */
  frameCount(sampleCount: number): number {
    return sampleCount === 0 ? 0 : Math.ceil(sampleCount / this.hop) + 1;
  }

  /** signal[n] → frames[frameCount(n)][hop]. */
  analyse(signal: Float32Array): Float32Array {
    return runToEnd(this.analyseSteps(signal));
  }

  /** `analyse` in steps, for long signals. `frames` is where they go, if they are to go into a larger array. */
  *analyseSteps(
    signal: Float32Array,
    frames = new Float32Array(this.frameCount(signal.length) * this.hop),
  ): Steps<Float32Array> {
    const { hop, folded, unfolded } = this;
    const count = this.frameCount(signal.length);
    const meter = new StepMeter();
    for (let t = 0; t < count; t++) {
      this.fold(signal, (t - 1) * hop);
      this.transform(folded, unfolded);
      frames.set(unfolded, t * hop);
      if (meter.add(hop * hop)) yield;
    }
    return frames;
  }

  /** frames[frameCount(sampleCount)][hop] → signal[sampleCount]. */
  synthesise(frames: Float32Array, sampleCount: number): Float32Array {
    return runToEnd(this.synthesiseSteps(frames, sampleCount));
  }

  /** `synthesise` in steps, for long signals. */
  *synthesiseSteps(frames: Float32Array, sampleCount: number): Steps<Float32Array> {
    const { hop, folded, unfolded } = this;
    const count = this.frameCount(sampleCount);
    if (frames.length !== count * hop) {
      throw invalidArgument("frames", `${count} frames of ${hop} values for ${sampleCount} samples`, frames);
    }
    const signal = new Float32Array(sampleCount);
    // The second half of a frame waits here, in float64, for the first half of the next.
    const overlap = new Float64Array(2 * hop);
    const meter = new StepMeter();
    for (let t = 0; t < count; t++) {
      for (let k = 0; k < hop; k++) unfolded[k] = frames[t * hop + k];
      this.transform(unfolded, folded);
      this.unfoldInto(overlap);
      const start = (t - 1) * hop;
      const length = Math.min(hop, sampleCount - start);
      if (t > 0) for (let n = 0; n < length; n++) signal[start + n] = overlap[n];
      overlap.copyWithin(0, hop);
      overlap.fill(0, hop);
      if (meter.add(hop * hop)) yield;
    }
    return signal;
  }

  /** With windowed quarters a, b, c, d of samples start … start + 2H: (−c_r − d, a − b_r), where _r means reversed. */
  private fold(signal: Float32Array, start: number): void {
    const { hop, window, folded } = this;
    const half = hop / 2;
    const at = (n: number): number => {
      const i = start + n;
      return i >= 0 && i < signal.length ? window[n] * signal[i] : 0;
    };
    for (let n = 0; n < half; n++) {
      folded[n] = -at(3 * half - 1 - n) - at(3 * half + n);
      folded[half + n] = at(n) - at(hop - 1 - n);
    }
  }

  /** The adjoint of `fold`, added to overlap[2H]. */
  private unfoldInto(overlap: Float64Array): void {
    const { hop, window, folded } = this;
    const half = hop / 2;
    for (let n = 0; n < half; n++) {
      overlap[3 * half - 1 - n] -= window[3 * half - 1 - n] * folded[n];
      overlap[3 * half + n] -= window[3 * half + n] * folded[n];
      overlap[n] += window[n] * folded[half + n];
      overlap[hop - 1 - n] -= window[hop - 1 - n] * folded[half + n];
    }
  }

  /** output[k] = Σ basis[k][n] input[n], in four interleaved sums. H is even, so pairs come out even. */
  private transform(input: Float64Array, output: Float64Array): void {
    const { hop, basis } = this;
    for (let k = 0; k < hop; k += 2) {
      const row0 = k * hop;
      const row1 = row0 + hop;
      let even0 = 0;
      let odd0 = 0;
      let even1 = 0;
      let odd1 = 0;
      for (let n = 0; n < hop; n += 2) {
        even0 += basis[row0 + n] * input[n];
        odd0 += basis[row0 + n + 1] * input[n + 1];
        even1 += basis[row1 + n] * input[n];
        odd1 += basis[row1 + n + 1] * input[n + 1];
      }
      output[k] = even0 + odd0;
      output[k + 1] = even1 + odd1;
    }
  }
}

/** The angles are odd multiples of π/4H, so 8H cosines fill the table. */
function dct4Basis(hop: number): Float64Array {
  const scale = Math.sqrt(2 / hop);
  const period = 8 * hop;
  const cosines = Float64Array.from({ length: period }, (_, i) => scale * Math.cos((Math.PI * i) / (4 * hop)));
  const basis = new Float64Array(hop * hop);
  for (let k = 0; k < hop; k++) {
    for (let n = 0; n < hop; n++) basis[k * hop + n] = cosines[((2 * n + 1) * (2 * k + 1)) % period];
  }
  return basis;
}
