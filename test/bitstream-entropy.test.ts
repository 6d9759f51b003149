// Entropy-coded codes come back exactly, are never much larger than packed, and any bytes decode to codes or to an error.

import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type Codes,
  codeTables,
  compressCodes,
  expandCodes,
  packedSizeBytes,
  RvqError,
  tablesFromBytes,
  tablesToBytes,
} from "../lib/index.js";
import { Random } from "../lib/random.js";
import { codesOf, sizesArbitrary } from "./bitstream-codes.js";

const codings = ["packed", "static", "adaptive", "mixed"] as const;
const seed = Number(process.env.RVQ_FUZZ_SEED ?? 1);
const scale = Number(process.env.RVQ_FUZZ_SCALE ?? 1);

/** Codes that repeat and depend on each other, as those of a slowly changing signal do. */
function speechLike(count: number, codebookSizes: readonly number[], random: Random): Codes {
  return codesOf(count, codebookSizes, (stage, frame, at) => {
    const before = frame === 0 ? 0 : at(frame - 1, stage);
    const above = stage === 0 ? 0 : at(frame, stage - 1);
    if (random.below(3) > 0) return before;
    return random.below(2) > 0 ? (above * 7 + stage) % codebookSizes[stage] : random.below(codebookSizes[stage]);
  });
}

describe("entropy-coded codes", () => {
  it.each(codings)("come back exactly for every K from 1 to 4097 (%s)", (coding) => {
    const random = new Random(seed);
    for (let size = 1; size <= 4097; size += coding === "packed" || scale > 1 ? 1 : 1 + random.below(24)) {
      const codes = codesOf(17, [size, 3], (stage) => random.below(stage === 0 ? size : 3));
      const tables = codeTables(codes, [size, 3]);
      const bytes = compressCodes(codes, [size, 3], { coding, tables });
      expect(expandCodes(bytes, 17, [size, 3], { tables }).data, `K ${size}`).toEqual(codes.data);
    }
  });

  it.each(codings)("come back exactly for any sizes, and any first stages alone (%s)", (coding) => {
    fc.assert(
      fc.property(sizesArbitrary(65_536), fc.nat(300), fc.nat(), (codebookSizes, count, codesSeed) => {
        const codes = speechLike(count, codebookSizes, new Random(codesSeed));
        const tables = codeTables(codes, codebookSizes);
        const bytes = compressCodes(codes, codebookSizes, { coding, tables });
        for (const stages of [1, codebookSizes.length]) {
          const back = expandCodes(bytes, count, codebookSizes.slice(0, stages), { tables });
          expect([back.count, back.stages]).toEqual([count, stages]);
          const expected = codes.data.filter((_, i) => i % codes.stages < stages);
          expect([...back.data]).toEqual([...expected]);
        }
      }),
      { seed, numRuns: 40 * scale },
    );
  });

  it("come back exactly for codebooks of up to 2^24 codewords", () => {
    const sizes = [2 ** 24, 2 ** 24 - 1, 65_537];
    const codes = codesOf(50, sizes, (stage, frame) => (frame * 0x9e3779b1 + stage) % sizes[stage]);
    for (const coding of ["packed", "adaptive", "mixed"] as const) {
      expect(expandCodes(compressCodes(codes, sizes, { coding }), 50, sizes).data, coding).toEqual(codes.data);
    }
    expect(() => codeTables(codes, sizes)).toThrow(/codebookSizes\[0\]: expected at most 65536 for static tables/);
  });

  it.each(codings)("of pure noise take no more than packed, and 4 bytes a stage (%s)", (coding) => {
    const random = new Random(seed);
    for (const size of [2, 3, 255, 256, 1000, 1024]) {
      const sizes = [size, size];
      const codes = codesOf(2000, sizes, () => random.below(size));
      const { length } = compressCodes(codes, sizes, { coding, tables: codeTables(codes, sizes) });
      expect(length, `K ${size}`).toBeLessThanOrEqual(2 * (4 + packedSizeBytes(2000, [size])));
    }
  });

  it("take the fewer bytes the more their model knows", () => {
    const sizes = [64, 64, 64];
    const codes = speechLike(4000, sizes, new Random(seed));
    const [packed, , adaptive, mixed] = codings.map(
      (coding) => compressCodes(codes, sizes, { coding, tables: codeTables(codes, sizes) }).length,
    );
    expect(packed).toBe(3 * (4 + 3000));
    expect(adaptive).toBeLessThan(packed);
    expect(mixed).toBeLessThan(0.6 * packed);
  });

  it("are coded by static tables at the entropy of the tables", () => {
    // Code 0 half of the time, 1 a quarter, 2 and 3 an eighth each: 1.75 bits instead of 2.
    const codes = codesOf(8000, [4], (_, frame) => [0, 1, 0, 2, 0, 1, 0, 3][frame % 8]);
    const tables = codeTables(codes, [4]);
    expect([...tables.nodes[0].slice(1)].map((p) => p / 65_536)).toEqual([
      expect.closeTo(0.25, 3),
      expect.closeTo(1 / 3, 3),
      expect.closeTo(0.5, 3),
    ]);
    expect(compressCodes(codes, [4], { coding: "static", tables }).length).toBeCloseTo(4 + 1750, -1);
  });

  it("are these bytes on every machine", () => {
    // The arithmetic is integer: another digest is another format.
    const sizes = [256, 100, 1024, 7, 2, 70_000];
    const codes = speechLike(500, sizes, new Random(7));
    const tables = codeTables({ count: 500, stages: 5, data: codes.data.filter((_, i) => i % 6 < 5) }, sizes);
    const five = { count: 500, stages: 5, data: codes.data.filter((_, i) => i % 6 < 5) };
    const digests = codings.map((coding) => {
      const bytes =
        coding === "static" ? compressCodes(five, sizes, { coding, tables }) : compressCodes(codes, sizes, { coding });
      return createHash("sha256").update(bytes).digest("hex").slice(0, 16);
    });
    expect(digests).toMatchInlineSnapshot(`
      [
        "06450f077f430f23",
        "1669e773894b5243",
        "019d8f6fc958bdfd",
        "c5cde226feefe8bf",
      ]
    `);
  });
});

