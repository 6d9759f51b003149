// The `.rvq` container: what is written comes back, from any range and any first stages, however it was cut or continued.

import { type FileHandle, mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  type Codes,
  codeTables,
  type RvqOptions,
  RvqReader,
  RvqWriter,
  rvqBytes,
  rvqToBytes,
  trimRvq,
  type WritableCodes,
  writeFileAtomic,
} from "../lib/index.js";
import { Random } from "../lib/random.js";
import { codesOf, countedCodes, sizesArbitrary, sliceCodes } from "./bitstream-codes.js";

const modelId = "0123456789abcdef".repeat(4);
const codings = ["packed", "static", "adaptive", "mixed"] as const;

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "rvq-container-"));
});
afterAll(() => rm(folder, { recursive: true }));

/** Codes in which every stage can be compressed. */
function example(count: number, codebookSizes: readonly number[], seed = 1): Codes {
  const random = new Random(seed);
  return codesOf(count, codebookSizes, (stage) => Math.min(random.below(codebookSizes[stage]), random.below(5)));
}

async function collect(pieces: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const all: Uint8Array[] = [];
  for await (const piece of pieces) all.push(piece);
  return new Uint8Array(Buffer.concat(all));
}

function firstStages({ count, stages, data }: Codes, kept: number): Codes {
  return { count, stages: kept, data: data.filter((_, i) => i % stages < kept) };
}

describe("a .rvq file", () => {
  it("gives back its codes, header and summary", async () => {
    const codebookSizes = [256, 100, 70_000];
    const codes = example(100, codebookSizes);
    const metadata = { speaker: "ä", nested: { list: [1, 2] } };
    const options = { modelId, codebookSizes, frameRate: 86.1328125, metadata, chunkFrames: 30 };
    const bytes = rvqToBytes(codes, { ...options, summary: { samples: 5 } });
    const reader = await RvqReader.open(bytes);
    expect(reader.header).toEqual({ modelId, codebookSizes, frameRate: 86.1328125, metadata, tables: null });
    expect([reader.stages, reader.frameCount, reader.chunkCount]).toEqual([3, 100, 4]);
    expect(reader.summary).toEqual({ samples: 5 });
    expect(await reader.read()).toEqual({ ...codes, stageCounts: null });
    expect(await reader.verify()).toEqual([]);
  });

  it("comes back for any sizes, coding and chunks, in any ranges and first stages", async () => {
    const anyRange = fc.tuple(fc.nat(1000), fc.nat(1000), fc.nat(5));
    await fc.assert(
      fc.asyncProperty(
        sizesArbitrary(65_536),
        fc.nat(120),
        fc.integer({ min: 1, max: 50 }),
        fc.constantFrom(...codings),
        fc.boolean(),
        fc.array(anyRange, { minLength: 1, maxLength: 4 }),
        async (codebookSizes, count, chunkFrames, coding, counted, ranges) => {
          const plain = example(count, codebookSizes, count);
          const codes = counted ? countedCodes(plain, 3) : { ...plain, stageCounts: null };
          const tables = codeTables(plain, codebookSizes);
          const bytes = rvqToBytes(codes, { modelId, codebookSizes, coding, chunkFrames, tables });
          const reader = await RvqReader.open(bytes);
          expect(await reader.read()).toEqual(count === 0 ? { ...codes, stageCounts: null } : codes);
          for (const [a, b, c] of ranges) {
            const firstFrame = a % (count + 1);
            const some = b % (count - firstFrame + 1);
            const stages = 1 + (c % codebookSizes.length);
            const read = await reader.read({ firstFrame, count: some, stages });
            const expected = firstStages(sliceCodes(codes, firstFrame, some), stages);
            expect([...read.data]).toEqual([...expected.data]);
            const counts = codes.stageCounts?.slice(firstFrame, firstFrame + some).map((n) => Math.min(n, stages));
            if (some > 0) expect(read.stageCounts ?? undefined).toEqual(counts);
          }
        },
      ),
      { seed: 1, numRuns: 100 },
    );
  });

  it("has the same bytes however the codes came", async () => {
    const codebookSizes = [64, 64];
    const codes = countedCodes(example(100, codebookSizes), 1);
    const options: RvqOptions = { modelId, codebookSizes, chunkFrames: 32, metadata: { a: 1 } };
    const whole = rvqToBytes(codes, { ...options, summary: { end: true } });
    for (const step of [1, 7, 32, 33, 100]) {
      const parts: WritableCodes[] = [];
      for (let i = 0; i < 100; i += step) parts.push(sliceCodes(codes, i, Math.min(step, 100 - i)));
      expect(await collect(rvqBytes(parts, { ...options, summary: () => ({ end: true }) }))).toEqual(whole);
      const path = join(folder, "same.rvq");
      const writer = await RvqWriter.create(path, options);
      for (const part of parts) await writer.write(part);
      await writer.close({ end: true });
      expect(new Uint8Array(await readFile(path))).toEqual(whole);
    }
  });

  it("is read in ranges, not as a whole", async () => {
    const codebookSizes = new Array<number>(8).fill(256);
    const random = new Random(1);
    const codes = codesOf(20_000, codebookSizes, () => random.below(256));
    const bytes = rvqToBytes(codes, { modelId, codebookSizes, coding: "packed", chunkFrames: 1000 });
    let bytesRead = 0;
    const read = async (offset: number, length: number) => {
      bytesRead += length;
      return bytes.subarray(offset, offset + length);
    };
    const reader = await RvqReader.open({ sizeBytes: bytes.length, read });
    const some = await reader.read({ firstFrame: 12_345, count: 100, stages: 2 });
    expect([...some.data]).toEqual([...firstStages(sliceCodes(codes, 12_345, 100), 2).data]);
    // One chunk's first two stages, the header, the index.
    expect(bytesRead).toBeLessThan(4000);
  });

  it("may be empty", async () => {
    const bytes = rvqToBytes(example(0, [5]), { modelId, codebookSizes: [5] });
    const reader = await RvqReader.open(bytes);
    expect([reader.frameCount, reader.chunkCount, (await reader.read()).count]).toEqual([0, 0, 0]);
    expect(await reader.verify()).toEqual([]);
  });

  it("is little larger than its codes", () => {
    const random = new Random(1);
    const codebookSizes = new Array<number>(8).fill(1024);
    const codes = codesOf(8192, codebookSizes, () => random.below(1024));
    const packed = (8192 * 80) / 8;
    for (const coding of ["packed", "mixed"] as const) {
      const { length } = rvqToBytes(codes, { modelId, codebookSizes, coding });
      expect(length).toBeLessThan(1.005 * packed + 300);
    }
  });
});

