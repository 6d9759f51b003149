// Packed codes: sizes, bit order and exact round trips for every kind of codebook size.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { bitsPerCode, packCodes, packedSizeBytes, unpackCodes } from "../lib/index.js";

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
