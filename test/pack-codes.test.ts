// Packed codes: sizes, bit order and exact round trips for every kind of codebook size, order and density, in TypeScript and natively.

import fc from "fast-check";
import { afterEach, describe, expect, it, vi } from "vitest";
import { loadAddon } from "../lib/addon.js";
import { nativePackingOf } from "../lib/cpu/packing.js";
import {
  bitsPerCode,
  type Codes,
  compressCodes,
  type PackOptions,
  packCodes,
  packedSizeBytes,
  unpackCodes,
} from "../lib/index.js";
import { packSections, unpackSections } from "../lib/pack-codes.js";
import { packLayout } from "../lib/pack-layout.js";
import { detach } from "./lost-memory.js";

const seed = Number(process.env.RVQ_FUZZ_SEED ?? 1);
const scale = Number(process.env.RVQ_FUZZ_SCALE ?? 1);
const native = nativePackingOf(loadAddon().addon);
const ways: PackOptions[] = (["frame-major", "stage-major"] as const).flatMap((order) => [
  { order, dense: false },
  { order, dense: true },
]);
const anySizes = fc.array(
  fc.oneof(
    fc.integer({ min: 1, max: 9 }),
    fc.nat(1100).map((k) => k + 1),
    fc.integer({ min: 1, max: 2 ** 24 }),
  ),
  {
    minLength: 1,
    maxLength: 40,
  },
);

afterEach(() => vi.unstubAllEnvs());

function randomCodes(count: number, sizes: readonly number[], random: Iterator<unknown>): Codes {
  const data = new (sizes.some((size) => size > 65_536) ? Uint32Array : Uint16Array)(count * sizes.length);
  for (let i = 0; i < data.length; i++) data[i] = Number(random.next().value) % sizes[i % sizes.length];
  return { count, stages: sizes.length, data };
}

describe("packed codes", () => {
  it("take ceil(log2 K) bits each", () => {
    expect([1, 2, 3, 4, 5, 256, 257, 1024, 65536, 65537].map(bitsPerCode)).toEqual([0, 1, 2, 2, 3, 8, 9, 10, 16, 17]);
    expect(packedSizeBytes(3, [5, 1024])).toBe(5);
  });

  it("come back exactly for every K from 1 to 4097, alike in all stages or not", () => {
    for (let size = 1; size <= 4097; size++) {
      for (const codebookSizes of [[size], [size, 3], [size, size, size]]) {
        const stages = codebookSizes.length;
        const data = Uint16Array.from(
          { length: 23 * stages },
          (_, i) => (i * 7919 + size - 1) % codebookSizes[i % stages],
        );
        const bytes = packCodes({ count: 23, stages, data }, codebookSizes);
        expect(bytes.length).toBe(packedSizeBytes(23, codebookSizes));
        const back = unpackCodes(bytes, 23, codebookSizes).data;
        if (Buffer.compare(Buffer.from(back.buffer), Buffer.from(data.buffer)) !== 0)
          expect(back, `K ${size}`).toEqual(data);
      }
    }
  });

  it("are refused where a code is out of range or the padding is not zero, in packing and unpacking", () => {
    for (const wide of [false, true]) {
      const sizes = wide ? [70_000, 70_000] : [5, 5];
      const data = wide ? Uint32Array.of(0, 1, 2, 70_000) : Uint16Array.of(0, 1, 2, 5);
      expect(() => packCodes({ count: 2, stages: 2, data }, sizes)).toThrow(
        /codes: expected codes of stage 1 .* in row 1/,
      );
      const ones = new Uint8Array(packedSizeBytes(2, sizes)).fill(255);
      expect(() => unpackCodes(ones, 2, sizes)).toThrow(/bytes: expected codes of stage 0 below its codebook size/);
    }
    expect(() => packCodes({ count: 1, stages: 2, data: Uint16Array.of(4, 9) }, [5, 9])).toThrow(
      /codes of stage 1 below/,
    );
    expect(() => unpackCodes(Uint8Array.of(0b1000_0000), 2, [5, 9])).toThrow(/bytes: expected 2 bytes/);
    expect(() => unpackCodes(Uint8Array.of(0b100), 1, [4])).toThrow(/bytes: expected zero padding in the last byte/);
    expect(() => unpackCodes(Uint8Array.of(0b100), 1, [2, 2])).toThrow(/bytes: expected zero padding in the last byte/);
  });

  it("are read from any offset of a buffer", () => {
    const codes = { count: 9, stages: 1, data: Uint16Array.from({ length: 9 }, (_, i) => 100 * i) };
    const packed = packCodes(codes, [1000]);
    for (let offset = 0; offset < 5; offset++) {
      const inside = Buffer.concat([Buffer.alloc(offset, 255), packed, Buffer.alloc(3, 255)]);
      expect(unpackCodes(inside.subarray(offset, offset + packed.length), 9, [1000]).data).toEqual(codes.data);
    }
  });

  it("put the low bits of the first code first", () => {
    const codes = { count: 2, stages: 2, data: Uint16Array.of(0b101, 0b01, 0b011, 0b10) };
    expect([...packCodes(codes, [8, 4])]).toEqual([0b01101101, 0b10]);
  });

  it("come back exactly for any sizes, also when only the first stages are packed", () => {
    const sizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 2 ** 24 })), {
      minLength: 1,
      maxLength: 6,
    });
    fc.assert(
      fc.property(sizes, fc.nat(40), fc.infiniteStream(fc.nat(2 ** 30)), (codebookSizes, count, random) => {
        const stages = codebookSizes.length;
        const data = Uint32Array.from({ length: count * stages }, (_, i) => {
          const { value } = random.next();
          return (value as number) % codebookSizes[i % stages];
        });
        const bytes = packCodes({ count, stages, data }, [...codebookSizes, 7]);
        expect(bytes.length).toBe(packedSizeBytes(count, codebookSizes));
        const back = unpackCodes(bytes, count, codebookSizes);
        expect(back.stages).toBe(stages);
        expect([...back.data]).toEqual([...data]);
      }),
    );
  });
});

