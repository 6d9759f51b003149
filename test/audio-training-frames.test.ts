// More training frames are made of a recording by shifting it and by turning its sign.

import { describe, expect, it } from "vitest";
import { framesOfSignals } from "../lib/audio/audio-model.js";
import { trainingFrames } from "../lib/audio/training-frames.js";

const hop = 4;
const one = Float32Array.from({ length: 10 }, (_, i) => Math.sin(i));
const two = Float32Array.from({ length: 7 }, (_, i) => Math.cos(i));

describe("training frames", () => {
  it("are the recordings' own frames where nothing is added", () => {
    const frames = trainingFrames([one, two], { hop, shifts: 1, negated: false });
    expect(frames).toEqual(framesOfSignals([one, two], hop));
    expect(frames).toHaveLength((4 + 3) * hop);
  });

  it("are framed again from later samples", () => {
    const frames = trainingFrames([one, two], { hop, shifts: 2, negated: false });
    expect(frames).toEqual(framesOfSignals([one, two, one.subarray(2), two.subarray(2)], hop));
  });

  it("come with both signs", () => {
    const frames = trainingFrames([one], { hop, shifts: 1, negated: true });
    const plain = framesOfSignals([one], hop);
    expect(frames.subarray(0, plain.length)).toEqual(plain);
    expect(frames.subarray(plain.length)).toEqual(plain.map((x) => -x));
  });
});
