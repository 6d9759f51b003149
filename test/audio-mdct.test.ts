// The transform is orthonormal: what was analysed comes back, with its energy and its exact length.

import { describe, expect, it } from "vitest";
import { Mdct } from "../lib/audio/mdct.js";
import { Random } from "../lib/random.js";

function noise(count: number, seed: number): Float32Array {
  const random = new Random(seed);
  return Float32Array.from({ length: count }, () => random.fraction() * 2 - 1);
}

const energy = (values: Float32Array): number => values.reduce((sum, value) => sum + value * value, 0);

describe("the MDCT", () => {
  it.each([
    [160, 16000],
    [160, 16001],
    [160, 1],
    [160, 160],
    [2, 33],
    [6, 100],
    [256, 5000],
    [1024, 3000],
  ])("with hop %i gives back %i samples to 1e-6", (hop, count) => {
    const mdct = new Mdct(hop);
    const signal = noise(count, hop + count);
    const frames = mdct.analyse(signal);
    expect(frames).toHaveLength(mdct.frameCount(count) * hop);
    const back = mdct.synthesise(frames, count);
    expect(back).toHaveLength(count);
    for (const [i, sample] of back.entries()) expect(Math.abs(sample - signal[i]), `sample ${i}`).toBeLessThan(1e-6);
  });

  it("keeps energy, so an error in frames is the same error in samples", () => {
    const mdct = new Mdct(160);
    const signal = noise(4321, 7);
    const frames = mdct.analyse(signal);
    expect(energy(frames) / energy(signal)).toBeCloseTo(1, 6);
  });

  it("is its definition", () => {
    const hop = 8;
    const signal = noise(24, 3);
    const frames = new Mdct(hop).analyse(signal);
    const t = 2;
    for (let k = 0; k < hop; k++) {
      let sum = 0;
      for (let n = 0; n < 2 * hop; n++) {
        const window = Math.sin((Math.PI / (2 * hop)) * (n + 0.5));
        const angle = (Math.PI / hop) * (n + 0.5 + hop / 2) * (k + 0.5);
        sum += window * signal[(t - 1) * hop + n] * Math.cos(angle);
      }
      expect(frames[t * hop + k]).toBeCloseTo(Math.sqrt(2 / hop) * sum, 6);
    }
  });

  it("makes no frame of no samples", () => {
    const mdct = new Mdct(160);
    expect(mdct.analyse(new Float32Array(0))).toHaveLength(0);
    expect(mdct.synthesise(new Float32Array(0), 0)).toHaveLength(0);
  });

  it("refuses a hop that is odd, too large or no number, and frames of another length", () => {
    for (const hop of [0, 3, -2, 4096, 1.5, Number.NaN]) expect(() => new Mdct(hop)).toThrow(/hop: expected an even/);
    expect(() => new Mdct(160).synthesise(new Float32Array(160), 160)).toThrow(/frames: expected 2 frames of 160/);
  });
});