describe("a trimmed file", () => {
  it.each(codings)("is the file that the first stages alone would have made (%s)", async (coding) => {
    const codebookSizes = [256, 100, 16, 3];
    const plain = example(150, codebookSizes);
    const codes = countedCodes(plain, 2);
    for (const one of [codes, { ...plain, stageCounts: null }]) {
      const tables = codeTables(plain, codebookSizes);
      const options = {
        modelId,
        codebookSizes,
        coding,
        tables,
        chunkFrames: 64,
        metadata: { x: 1 },
        summary: { y: 2 },
      };
      const whole = rvqToBytes(one, options);
      for (const stages of [1, 2, 4]) {
        const trimmed = await collect(trimRvq(whole, stages));
        const reader = await RvqReader.open(trimmed);
        expect(await reader.verify()).toEqual([]);
        expect(reader.header.codebookSizes).toEqual(codebookSizes.slice(0, stages));
        expect([reader.header.metadata, reader.summary]).toEqual([{ x: 1 }, { y: 2 }]);
        expect(await reader.read()).toEqual(await (await RvqReader.open(whole)).read({ stages }));
        expect(await collect(trimRvq(trimmed, stages))).toEqual(trimmed);
        if (one.stageCounts !== null) continue;
        const first = firstStages(one, stages);
        const alone = {
          ...options,
          codebookSizes: codebookSizes.slice(0, stages),
          tables: codeTables(first, codebookSizes),
        };
        expect(trimmed).toEqual(rvqToBytes(first, alone));
      }
    }
  });

  it("is written whole or not at all", async () => {
    const whole = rvqToBytes(example(50, [9, 9]), { modelId, codebookSizes: [9, 9] });
    const path = join(folder, "trimmed.rvq");
    await writeFileAtomic(path, trimRvq(whole, 1));
    const before = await readFile(path);
    const damaged = whole.slice();
    damaged[125] ^= 1;
    await expect(writeFileAtomic(path, trimRvq(damaged, 1))).rejects.toMatchObject({ code: "INVALID_STREAM" });
    await expect(writeFileAtomic(path, trimRvq(whole, 3))).rejects.toThrow(
      /stages: expected an integer from 1 to 2, got 3/,
    );
    expect(await readFile(path)).toEqual(before);
  });
});

