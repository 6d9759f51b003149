// WAV files of every supported form are read right, and hostile ones end in a typed error.

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { WaveFile } from "wavefile";
import { describeFormat, parseWav, readWav, wavChannels, wavToMono } from "../lib/audio/wav.js";
import { encodeWav } from "../lib/audio/wav-write.js";
import { RvqError } from "../lib/errors.js";

/** signal[count]: a sine with a slow swell, |x| < 0.9. */
function tone(count: number, phase = 0): Float64Array {
  return Float64Array.from({ length: count }, (_, i) => 0.9 * Math.sin(i / 7 + phase) * Math.sin(i / 90));
}

/** A file written by an independent library. */
function independentFile(bitDepth: string, channels: Float64Array[], sampleRate = 22050): Uint8Array {
  const scale: Record<string, (x: number) => number> = {
    "8": (x) => Math.round(x * 127) + 128,
    "16": (x) => Math.round(x * 32767),
    "24": (x) => Math.round(x * 8388607),
    "32": (x) => Math.round(x * 2147483647),
    "32f": (x) => x,
    "64": (x) => x,
  };
  const wav = new WaveFile();
  const samples = channels.map((channel) => channel.map(scale[bitDepth]));
  wav.fromScratch(channels.length, sampleRate, bitDepth, channels.length === 1 ? samples[0] : samples);
  return wav.toBuffer();
}

interface FormatFields {
  tag?: number;
  channels?: number;
  rate?: number;
  block?: number;
  bits?: number;
  extra?: Buffer;
}

function chunk(id: string, body: Uint8Array, claimed = body.length): Buffer {
  const head = Buffer.alloc(8);
  head.write(id, 0, "latin1");
  head.writeUInt32LE(claimed, 4);
  return Buffer.concat([head, body, Buffer.alloc(body.length % 2)]);
}

function formatChunk({ tag = 1, channels = 1, rate = 8000, block = 2, bits = 16, extra }: FormatFields = {}): Buffer {
  const body = Buffer.alloc(16);
  body.writeUInt16LE(tag, 0);
  body.writeUInt16LE(channels, 2);
  body.writeUInt32LE(rate, 4);
  body.writeUInt32LE((rate * block) % 2 ** 32, 8);
  body.writeUInt16LE(block, 12);
  body.writeUInt16LE(bits, 14);
  return chunk("fmt ", extra ? Buffer.concat([body, extra]) : body);
}

function riff(chunks: Buffer[], { magic = "RIFF", claimed }: { magic?: string; claimed?: number } = {}): Buffer {
  const body = Buffer.concat([Buffer.from("WAVE"), ...chunks]);
  const head = Buffer.alloc(8);
  head.write(magic, 0, "latin1");
  head.writeUInt32LE(claimed ?? body.length, 4);
  return Buffer.concat([head, body]);
}

function int16(...samples: number[]): Buffer {
  return Buffer.from(Int16Array.from(samples).buffer);
}

function failure(bytes: Uint8Array): RvqError {
  try {
    wavToMono(parseWav(bytes, "bad.wav"));
  } catch (error) {
    if (error instanceof RvqError) return error;
    throw error;
  }
  throw new Error("no error was thrown");
}

