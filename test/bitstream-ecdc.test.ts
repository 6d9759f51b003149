// EnCodec's `.ecdc` streams: the bytes that its compressor writes, and refusal of everything else.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Ecdc, RvqError, readEcdc, writeEcdc } from "../lib/index.js";

const seed = Number(process.env.RVQ_FUZZ_SEED ?? 1);
const scale = Number(process.env.RVQ_FUZZ_SCALE ?? 1);

function refusal(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof RvqError) return `${error.code}: ${error.message}`;
    throw error;
  }
  throw new Error("was accepted");
}

/** Header and JSON as Python's struct and json modules write them, and the data. */
function file(json: string, data: readonly number[], version = 0): Uint8Array {
  const head = Buffer.alloc(9);
  head.write("ECDC");
  head[4] = version;
  head.writeUInt32BE(json.length, 5);
  return new Uint8Array(Buffer.concat([head, Buffer.from(json), Uint8Array.from(data)]));
}

const plain = '{"m": "encodec_24khz", "al": 321, "nc": 2, "lm": false}';

/** Streams of any shape, the codes counting up. */
const anyStream: fc.Arbitrary<Ecdc> = fc
  .record({ wide: fc.boolean(), sampleCount: fc.nat(200_000), stages: fc.integer({ min: 1, max: 16 }) })
  .map(({ wide, sampleCount, stages }) => {
    const lengths = wide
      ? Array.from({ length: Math.ceil(sampleCount / 47_520) }, (_, i) => Math.min(48_000, sampleCount - i * 47_520))
      : sampleCount > 0
        ? [sampleCount]
        : [];
    const segments = lengths.map((length, i) => {
      const count = Math.ceil(length / 320);
      const data = Uint16Array.from({ length: count * stages }, (_, j) => (j * 389 + i) % 1024);
      return { scale: wide ? Math.fround(0.1 + i) : null, codes: { count, stages, data } };
    });
    return { model: wide ? "encodec_48khz" : "encodec_24khz", sampleCount, segments };
  });

describe("a .ecdc file", () => {
  it("holds ten bits a code, the lowest first, frame after frame", () => {
    // Codes 1, 2 | 1023, 512: 0000000001, 0000000010, 1111111111, 1000000000 from the right to the left.
    const data = [0b00000001, 0b00001000, 0b11110000, 0b00111111, 0b10000000];
    const codes = { count: 2, stages: 2, data: Uint16Array.of(1, 2, 1023, 512) };
    const stream: Ecdc = { model: "encodec_24khz", sampleCount: 321, segments: [{ scale: null, codes }] };
    expect(readEcdc(file(plain, data))).toEqual(stream);
    const json = '{"m":"encodec_24khz","al":321,"nc":2,"lm":false}';
    expect(writeEcdc(stream)).toEqual(file(json, data));
  });

  it("has a scale and whole bytes for each second at 48 kHz, which overlap by a hundredth", () => {
    const segment = [0x3f, 0x00, 0, 0, ...new Array<number>(188).fill(0)];
    const bytes = file('{"m": "encodec_48khz", "al": 48000, "nc": 1, "lm": false}', [
      ...segment,
      0x40,
      0,
      0,
      0,
      3,
      0,
      0,
    ]);
    const { segments } = readEcdc(bytes);
    expect(segments.map(({ scale, codes }) => [scale, codes.count])).toEqual([
      [0.5, 150],
      [2, 2],
    ]);
    expect([...segments[1].codes.data]).toEqual([3, 0]);
  });

  it("comes back as it was, whatever its shape", () => {
    fc.assert(
      fc.property(anyStream, (stream) => {
        expect(readEcdc(writeEcdc(stream))).toEqual(stream);
      }),
      { seed, numRuns: 100 * scale },
    );
  });

  it.each([
    [file(plain, [0, 0, 0, 0]), /INVALID_STREAM: ecdc: expected 321 samples, got a file that ends in segment 0/],
    [file(plain, [0, 0, 0, 0, 0, 0]), /INVALID_STREAM: ecdc: expected 69 bytes for 321 samples, got 70/],
    [file(plain, [0, 0, 0, 0, 0], 1), /expected version 0, got 1/],
    [file(plain.replace("false", "true"), []), /expected plain codes \(lm: false\), got lm: true/],
    [file(plain.replace("24khz", "16khz"), []), /expected model encodec_24khz or encodec_48khz, got "encodec_16khz"/],
    [file(plain.replace('"nc": 2', '"nc": 33'), []), /expected 1 to 32 codebooks, got 33/],
    [file(plain.replace("321", "9007199254740991"), []), /got a file that ends in segment 0/],
    [file(plain.replace("321", "-1"), []), /expected a number of samples, got -1/],
    [file("{", []), /expected a header in JSON/],
    [file("null", []), /expected model/],
    [Uint8Array.of(69, 67, 68, 67, 0, 255, 255, 255, 255), /expected a header of at most 0 bytes, got 4294967295/],
    [new Uint8Array(5), /expected a file that begins with ECDC/],
    [file('{"m":"encodec_48khz","al":1,"nc":1,"lm":false}', [0, 0, 0, 0, 0, 0]), /segment 0 with a positive scale/],
  ])("that is none is refused, %#", (bytes, message) => {
    expect(refusal(() => readEcdc(bytes))).toMatch(message);
  });

  it("that is damaged anywhere is read or refused, never a crash", () => {
    const bytes = writeEcdc(fc.sample(anyStream, { numRuns: 1, seed })[0]);
    fc.assert(
      fc.property(fc.nat(bytes.length), fc.nat(80), fc.integer({ min: 1, max: 255 }), (length, at, flip) => {
        const changed = bytes.slice(0, length);
        if (at < length) changed[at] ^= flip;
        try {
          readEcdc(changed);
        } catch (error) {
          expect(error).toBeInstanceOf(RvqError);
        }
      }),
      { seed, numRuns: 300 * scale },
    );
  });

  it("is not made from what does not fit", () => {
    const codes = { count: 2, stages: 2, data: new Uint16Array(4) };
    const stream: Ecdc = { model: "encodec_24khz", sampleCount: 321, segments: [{ scale: null, codes }] };
    const writing = (change: object) => refusal(() => writeEcdc({ ...stream, ...change }));
    expect(writing({ model: "toString" })).toContain("model: expected encodec_24khz or encodec_48khz");
    expect(writing({ sampleCount: 641 })).toContain("segments[0].codes.count: expected 3 frames, got 2");
    expect(writing({ sampleCount: 0 })).toContain("segments: expected 0 for 0 samples, got 1");
    expect(writing({ segments: [] })).toContain("segments: expected all of 321 samples, got");
    expect(writing({ segments: [{ scale: 1, codes }] })).toContain("segments[0].scale: expected null");
    expect(writing({ model: "encodec_48khz" })).toContain("segments[0].scale: expected a positive scale");
    const high = { ...codes, data: Uint16Array.of(0, 0, 0, 1024) };
    expect(writing({ segments: [{ scale: null, codes: high }] })).toContain("CODE_OUT_OF_RANGE: segments[0].codes");
    expect(refusal(() => writeEcdc(null as unknown as Ecdc))).toContain("model: expected");
  });
});