describe("a continued file", () => {
  const codebookSizes = [32, 32];
  const options: RvqOptions = { modelId, codebookSizes, chunkFrames: 16, metadata: { a: 1 } };
  const codes = example(100, codebookSizes);

  it("is the file that would have been written at once, where it was cut between chunks", async () => {
    const path = join(folder, "continued.rvq");
    const writer = await RvqWriter.create(path, options);
    await writer.write(sliceCodes(codes, 0, 48));
    await writer.close({ first: true });
    const again = await RvqWriter.append(path, { chunkFrames: 16 });
    await again.write(sliceCodes(codes, 48, 52));
    await again.close({ second: true });
    expect(new Uint8Array(await readFile(path))).toEqual(rvqToBytes(codes, { ...options, summary: { second: true } }));
  });

  it("keeps short chunks, and loses an old index that was longer than what follows", async () => {
    const path = join(folder, "short.rvq");
    const writer = await RvqWriter.create(path, { ...options, metadata: { long: "x".repeat(1000) } });
    await writer.write(sliceCodes(codes, 0, 50));
    await writer.flush();
    await writer.write(sliceCodes(codes, 50, 3));
    await writer.close({ long: "x".repeat(1000) });
    const again = await RvqWriter.append(path);
    await again.write(sliceCodes(codes, 53, 47));
    await again.close();
    const reader = await RvqReader.open(path);
    expect(await reader.read()).toEqual({ ...codes, stageCounts: null });
    expect(reader.chunkCount).toBe(4 + 1 + 1);
    expect(await reader.verify()).toEqual([]);
    await reader.close();
  });

  it("goes on after the last whole chunk where it was cut off", async () => {
    const path = join(folder, "cut.rvq");
    const whole = rvqToBytes(codes, options);
    const chunkEnds = [64, 80].map((frames) => {
      const { length } = rvqToBytes(sliceCodes(codes, 0, frames), options);
      // What ends that shorter file is its index: 12 bytes a chunk, the header, and 30 more with an empty summary.
      return length - 12 * (frames / 16) - headerLength - 30;
    });
    for (const length of [chunkEnds[0], chunkEnds[0] + 1, chunkEnds[0] + 40, chunkEnds[1] - 1]) {
      await writeFile(path, whole);
      await truncate(path, length);
      const writer = await RvqWriter.append(path, { chunkFrames: 16 });
      await writer.write(sliceCodes(codes, 64, 36));
      await writer.close();
      expect(new Uint8Array(await readFile(path)), `cut at ${length}`).toEqual(whole);
    }
  });

  it("is refused where frames in the middle are lost", async () => {
    const path = join(folder, "hole.rvq");
    const whole = rvqToBytes(codes, options);
    // The second chunk's header, and the index.
    whole[headerLength + 60] ^= 0xff;
    whole[headerLength + 90] ^= 0xff;
    await writeFile(path, whole.subarray(0, whole.length - 5));
    const writer = RvqWriter.append(path);
    await expect(writer).rejects.toThrow(/expected a sound file, got: the chunks of frames \d+ to \d+ are lost/);
  });

  const headerLength = 64 + 4 * 2 + '{"a":1}'.length + 4;
});

