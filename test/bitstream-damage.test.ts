// A cut, flipped or hostile `.rvq` file never yields wrong codes silently: intact chunks are read, damage is reported.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { crc32c } from "../lib/bitstream/crc32c.js";
import { codeTables, RvqError, RvqReader, rvqToBytes, trimRvq } from "../lib/index.js";
import { Random } from "../lib/random.js";
import { codesOf, countedCodes } from "./bitstream-codes.js";

const seed = Number(process.env.RVQ_FUZZ_SEED ?? 1);
const scale = Number(process.env.RVQ_FUZZ_SCALE ?? 1);
const modelId = "0123456789abcdef".repeat(4);
const codebookSizes = [16, 7, 300];
const random = new Random(1);
const plain = codesOf(40, codebookSizes, (stage) => Math.min(random.below(codebookSizes[stage]), random.below(5)));
const counted = countedCodes(plain, 4);
const options = { modelId, codebookSizes, chunkFrames: 16, summary: { samples: 40 } };
/** Files of three chunks each, in all codings, with and without stage counts. */
const files = [
  { codes: { ...plain, stageCounts: null }, bytes: rvqToBytes(plain, options) },
  { codes: counted, bytes: rvqToBytes(counted, { ...options, coding: "adaptive" }) },
  {
    codes: { ...plain, stageCounts: null },
    bytes: rvqToBytes(plain, { ...options, coding: "static", tables: codeTables(plain, codebookSizes.with(2, 300)) }),
  },
];

/** Reads all that is intact and checks it against the codes that were written; how many frames have all stages. */
async function intactFrames(
  bytes: Uint8Array,
  { codes }: (typeof files)[number],
  mayBeHarmless = false,
): Promise<number | RvqError> {
  try {
    const reader = await RvqReader.open(bytes);
    let intact = 0;
    for await (const { firstFrame, count, codes: found, damage } of reader.chunks()) {
      if (found === null) continue;
      expect(firstFrame + count).toBeLessThanOrEqual(codes.count);
      for (let i = 0; i < found.data.length; i++) {
        const frame = firstFrame + Math.floor(i / found.stages);
        const stage = i % found.stages;
        expect(found.data[i]).toBe(codes.data[frame * codes.stages + stage]);
        const kept = codes.stageCounts?.[frame];
        expect(found.stageCounts?.[frame - firstFrame]).toBe(kept === undefined ? kept : Math.min(kept, found.stages));
      }
      if (damage === null) intact += count;
    }
    if ((await reader.verify()).length === 0) {
      expect(reader.summary).toEqual({ samples: 40 });
      expect(reader.header.modelId).toBe(modelId);
      expect(intact).toBe(codes.count);
      if (!mayBeHarmless) throw new Error("the damage was not reported");
    }
    const whole = await reader.read().catch((error: unknown) => error);
    if (!(whole instanceof RvqError)) expect([intact, whole]).toEqual([codes.count, codes]);
    return intact;
  } catch (error) {
    if (error instanceof RvqError && error.code === "INVALID_STREAM") return error;
    throw error;
  }
}

describe.each([0, 1, 2])("file %i", (number) => {
  const file = files[number];
  const { bytes } = file;

  it("is intact to begin with", async () => {
    const reader = await RvqReader.open(bytes);
    expect(await reader.verify()).toEqual([]);
    expect(await reader.read()).toEqual(file.codes);
  });

  it("loses one chunk at most to any flipped bit, which is reported", async () => {
    const [first] = chunkOffsets(bytes);
    // Tables are long and all alike.
    for (let at = 0; at < bytes.length; at += at > 100 && at < first - 4 ? 37 : 1) {
      const damaged = bytes.slice();
      damaged[at] ^= 1 << (at % 8);
      expect(await intactFrames(damaged, file), `byte ${at}`).toBeGreaterThanOrEqual(24);
    }
  });

  it("loses no whole chunk to a cut", async () => {
    const [first, second, third] = chunkOffsets(bytes);
    const ends = [second, third, Buffer.from(bytes).indexOf("RVQE")];
    for (let length = 0; length < bytes.length; length += length < first - 60 ? 16 : 1) {
      const whole = Math.min(40, 16 * ends.filter((end) => end <= length).length);
      const expected = length < first ? expect.any(RvqError) : whole;
      expect(await intactFrames(bytes.subarray(0, length), file), `cut at ${length}`).toEqual(expected);
    }
  });

  it("yields no wrong codes after any damage", async () => {
    const edit = fc.tuple(
      fc.nat(bytes.length - 1),
      fc.constantFrom("flip", "cut", "insert", "repeat", "zero"),
      fc.nat(255),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(edit, { minLength: 1, maxLength: 4 }), async (edits) => {
        let damaged = Buffer.from(bytes);
        for (const [at, kind, value] of edits) {
          const [before, after] = [damaged.subarray(0, at), damaged.subarray(at)];
          if (at >= damaged.length) continue;
          if (kind === "flip") damaged[at % damaged.length] ^= value;
          else if (kind === "cut") damaged = Buffer.concat([before, after.subarray(value)]);
          else if (kind === "insert") damaged = Buffer.concat([before, Buffer.alloc(value, value), after]);
          else if (kind === "repeat") damaged = Buffer.concat([before, before.subarray(-value), after]);
          else damaged.fill(0, at, Math.min(damaged.length, at + value));
          if (damaged.length === 0) return;
        }
        // Bytes that were put between the last chunk and the index do no harm.
        if (!damaged.equals(bytes)) await intactFrames(damaged, file, true);
      }),
      { seed, numRuns: 300 * scale },
    );
  });
});