describe("packed codes in any order and density", () => {
  it("have the bytes that the layout describes", () => {
    const codes = { count: 3, stages: 2, data: Uint16Array.of(4, 1, 3, 0, 2, 2) };
    expect([...packCodes(codes, [5, 3], { order: "stage-major" })]).toEqual([0b10_011_100, 0b0, 0b10_00_01]);
    // One number a vector, c_0 + 5 · c_1 < 15: 9, 3, 12.
    expect([...packCodes(codes, [5, 3], { dense: true })]).toEqual([0b0011_1001, 0b1100]);
    // One number for three codes of five: 4 + 5 · (3 + 5 · 2) = 69 < 125, and for three of three: 1 + 3 · (0 + 3 · 2) = 19 < 27.
    expect([...packCodes(codes, [5, 3], { order: "stage-major", dense: true })]).toEqual([69, 19]);
  });

  it("take no more bits a code than these where codes are packed densely", () => {
    const bits = (size: number) => (8 * packedSizeBytes(319e6, [size], { order: "stage-major", dense: true })) / 319e6;
    for (const [size, most] of [
      [3, 46 / 29],
      [5, 7 / 3],
      [10, 10 / 3],
      [300, 8.25],
      [1000, 10],
      [1025, 10.2],
    ])
      expect(bits(size)).toBeCloseTo(most, 6);
    expect(packedSizeBytes(8, new Array<number>(8).fill(1025), { dense: true })).toBe(82); // 82 bits a vector instead of 88
    for (const options of ways) expect(packedSizeBytes(1000, [1, 1], options)).toBe(0);
  });

  it("begin with the packed first stages where stages come one after the other", () => {
    for (const dense of [false, true]) {
      const options = { order: "stage-major", dense } as const;
      const codes = { count: 7, stages: 3, data: Uint16Array.from({ length: 21 }, (_, i) => i % 5) };
      const first = { count: 7, stages: 2, data: codes.data.filter((_, i) => i % 3 < 2) };
      const packed = packCodes(codes, [5, 1000, 7], options);
      const start = packCodes(first, [5, 1000], options);
      expect([...packed.subarray(0, start.length)]).toEqual([...start]);
    }
  });

  it.skipIf(native === null)("are the same bytes from TypeScript and from the addon, and come back from both", () => {
    const packing = native as NonNullable<typeof native>;
    fc.assert(
      fc.property(
        anySizes,
        fc.oneof(fc.nat(30), fc.nat(3000)),
        fc.constantFrom(...ways),
        fc.infiniteStream(fc.nat(2 ** 30)),
        (sizes, rows, options, random) => {
          const count = Math.ceil(rows / sizes.length);
          const codes = randomCodes(count, sizes, random);
          const layout = packLayout(count, sizes, options);
          const packed = [packSections, packing.pack].map((pack) => {
            const bytes = new Uint8Array(layout.sizeBytes);
            expect(pack(codes, layout, bytes)).toBe(true);
            return bytes;
          });
          expect(Buffer.compare(packed[0], packed[1])).toBe(0);
          expect(layout.sizeBytes).toBeLessThanOrEqual(packedSizeBytes(count, sizes, { order: options.order }));
          for (const unpack of [unpackSections, packing.unpack]) {
            const back = { ...codes, data: codes.data.slice().fill(1) };
            expect(unpack(packed[0], layout, back)).toBe("whole");
            expect(back.data).toEqual(codes.data);
          }
        },
      ),
      { seed, numRuns: 300 * scale },
    );
  });

  it("are read only where packing what was read gives the same bytes, with one verdict of TypeScript and addon", () => {
    let whole = 0;
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 4 }),
        fc.constantFrom(...ways),
        fc.uint8Array({ minLength: 1, maxLength: 6 }),
        (sizes, options, bytes) => {
          let count = 0;
          while (packedSizeBytes(count + 1, sizes, options) <= bytes.length && count < 40) count++;
          const layout = packLayout(count, sizes, options);
          const packed = bytes.slice(0, layout.sizeBytes);
          const codes = { count, stages: sizes.length, data: new Uint16Array(count * sizes.length) };
          const verdict = unpackSections(packed, layout, codes);
          if (native !== null) {
            const again = { ...codes, data: codes.data.slice() };
            expect(native.unpack(packed, layout, again)).toBe(verdict);
          }
          if (verdict === "whole") {
            whole++;
            expect([...packCodes(codes, sizes, options)]).toEqual([...packed]);
          } else {
            const code = verdict === "range" ? "CODE_OUT_OF_RANGE" : "INVALID_STREAM";
            expect(() => unpackCodes(packed, count, sizes, options)).toThrow(expect.objectContaining({ code }));
          }
        },
      ),
      { seed, numRuns: 2000 * scale },
    );
    expect(whole).toBeGreaterThan(10);
  });

  it.each(["js", "auto"])("are refused out of range in large arrays too, and the first is named (%s)", (backend) => {
    vi.stubEnv("RVQ_BACKEND", backend);
    for (const options of ways) {
      const data = new Uint16Array(6000);
      data[4711] = 12;
      data[5000] = 13;
      expect(() => packCodes({ count: 2000, stages: 3, data }, [12, 12, 11], options)).toThrow(
        "codes: expected codes of stage 1 below its codebook size 12, got 12 in row 1570",
      );
      data[4711] = data[5000] = 0;
      const packed = packCodes({ count: 2000, stages: 3, data }, [12, 12, 11], options);
      packed.fill(255, 100, 110);
      expect(() => unpackCodes(packed, 2000, [12, 12, 11], options)).toThrow(
        expect.objectContaining({ code: "CODE_OUT_OF_RANGE" }),
      );
    }
  });

  it("are never those of an array that options or sizes give away meanwhile", () => {
    const lost = expect.objectContaining({
      code: "INVALID_ARGUMENT",
      message: expect.stringMatching(/^codes\.data: /),
    });
    // Few codes are packed by TypeScript, many by the addon.
    for (const count of [10, 5000]) {
      /** Codes, and what gives their memory away when its property is read. */
      const giving = <Holder extends object>(holder: Holder, property: string, value: unknown) => {
        const data = new Uint16Array(2 * count).fill(1);
        const get = () => {
          if (data.length > 0) detach(data);
          return value;
        };
        return [{ count, stages: 2, data }, Object.defineProperty(holder, property, { get })] as const;
      };
      const [ordered, options] = giving({}, "order", "frame-major");
      expect(() => packCodes(ordered, [2, 2], options)).toThrow(lost);
      const [coded, coding] = giving({}, "coding", "mixed");
      expect(() => compressCodes(coded, [2, 2], coding)).toThrow(lost);
      const [sized, sizes] = giving([2, 2], "1", 2);
      expect(() => packCodes(sized, sizes)).toThrow(lost);
    }
  });

  it("refuse options that are none", () => {
    const codes = { count: 1, stages: 1, data: Uint16Array.of(0) };
    expect(() => packCodes(codes, [2], { order: "rows" as "stage-major" })).toThrow(
      'order: expected "frame-major" or "stage-major", got "rows"',
    );
    expect(() => packCodes(codes, [2], { dense: 1 as unknown as boolean })).toThrow(
      "dense: expected true or false, got 1",
    );
    expect(() => unpackCodes(new Uint8Array(1), 1, [2], 7 as PackOptions)).toThrow(
      "options: expected an object, got 7",
    );
  });
});
