// Coded audio comes back as it was, and a damaged or hostile file is refused, or read as far as it is intact.

import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { type CodedAudio, codedAudioBytes, firstStages, readCodedAudio } from "../lib/audio/coded-audio.js";
import { rvqToBytes } from "../lib/index.js";
import { Random } from "../lib/random.js";

const modelId = createHash("sha256").update("model").digest("hex");

function example({ sampleCount = 5000, codebookSizes = [256, 100, 2, 65536, 70000] } = {}): CodedAudio {
  const hop = 160;
  const count = sampleCount === 0 ? 0 : Math.ceil(sampleCount / hop) + 1;
  const random = new Random(1);
  const stages = codebookSizes.length;
  const wide = codebookSizes.some((size) => size > 65536);
  const values = Array.from({ length: count * stages }, (_, i) => random.below(codebookSizes[i % stages]));
  const data = wide ? Uint32Array.from(values) : Uint16Array.from(values);
  return { sampleRate: 16000, hop, sampleCount, modelId, codebookSizes, codes: { count, stages, data } };
}

async function bytesOf(audio: CodedAudio): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  for await (const piece of codedAudioBytes(audio)) pieces.push(piece);
  return new Uint8Array(Buffer.concat(pieces));
}

describe("coded audio", () => {
  it.each([
    [5000, [256, 100, 2, 65536, 70000]],
    [160, [3]],
    [1, [256, 256]],
    [0, [256]],
  ])("of %i samples and codebooks %j comes back", async (sampleCount, codebookSizes) => {
    const audio = example({ sampleCount, codebookSizes });
    const codes = { ...audio.codes, stageCounts: null };
    const expected = { ...audio, codes, storedStages: codebookSizes.length, damage: [] };
    expect(await readCodedAudio(await bytesOf(audio))).toEqual(expected);
  });

  it("keeps a prefix of each frame's codes when stages are dropped", async () => {
    const audio = example();
    const two = firstStages(audio, 2);
    expect(two.codebookSizes).toEqual([256, 100]);
    expect(Array.from(two.codes.data.slice(0, 4))).toEqual([0, 1, 5, 6].map((at) => audio.codes.data[at]));
    const read = await readCodedAudio(await bytesOf(audio), { stages: 2 });
    expect([...read.codes.data]).toEqual([...two.codes.data]);
    expect([read.codebookSizes, read.storedStages]).toEqual([[256, 100], 5]);
    expect(() => firstStages(audio, 6)).toThrow(/stages: expected an integer from 1 to 5, got 6/);
  });

  it("refuses to write what could not be read", () => {
    expect(() => codedAudioBytes({ ...example(), sampleCount: 6000 })).toThrow(
      /codes.count: expected 39 frames, got 33/,
    );
  });

  it("tells of a header that its copy stands in for, whether damage is expected or not", async () => {
    const bytes = await bytesOf(example());
    bytes[20] ^= 1;
    for (const recover of [false, true]) {
      const { codes, damage } = await readCodedAudio(bytes, { recover });
      expect([codes.count, damage]).toEqual([33, [expect.stringMatching(/header/)]]);
    }
  });

  it("is read as far as it is intact where that is asked for", async () => {
    const audio = example({ codebookSizes: [256, 100, 2] });
    const bytes = await bytesOf(audio);
    const cut = bytes.subarray(0, bytes.length - 300);
    await expect(readCodedAudio(cut)).rejects.toMatchObject({ code: "INVALID_STREAM" });
    const flipped = bytes.slice();
    // The last byte of the only chunk, whose third stage it is.
    flipped[Buffer.from(bytes).indexOf("RVQE") - 1] ^= 1;
    await expect(readCodedAudio(flipped)).rejects.toThrow(/got damage: chunk 0 .*: stage 2 does not fit its CRC32C/);
    const { codes, damage, sampleCount } = await readCodedAudio(flipped, { recover: true });
    expect([codes.count, codes.stages, sampleCount, damage.length]).toEqual([33, 3, 5000, 1]);
    expect(codes.stageCounts).toEqual(new Uint16Array(33).fill(2));
    const kept = codes.data.map((code, i) => (i % 3 < 2 ? code : 0));
    expect(kept).toEqual(audio.codes.data.map((code, i) => (i % 3 < 2 ? code : 0)));
  });
});

describe("files that are no sound coded audio", () => {
  const codes = { count: 2, stages: 1, data: Uint16Array.of(0, 1) };
  const audio = { sampleRate: 16_000, hop: 160 };

  it.each([
    [
      "no audio settings",
      {},
      { sampleCount: 160 },
      /coded audio with a sample rate of 1000 to 768000 Hz .*, got undefined/,
    ],
    ["no hop", { audio: { sampleRate: 16_000 } }, { sampleCount: 160 }, /an even hop in its metadata, got undefined/],
    ["a rate of 1 Hz", { audio: { ...audio, sampleRate: 1 } }, { sampleCount: 160 }, /a sample rate .*, got 1/],
    ["an odd hop", { audio: { ...audio, hop: 3 } }, { sampleCount: 160 }, /an even hop in its metadata, got 3/],
    ["no sample count", { audio }, {}, /the sample count of 2 frames in the summary, got undefined/],
    [
      "other samples than frames",
      { audio },
      { sampleCount: 161 },
      /the sample count of 2 frames in the summary, got 161/,
    ],
    ["half a sample", { audio }, { sampleCount: 1.5 }, /the sample count of 2 frames in the summary, got 1.5/],
  ])("are refused with %s", async (_, metadata, summary, message) => {
    const bytes = rvqToBytes(codes, { modelId, codebookSizes: [4], metadata, summary });
    await expect(readCodedAudio(bytes)).rejects.toThrow(message);
    await expect(readCodedAudio(bytes)).rejects.toMatchObject({ code: "INVALID_STREAM" });
  });

  it("are refused where a few bytes claim hours of sound", async () => {
    // Codes of a codebook with one codeword take no bytes.
    const count = 2 ** 19;
    const many = { count, stages: 1, data: new Uint16Array(count) };
    const hop = 2048;
    const metadata = { audio: { ...audio, hop } };
    const summary = { sampleCount: (count - 1) * hop };
    const bytes = rvqToBytes(many, { modelId, codebookSizes: [1], metadata, summary, chunkFrames: 65_536 });
    expect(bytes.length).toBeLessThan(1000);
    await expect(readCodedAudio(bytes)).resolves.toMatchObject({ sampleCount: (count - 1) * hop });
    const more = { count: count + 1, stages: 1, data: new Uint16Array(count + 1) };
    const longer = rvqToBytes(more, { modelId, codebookSizes: [1], metadata, summary, chunkFrames: 65_536 });
    await expect(readCodedAudio(longer)).rejects.toThrow(/at most 1073741824 samples, got 1073743872/);
  });
});