describe("what is damaged", () => {
  const { bytes, codes } = files[0];

  it("in the header is read from its copy in the index", async () => {
    const damaged = bytes.slice();
    damaged[20] ^= 1;
    const reader = await RvqReader.open(damaged);
    expect(await reader.read()).toEqual(codes);
    expect(reader.damage).toEqual([
      { message: "the header is damaged; its copy in the index is used", firstFrame: null, frames: null, stages: 0 },
    ]);
  });

  it("in a late stage leaves the stages before it", async () => {
    const damaged = bytes.slice();
    // The last byte of the first chunk.
    const [, second] = chunkOffsets(bytes);
    damaged[second - 1] ^= 1;
    const reader = await RvqReader.open(damaged);
    const { codes: found, damage } = await reader.readChunk(0);
    expect([found?.stages, damage?.stages, damage?.firstFrame, damage?.frames]).toEqual([2, 2, 0, 16]);
    expect(damage?.message).toMatch(/^chunk 0 \(frames 0 to 15, byte \d+\): stage 2 does not fit its CRC32C$/);
    expect((await reader.read({ stages: 2 })).data).toHaveLength(80);
    await expect(reader.read()).rejects.toThrow(/bytes: expected intact codes, got damage: chunk 0/);
    expect((await reader.read({ firstFrame: 16 })).count).toBe(24);
  });

  it("in a chunk's header is told by the index, or by the next chunk", async () => {
    const damaged = bytes.slice();
    damaged[chunkOffsets(bytes)[1] + 13] ^= 1;
    const [damage] = await (await RvqReader.open(damaged)).verify();
    expect(damage).toMatchObject({ firstFrame: 16, frames: 16, stages: 0 });
    const cut = await (await RvqReader.open(damaged.subarray(0, -1))).verify();
    expect(cut.map(({ message }) => message)).toEqual([
      "there is no sound index at the end; the chunks were found by a scan",
      expect.stringMatching(/^bytes \d+ to \d+ hold no chunk$/),
      expect.stringMatching(/^bytes \d+ to \d+ hold no chunk$/),
      "the chunks of frames 16 to 31 are lost",
      "frames from 40 on, if there were any, are lost",
    ]);
  });

  it("at the end is reported, and the rest is read", async () => {
    const reader = await RvqReader.open(bytes.subarray(0, chunkOffsets(bytes)[2] + 55));
    expect(reader.summary).toBeNull();
    await expect(reader.read()).rejects.toThrow(/frames from 40 on, if there were any, are lost/);
    expect((await reader.read({ count: 32 })).count).toBe(32);
    const { codes: rest, damage } = await reader.readChunk(2);
    expect(rest?.stages ?? 0).toBeLessThan(3);
    expect(damage?.message).toMatch(/stage \d is cut off/);
  });
});

function chunkOffsets(bytes: Uint8Array): number[] {
  const offsets: number[] = [];
  const all = Buffer.from(bytes);
  for (let at = all.indexOf("RVQC"); at >= 0; at = all.indexOf("RVQC", at + 1)) offsets.push(at);
  return offsets;
}