describe("tables", () => {
  it("come back from their bytes", () => {
    const sizes = [5, 256, 1];
    const data = Uint16Array.from({ length: 300 }, (_, i) => (i * i) % sizes[i % 3]);
    const tables = codeTables({ count: 100, stages: 3, data }, sizes);
    const bytes = tablesToBytes(tables);
    expect(bytes).toHaveLength(2 * (7 + 255 + 0));
    expect(tablesFromBytes(bytes, sizes)).toEqual(tables);
  });
});

describe("bytes that no encoder wrote", () => {
  const tables = codeTables(
    codesOf(1, [5, 300], () => 0),
    [5, 300],
  );

  it("decode to codes below their sizes or are refused", () => {
    let accepted = 0;
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), fc.nat(40), fc.nat(3), (bytes, count, coding) => {
        // A plausible section table in front, or hardly anything would get past it.
        const cut = bytes.length >> 1;
        const header = (length: number) => Uint8Array.of(length, 0, 0, coding);
        const input = Buffer.concat([
          header(cut),
          bytes.subarray(0, cut),
          header(bytes.length - cut),
          bytes.subarray(cut),
        ]);
        try {
          const { data } = expandCodes(input, count, [5, 300], { tables });
          for (const [i, code] of data.entries()) expect(code).toBeLessThan(i % 2 === 0 ? 5 : 300);
          accepted++;
        } catch (error) {
          expect(error).toBeInstanceOf(RvqError);
          expect((error as RvqError).code).toBe("INVALID_STREAM");
        }
      }),
      { seed, numRuns: 3000 * scale },
    );
    expect(accepted).toBeGreaterThan(0);
  });

  it("cannot keep the decoder busy for long", () => {
    // 40 bytes that claim four million codes.
    const bytes = Buffer.concat([Uint8Array.of(36, 0, 0, 3), new Uint8Array(36).fill(0x55)]);
    const start = performance.now();
    expect(() => expandCodes(bytes, 2 ** 22, [256])).toThrow(/expected 4194304 codes in section 0, got 36/);
    expect(performance.now() - start).toBeLessThan(500);
    expect(() => expandCodes(bytes, 2 ** 22, [256, 256])).toThrow(
      /count · stages: expected an integer from 0 to 4194304/,
    );
  });

  it.each([
    ["a coding to come", [0, 0, 0, 4], /a coding from 0 to 3 in section 0, got 4/],
    ["a length beyond the end", [9, 0, 0, 2, 1], /9 bytes of section 0, got 1/],
    ["no section", [1, 0], /1 sections, got 0/],
    ["static coding without tables", [1, 0, 0, 1, 1], /tables for its static coding, got none/],
    ["a packed section of another length", [1, 0, 0, 0, 1], /2 bytes of packed section 0, got 1/],
    ["a packed code beyond its codebook", [2, 0, 0, 0, 255, 15], /section 0: bytes: expected codes of stage 0 below/],
  ])("are refused: %s", (_, bytes, message) => {
    expect(() => expandCodes(Uint8Array.from(bytes), 4, [5])).toThrow(message);
    expect(() => expandCodes(Uint8Array.from(bytes), 4, [5])).toThrow(
      expect.objectContaining({ code: "INVALID_STREAM" }),
    );
  });
});

describe("what callers get wrong", () => {
  const codes = codesOf(4, [5], () => 1);

  it.each([
    [{ coding: "huffman" }, /coding: expected "packed", "static", "adaptive", "mixed", got "huffman"/],
    [{ coding: "static" }, /tables: expected tables for coding "static", got undefined/],
    [{ coding: "static", tables: {} }, /tables: expected what codeTables gives/],
    [{ coding: "static", tables: codeTables(codes, [5]), sizes: [6] }, /tables\.codebookSizes\[0\]: expected 6, got 5/],
  ])("is named: %o", (options, message) => {
    const { sizes = [5], ...rest } = options as { sizes?: number[] };
    expect(() => compressCodes(codes, sizes, rest as object)).toThrow(message);
  });
});
