// Packed codes: sizes, bit order and exact round trips for every kind of codebook size.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { bitsPerCode, packCodes, packedSizeBytes, unpackCodes } from "../lib/index.js";

describe("packed codes", () => {
  it("take ceil(log2 K) bits each", () => {
    expect([1, 2, 3, 4, 5, 256, 257, 1024, 65536, 65537].map(bitsPerCode)).toEqual([0, 1, 2, 2, 3, 8, 9, 10, 16, 17]);
    expect(packedSizeBytes(3, [5, 1024])).toBe(5);
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