describe("a writer", () => {
  it("takes codes whole or not at all, one call at a time", async () => {
    const path = join(folder, "writer.rvq");
    const writer = await RvqWriter.create(path, { modelId, codebookSizes: [4, 4] });
    const bad = { count: 2, stages: 2, data: Uint16Array.of(0, 1, 2, 4) };
    await expect(writer.write(bad)).rejects.toMatchObject({ code: "CODE_OUT_OF_RANGE" });
    await expect(writer.write({ count: 1, stages: 1, data: Uint16Array.of(1) })).rejects.toThrow(
      /codes\.stages: expected .* 2/,
    );
    const counts = { ...example(1, [4, 4]), stageCounts: Uint16Array.of(3) };
    await expect(writer.write(counts)).rejects.toThrow(/codes\.stageCounts\[0\]: expected at most 2, got 3/);
    const good = writer.write(example(3, [4, 4]));
    await expect(writer.flush()).rejects.toThrow(/writer: .* got one before the last call was awaited/);
    await good;
    await writer.close();
    await expect(writer.write(example(1, [4, 4]))).rejects.toMatchObject({ code: "DISPOSED" });
    const reader = await RvqReader.open(path);
    expect(reader.frameCount).toBe(3);
    await reader.close();
  });

  it("can be closed twice, and closes by itself, as a reader does", async () => {
    const path = join(folder, "disposed.rvq");
    const writer = await RvqWriter.create(path, { modelId, codebookSizes: [4, 4] });
    await writer.write(example(3, [4, 4]));
    await writer[Symbol.asyncDispose]();
    await writer.close();
    await writer[Symbol.asyncDispose]();
    const reader = await RvqReader.open(path);
    expect(reader.damage).toEqual([]);
    await reader[Symbol.asyncDispose]();
    await expect(reader.read()).rejects.toMatchObject({ code: "IO" });
    const failed = await RvqWriter.create(path, { modelId, codebookSizes: [4] });
    await (failed as unknown as { file: FileHandle }).file.close();
    await failed.write(example(1, [4]));
    await expect(failed.flush()).rejects.toMatchObject({ code: "IO" });
    await failed[Symbol.asyncDispose]();
    await expect(failed.close()).rejects.toMatchObject({ code: "DISPOSED" });
  });

  it("leaves what its source throws as it is, and no file", async () => {
    const path = join(folder, "thrown.rvq");
    const bug = new TypeError("a bug of the caller's");
    async function* pieces() {
      yield new Uint8Array(9);
      throw bug;
    }
    await expect(writeFileAtomic(path, pieces())).rejects.toBe(bug);
    await expect(writeFileAtomic("/dev/null", pieces())).rejects.toBe(bug);
    expect((await readdir(folder)).filter((name) => /thrown|tmp/.test(name))).toEqual([]);
  });

  it("names the path it cannot write", async () => {
    const create = RvqWriter.create(join(folder, "absent", "x.rvq"), { modelId, codebookSizes: [4] });
    await expect(create).rejects.toMatchObject({ code: "IO" });
    await expect(RvqWriter.append(join(folder, "absent.rvq"))).rejects.toThrow(/absent\.rvq: cannot be read: ENOENT/);
  });

  it.each([
    ["modelId", { modelId: "abc" }, /modelId: expected 64 hexadecimal digits/],
    ["codebookSizes", { codebookSizes: [] }, /codebookSizes: expected a non-empty array/],
    ["frameRate", { frameRate: -1 }, /frameRate: expected a positive number/],
    ["metadata", { metadata: "x" }, /metadata: expected a JSON object/],
    ["long metadata", { metadata: { x: "y".repeat(2 ** 20) } }, /metadata: expected at most 1048576 bytes of JSON/],
    ["chunkFrames", { chunkFrames: 0 }, /chunkFrames: expected an integer from 1 to 65536/],
    ["coding", { coding: "static" }, /tables: expected tables for coding "static"/],
  ])("names what is wrong with its options: %s", (_, wrong, message) => {
    const codes = example(1, [4]);
    expect(() => rvqToBytes(codes, { modelId, codebookSizes: [4], ...(wrong as object) })).toThrow(message);
  });
});