describe("reading WAV formats", () => {
  const tolerance: Record<string, number> = { "8": 0.012, "16": 1e-4, "24": 1e-6, "32": 1e-7, "32f": 1e-7, "64": 1e-7 };

  for (const bitDepth of Object.keys(tolerance)) {
    for (const channels of [1, 2, 5]) {
      it(`reads ${channels} channel(s) of ${bitDepth} bits`, () => {
        const signals = Array.from({ length: channels }, (_, c) => tone(501, c));
        const wav = parseWav(independentFile(bitDepth, signals), "x.wav");
        expect([wav.sampleRate, wav.count, wav.missing, wav.layout.channels]).toEqual([22050, 501, 0, channels]);
        wavChannels(wav).forEach((samples, c) => {
          for (const [i, sample] of samples.entries()) {
            expect(Math.abs(sample - signals[c][i])).toBeLessThan(tolerance[bitDepth]);
          }
        });
      });
    }
  }

  it.each(["a-law", "mu-law"] as const)("reads every %s byte as the library beside it does", (encoding) => {
    const data = Uint8Array.from({ length: 256 }, (_, i) => i);
    const file = riff([formatChunk({ tag: encoding === "a-law" ? 6 : 7, block: 1, bits: 8 }), chunk("data", data)]);
    const independent = new WaveFile(file);
    if (encoding === "a-law") independent.fromALaw();
    else independent.fromMuLaw();
    const expected = Array.from(independent.getSamples(false, Int16Array) as unknown as Int16Array, (x) => x / 32768);
    expect(Array.from(wavToMono(parseWav(file, "x")))).toEqual(expected);
  });

  it("reads IMA ADPCM as SoX does, also of a block that was cut off", () => {
    // Two sines written by SoX 14.4.2, cut after the second group of eight samples; the values are SoX's decoding.
    const hex = [
      "524946463402000057415645666d74201400000011000200401f0000af1f0000000204000200f901",
      "666163740400000028000000646174610002000040054700400552003690bd9cb42c940c285313b8848b149c",
    ];
    const wav = parseWav(Buffer.from(hex.join(""), "hex"), "x");
    expect([wav.layout.encoding, wav.count, wav.missing]).toEqual(["ima-adpcm", 17, 40 - 17]);
    expect(wavChannels(wav).map((channel) => Array.from(channel, (x) => x * 32768))).toEqual([
      [
        1344, 11880, 21929, 23234, 19675, 7810, -3244, -16166, -21377, -22956, -15778, -6642, 6410, 18570, 23307, 21872,
        12736,
      ],
      [
        1344, 22156, 2570, -20323, -4935, 20248, 10092, -17608, -13884, 16587, 12492, -13577, -16962, 10738, 21910,
        -8561, -20847,
      ],
    ]);
  });

  it("reads WAVE_FORMAT_EXTENSIBLE, also 24 bits in a 32-bit container", () => {
    const extra = Buffer.alloc(24);
    extra.writeUInt16LE(22, 0);
    extra.writeUInt16LE(24, 2);
    Buffer.from("0100000000001000800000aa00389b71", "hex").copy(extra, 8);
    const data = Buffer.alloc(8);
    data.writeInt32LE(0x40000000, 0);
    data.writeInt32LE(-0x80000000, 4);
    const file = riff([formatChunk({ tag: 0xfffe, block: 4, bits: 32, extra }), chunk("data", data)]);
    expect(Array.from(wavToMono(parseWav(file, "x")))).toEqual([0.5, -1]);
    const narrow = riff([formatChunk({ tag: 0xfffe, block: 4, bits: 24, extra }), chunk("data", data)]);
    expect(Array.from(wavToMono(parseWav(narrow, "x")))).toEqual([0.5, -1]);
  });

  it("mixes channels to their mean", () => {
    const file = riff([formatChunk({ channels: 2, block: 4 }), chunk("data", int16(16384, 0, -8192, -8192))]);
    expect(Array.from(wavToMono(parseWav(file, "x")))).toEqual([0.25, -0.25]);
    expect(describeFormat(parseWav(file, "x"))).toBe("16-bit PCM, 2 channels, 8000 Hz");
  });

  it("skips other chunks, padded or not, before and after the data", () => {
    const odd = chunk("junk", Buffer.from("abc"));
    const unpadded = odd.subarray(0, odd.length - 1);
    const data = chunk("data", int16(1, 2, 3));
    const expected = [1 / 32768, 2 / 32768, 3 / 32768];
    for (const file of [
      riff([odd, formatChunk(), odd, data, odd]),
      riff([unpadded, formatChunk(), unpadded, data]),
      riff([data, formatChunk()]),
    ]) {
      expect(Array.from(wavToMono(parseWav(file, "x")))).toEqual(expected);
    }
  });

  it("reads to the end of a file whose writer did not know the length", () => {
    const samples = int16(5, 6, 7, 8);
    for (const [riffLength, dataLength] of [
      [0xffffffff, 0xffffffff],
      [0, 0],
      [0x7ffff024, 0x7ffff000],
    ]) {
      const file = riff([formatChunk(), chunk("data", samples, dataLength)], { claimed: riffLength });
      const wav = parseWav(file, "x");
      expect([wav.count, wav.missing]).toEqual([4, 0]);
    }
  });

  it("reads RF64 with its 64-bit length", () => {
    const sizes = Buffer.alloc(28);
    sizes.writeBigUInt64LE(4n, 8);
    const data = chunk("data", int16(1, 2, 3, 4), 0xffffffff);
    const wav = parseWav(riff([chunk("ds64", sizes), formatChunk(), data], { magic: "RF64" }), "x");
    expect([wav.count, wav.missing]).toEqual([2, 0]);
  });

  it("takes what is there of a truncated file and says how much is missing", () => {
    const wav = parseWav(riff([formatChunk(), chunk("data", int16(1, 2, 3), 2000)]), "x");
    expect([wav.count, wav.missing]).toEqual([3, 997]);
  });

  it("reads a file without a sample", () => {
    expect(wavToMono(parseWav(riff([formatChunk(), chunk("data", int16())]), "x"))).toHaveLength(0);
  });
});

