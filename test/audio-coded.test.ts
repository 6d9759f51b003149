// Coded audio comes back as it was, and a damaged or hostile file is refused before it costs memory.

import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type CodedAudio, codedAudioFromBytes, codedAudioToBytes, firstStages } from "../lib/audio/coded-audio.js";
import { RvqError } from "../lib/errors.js";
import { Random } from "../lib/random.js";

function example({ sampleCount = 5000, codebookSizes = [256, 100, 2, 65536, 70000] } = {}): CodedAudio {
  const hop = 160;
  const count = sampleCount === 0 ? 0 : Math.ceil(sampleCount / hop) + 1;
  const random = new Random(1);
  const stages = codebookSizes.length;
  const wide = codebookSizes.some((size) => size > 65536);
  const values = Array.from({ length: count * stages }, (_, i) => random.below(codebookSizes[i % stages]));
  const data = wide ? Uint32Array.from(values) : Uint16Array.from(values);
  const modelId = createHash("sha256").update("model").digest("hex");
  return { sampleRate: 16000, hop, sampleCount, modelId, codebookSizes, codes: { count, stages, data } };
}

function refusal(bytes: Uint8Array): RvqError {
  try {
    codedAudioFromBytes(bytes, "x.rvq");
  } catch (error) {
    if (error instanceof RvqError) return error;
    throw error;
  }
  throw new Error("was accepted");
}

/** The file with one field changed and a checksum that fits. */
function forged(change: (bytes: Buffer) => void): Uint8Array {
  const bytes = Buffer.from(codedAudioToBytes(example()));
  change(bytes);
  createHash("sha256")
    .update(bytes.subarray(0, -32))
    .digest()
    .copy(bytes, bytes.length - 32);
  return bytes;
}

describe("coded audio", () => {
  it.each([
    [5000, [256, 100, 2, 65536, 70000]],
    [160, [3]],
    [1, [256, 256]],
    [0, [256]],
  ])("of %i samples and codebooks %j comes back", (sampleCount, codebookSizes) => {
    const audio = example({ sampleCount, codebookSizes });
    expect(codedAudioFromBytes(codedAudioToBytes(audio), "x.rvq")).toEqual(audio);
  });

  it("takes the bits of its codes, a header and a checksum", () => {
    const audio = example({ sampleCount: 16000, codebookSizes: new Array<number>(8).fill(256) });
    expect(codedAudioToBytes(audio)).toHaveLength(64 + 4 * 8 + 101 * 8 + 32);
  });

  it("keeps a prefix of each frame's codes when stages are dropped", () => {
    const audio = example();
    const two = firstStages(audio, 2);
    expect(two.codebookSizes).toEqual([256, 100]);
    expect(Array.from(two.codes.data.slice(0, 4))).toEqual([0, 1, 5, 6].map((at) => audio.codes.data[at]));
    expect(codedAudioFromBytes(codedAudioToBytes(two), "x")).toMatchObject({ codebookSizes: [256, 100] });
    expect(() => firstStages(audio, 6)).toThrow(/stages: expected an integer from 1 to 5, got 6/);
  });

  it("refuses to write what could not be read", () => {
    expect(() => codedAudioToBytes({ ...example(), sampleCount: 6000 })).toThrow(
      /codes.count: expected 39 frames, got 33/,
    );
    expect(() => codedAudioToBytes({ ...example(), codebookSizes: [256] })).toThrow(/codebookSizes: expected 5 sizes/);
    expect(() => codedAudioToBytes({ ...example(), modelId: "abc" })).toThrow(
      /modelId: expected 64 hexadecimal digits/,
    );
    const single = example({ codebookSizes: [1, 256] });
    expect(() => codedAudioToBytes(single)).toThrow(/codebookSizes: expected sizes of at least 2/);
  });
});

describe("files that are no sound coded audio", () => {
  const whole = codedAudioToBytes(example());

  it("are refused when cut anywhere", () => {
    for (let length = 0; length < whole.length; length++) {
      expect(refusal(whole.subarray(0, length)).code).toBe("INVALID_STREAM");
    }
  });

  it("are refused when any bits are changed", () => {
    const anyByte = fc.tuple(fc.nat(whole.length - 1), fc.integer({ min: 1, max: 255 }));
    fc.assert(
      fc.property(anyByte, ([at, change]) => {
        const bytes = Uint8Array.from(whole);
        bytes[at] ^= change;
        expect(refusal(bytes).code).toBe("INVALID_STREAM");
      }),
      { seed: 1, numRuns: 2000 },
    );
  });

  it.each([
    ["a version to come", (b: Buffer) => b.writeUInt32LE(2, 8), /x\.rvq: expected version 1, got 2/],
    ["no sample rate", (b: Buffer) => b.writeUInt32LE(0, 12), /sample rate of 1000 to 768000 Hz, got 0/],
    ["no hop", (b: Buffer) => b.writeUInt32LE(0, 16), /a hop of 1 to 65536, got 0/],
    ["4 billion stages", (b: Buffer) => b.writeUInt32LE(0xffffffff, 20), /stages that fit \d+ bytes, got 4294967295/],
    [
      "2^60 samples",
      (b: Buffer) => b.writeBigUInt64LE(2n ** 60n, 24),
      /bytes for \d+ frames, got \d+: a truncated file/,
    ],
    ["fewer samples", (b: Buffer) => b.writeBigUInt64LE(10n, 24), /a file that is too long/],
    ["one codeword", (b: Buffer) => b.writeUInt32LE(1, 64), /2 to 16777216 codewords in stage 0, got 1/],
    [
      "a code beyond its codebook",
      (b: Buffer) => b.fill(0xff, 84, b.length - 40),
      /^x\.rvq: packed codes: .*(code|below)/,
    ],
  ])("are refused with %s, though the checksum fits", (_, change, message) => {
    const error = refusal(forged(change));
    expect(error.code).toBe("INVALID_STREAM");
    expect(error.message).toMatch(message);
  });
});