describe("hostile files, whose checksums fit", () => {
  const { bytes } = files[0];
  const [first] = chunkOffsets(bytes);

  /** The file with one change to its header, first chunk or index, and fitting checksums. */
  function forged(part: "header" | "chunk" | "index", change: (view: Buffer) => void): Uint8Array {
    const file = Buffer.from(bytes);
    const indexAt = file.indexOf("RVQE");
    if (part === "header") {
      change(file.subarray(0, first));
      file.writeUInt32LE(crc32c(file.subarray(0, first - 4)), first - 4);
      return file.subarray(0, indexAt);
    }
    if (part === "chunk") {
      change(file.subarray(first));
      file.writeUInt32LE(crc32c(file.subarray(first + 8, first + 28 + 8 * 3)), first + 4);
      return file;
    }
    const index = file.subarray(indexAt);
    change(index);
    index.writeUInt32LE(crc32c(index.subarray(0, -12)), index.length - 12);
    return file;
  }

  it.each([
    ["a version to come", "header", (b: Buffer) => b.writeUInt16LE(2, 8), /format version 1, got 2/],
    [
      "a header of 4 GB",
      "header",
      (b: Buffer) => b.writeUInt32LE(0xffffffff, 12),
      /a header of 72 to \d+ bytes, got 4294967295/,
    ],
    ["no stages", "header", (b: Buffer) => b.writeUInt16LE(0, 10), /a header of 70 bytes, got 82/],
    ["65535 stages", "header", (b: Buffer) => b.writeUInt16LE(65_535, 10), /a header of \d+ bytes, got 82/],
    ["long metadata", "header", (b: Buffer) => b.writeUInt32LE(2 ** 31, 56), /a header of \d+ bytes, got 82/],
    [
      "a codebook of none",
      "header",
      (b: Buffer) => b.writeUInt32LE(0, 64),
      /codebookSizes\[0\]: expected an integer from 1/,
    ],
    [
      "a rate that is not a number",
      "header",
      (b: Buffer) => b.writeDoubleLE(Number.NaN, 48),
      /frameRate: expected a positive/,
    ],
    ["metadata that are no JSON", "header", (b: Buffer) => b.fill("[", 76, 78), /JSON/],
  ] as const)("are refused: %s", async (_, part, change, message) => {
    const file = forged(part, change);
    await expect(RvqReader.open(file)).rejects.toThrow(message);
    await expect(RvqReader.open(file)).rejects.toMatchObject({ code: "INVALID_STREAM" });
  });

  it.each([
    ["four billion chunks", (b: Buffer) => b.writeUInt32LE(0xffffffff, 8)],
    ["a long summary", (b: Buffer) => b.writeUInt32LE(0xffffffff, 12)],
    ["a chunk before the header", (b: Buffer) => b.writeBigUInt64LE(0n, 16)],
    ["a chunk beyond the end", (b: Buffer) => b.writeBigUInt64LE(2n ** 63n, 16)],
    ["chunks that overlap", (b: Buffer) => b.writeBigUInt64LE(b.readBigUInt64LE(16), 28)],
    ["a chunk without frames", (b: Buffer) => b.writeUInt32LE(0, 24)],
    ["a chunk of four billion frames", (b: Buffer) => b.writeUInt32LE(0xffffffff, 24)],
  ] as const)("are read without their index: %s", async (_, change) => {
    const reader = await RvqReader.open(forged("index", change));
    expect((await reader.read({ count: 40 })).data).toEqual(files[0].codes.data);
    expect(reader.damage[0].message).toMatch(/no sound index/);
  });

  it.each([
    ["65536 frames", (b: Buffer) => b.writeUInt32LE(65_536, 12)],
    ["other frames than the index says", (b: Buffer) => b.writeUInt32LE(15, 12)],
    ["another first frame", (b: Buffer) => b.writeBigUInt64LE(1n, 16)],
    ["sections of 16 MB", (b: Buffer) => b.writeUIntLE(0xffffff, 28, 3)],
    ["a coding to come", (b: Buffer) => b.writeUInt8(9, 31)],
    ["other stages", (b: Buffer) => b.writeUInt16LE(2, 24)],
  ] as const)("have a damaged chunk: %s", async (_, change) => {
    const reader = await RvqReader.open(forged("chunk", change));
    const [{ codes, damage }, { codes: next }] = [await reader.readChunk(0), await reader.readChunk(1)];
    expect(damage).toMatchObject({ firstFrame: 0, frames: 16 });
    expect([codes, next?.stages]).toEqual([null, 3]);
  });

  it("are refused as inputs of any other kind", async () => {
    await expect(RvqReader.open(new Uint8Array(0))).rejects.toThrow(/a file that begins as \.rvq/);
    await expect(RvqReader.open("/dev/null")).rejects.toThrow(/\/dev\/null: expected coded vectors/);
    await expect(RvqReader.open(3 as unknown as string)).rejects.toThrow(/input: expected a path/);
  });

  it("are read or refused whatever single field is changed", async () => {
    const parts = ["header", "chunk", "index"] as const;
    const values = fc.oneof(fc.nat(), fc.constantFrom(0, 1, 0x7fffffff, 0xffffffff, 65_535, 65_536), fc.nat(300));
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...parts),
        fc.nat(80),
        values,
        fc.constantFrom(1, 2, 4),
        async (part, at, value, width) => {
          const file = forged(part, (b) => b.writeUIntLE(value % 2 ** (8 * width), Math.min(at, b.length - 4), width));
          try {
            const reader = await RvqReader.open(file);
            for await (const { codes } of reader.chunks()) {
              if (codes === null) continue;
              for (let i = 0; i < codes.data.length; i++) {
                expect(codes.data[i]).toBeLessThan(reader.header.codebookSizes[i % codes.stages]);
              }
            }
            for await (const piece of trimRvq(file, 1)) expect(piece.length).toBeGreaterThan(0);
          } catch (error) {
            if (!(error instanceof RvqError) || error.code !== "INVALID_STREAM") throw error;
          }
        },
      ),
      { seed, numRuns: 1500 * scale },
    );
  });
});