describe("writing WAV files", () => {
  it("keeps 16-bit samples exactly, and rounds and clamps others", () => {
    const samples = Float32Array.of(0, 1 / 32768, -1, 32767 / 32768, 0.4999 / 32768, 2, -3);
    const file = encodeWav(samples, 16000);
    expect(file).toHaveLength(44 + 14);
    const read = Array.from(wavToMono(parseWav(file, "x")));
    expect(read).toEqual([0, 1 / 32768, -1, 32767 / 32768, 0, 32767 / 32768, -1]);
  });

  it("keeps floats exactly, beyond full scale too, in a file that another library reads", () => {
    const samples = Float32Array.of(0, 1e-30, -1.5, Math.PI);
    const file = encodeWav(samples, 44100, { format: "float32" });
    expect(wavToMono(parseWav(file, "x"))).toEqual(samples);
    expect(Array.from(new WaveFile(file).getSamples(false, Float32Array) as unknown as Float32Array)).toEqual(
      Array.from(samples),
    );
  });
});

describe("files that are no sound WAV", () => {
  const data = chunk("data", int16(1, 2));
  const cases: [string, Uint8Array, RegExp][] = [
    ["an empty file", Buffer.alloc(0), /bad\.wav: expected a WAV file, got an empty file/],
    ["a text", Buffer.from("hello, world, this is text"), /begins with "hello, world"/],
    ["big-endian", riff([formatChunk(), data], { magic: "RIFX" }), /little-endian/],
    ["no fmt chunk", riff([data]), /expected a fmt chunk, got none/],
    ["no data chunk", riff([formatChunk()]), /expected a data chunk, got none/],
    ["a short fmt chunk", riff([chunk("fmt ", Buffer.alloc(12)), data]), /at least 16 bytes, got 12/],
    ["a fmt chunk beyond the end", riff([chunk("fmt ", Buffer.alloc(16), 1e9)]), /fmt chunk of 1000000000 bytes/],
    ["no channels", riff([formatChunk({ channels: 0 }), data]), /at least one channel, got 0/],
    ["1 Hz", riff([formatChunk({ rate: 1 }), data]), /sample rate of 1000 to 768000 Hz, got 1/],
    ["4 GHz", riff([formatChunk({ rate: 4e9 }), data]), /got 4000000000/],
    ["77 bits", riff([formatChunk({ bits: 77 }), data]), /pcm samples of 8, 16, 24, 32 bits, got 77 bits/],
    ["a block that fits no sample", riff([formatChunk({ block: 0 }), data]), /0 bytes a block/],
    ["MP3 inside", riff([formatChunk({ tag: 0x55 }), data]), /format tag 85/],
    ["odd ADPCM blocks", riff([formatChunk({ tag: 0x11, bits: 4, block: 7 }), data]), /ADPCM in blocks/],
  ];
  it.each(cases)("refuses %s", (_, bytes, message) => {
    const error = failure(bytes);
    expect(error.code).toBe("INVALID_AUDIO");
    expect(error.message).toMatch(message);
  });

  it("refuses samples that are not finite, by position", () => {
    const samples = Float32Array.of(0, 1, Number.NaN);
    expect(failure(encodeWav(samples, 16000, { format: "float32" })).message).toMatch(/got NaN at sample 2/);
  });

  it("throws nothing but RvqError for any damage, and never makes more samples than bytes allow", () => {
    const sources = ["8", "16", "24", "32f", "64"].map((depth) => independentFile(depth, [tone(60), tone(60, 1)]));
    const adpcm = formatChunk({ tag: 0x11, channels: 2, bits: 4, block: 64, extra: Buffer.from([2, 0, 49, 0]) });
    sources.push(riff([adpcm, chunk("data", sources[1].subarray(44, 44 + 200))]));
    const flips = fc.array(fc.tuple(fc.nat(99), fc.nat(255)), { maxLength: 6 });
    fc.assert(
      fc.property(fc.nat(sources.length - 1), fc.nat(400), fc.boolean(), flips, (source, length, cut, changes) => {
        const bytes = Uint8Array.from(cut ? sources[source].subarray(0, length) : sources[source]);
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
        try {
          const wav = parseWav(bytes, "x");
          expect(wav.count).toBeLessThanOrEqual(bytes.length * 2);
          expect(wavToMono(wav)).toHaveLength(wav.count);
        } catch (error) {
          if (!(error instanceof RvqError)) throw error;
        }
      }),
      { numRuns: 20_000, seed: 1 },
    );
  });

  it("names the path of a file that is missing, a folder or a text, without reading a large one", async () => {
    const folder = await mkdtemp(join(tmpdir(), "rvq-wav-"));
    try {
      await writeFile(join(folder, "text.wav"), "not audio at all");
      await expect(readWav(join(folder, "none.wav"))).rejects.toMatchObject({ name: "RvqError", code: "IO" });
      await expect(readWav(folder)).rejects.toMatchObject({ code: "INVALID_AUDIO" });
      await expect(readWav(join(folder, "text.wav"))).rejects.toThrow(/text\.wav: expected a WAV file/);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
