// Packs codes at ceil(log2 K) bits each and unpacks them: frame-major, little-endian bit order, no header.

import { endianness } from "node:os";
import type { CodeArray } from "./backend.js";
import { allocate, type Codes, checkBytes, checkCodeRange, checkCodes, checkInteger, limits } from "./check.js";
import { invalidArgument, RvqError } from "./errors.js";
import { packWords, unpackWords } from "./pack-loops.js";

/** Bits of one packed code of a codebook with `codebookSize` codewords: ceil(log2 K), 0 for a single codeword. */
export function bitsPerCode(codebookSize: number): number {
  checkInteger("codebookSize", codebookSize, 1, limits.codebookSize);
  return codebookSize === 1 ? 0 : 32 - Math.clz32(codebookSize - 1);
}

/** Bytes of `count` packed vectors of codes with these codebook sizes. */
export function packedSizeBytes(count: number, codebookSizes: readonly number[]): number {
  checkInteger("count", count, 0, Number.MAX_SAFE_INTEGER);
  checkCodebookSizes(codebookSizes);
  const bits = codebookSizes.reduce((sum, size) => sum + bitsPerCode(size), 0);
  return Math.ceil((count * bits) / 8);
}

/**
 * Packs codes[count][stages]: vector after vector, stage after stage, the low bit of a code in the lowest free bit of
 * the current byte; the last byte is padded with zero bits.
 * @param codebookSizes sizes of at least the stages that the codes have
 * @throws RvqError INVALID_ARGUMENT, CODE_OUT_OF_RANGE
 */
export function packCodes(codes: Codes, codebookSizes: readonly number[]): Uint8Array {
  checkCodebookSizes(codebookSizes);
  const { count, stages, data } = checkCodes("codes", codes, codebookSizes.length);
  const sizes = codebookSizes.slice(0, stages);
  const sizeBytes = packedSizeBytes(count, sizes);
  const words = allocate("packed codes", Math.ceil(sizeBytes / 4), (length) => new Int32Array(length));
  const bad = packWords(data, sizes, sizes.map(bitsPerCode), words);
  if (bad >= 0) checkCodeRange("codes", data, stages, sizes, 0);
  return new Uint8Array(littleEndian(words), 0, sizeBytes);
}

/**
 * The inverse of `packCodes`.
 * @param codebookSizes sizes of exactly the stages that were packed
 * @throws RvqError INVALID_ARGUMENT for a wrong length, CODE_OUT_OF_RANGE, INVALID_STREAM for padding that is not zero
 */
export function unpackCodes(bytes: Uint8Array, count: number, codebookSizes: readonly number[]): Codes {
  checkCodebookSizes(codebookSizes);
  checkInteger("count", count, 0, Number.MAX_SAFE_INTEGER);
  const packed = checkBytes("bytes", bytes);
  const expected = packedSizeBytes(count, codebookSizes);
  if (packed.length !== expected)
    throw invalidArgument("bytes", `${expected} bytes for ${count} vectors`, packed.length);
  const stages = codebookSizes.length;
  // A copy: words must be aligned, and whole ones.
  const words = allocate("packed codes", Math.ceil(expected / 4), (length) => new Int32Array(length));
  new Uint8Array(words.buffer).set(packed);
  littleEndian(words);
  const data = newCodeArray(count * stages, codebookSizes);
  const bad = unpackWords(words, codebookSizes, codebookSizes.map(bitsPerCode), data);
  if (bad >= 0) checkCodeRange("bytes", data, stages, codebookSizes, 0);
  if (bad === -2) throw new RvqError("INVALID_STREAM", "bytes: expected zero padding in the last byte, got ones");
  return { count, stages, data };
}

/** The memory of the words with the lowest byte of each first. */
function littleEndian(words: Int32Array): ArrayBuffer {
  const { buffer } = words;
  if (endianness() === "BE") Buffer.from(buffer).swap32();
  return buffer as ArrayBuffer;
}

/** The narrower array type that holds every code below the sizes. */
export function newCodeArray(length: number, codebookSizes: readonly number[]): CodeArray {
  const narrow = codebookSizes.every((size) => size <= 65_536);
  return allocate("codes", length, (n): CodeArray => (narrow ? new Uint16Array(n) : new Uint32Array(n)));
}

/** The sizes themselves, each possible for a codebook. */
export function checkCodebookSizes(codebookSizes: readonly number[]): readonly number[] {
  if (!Array.isArray(codebookSizes) || codebookSizes.length === 0) {
    throw invalidArgument("codebookSizes", "a non-empty array of codebook sizes", codebookSizes);
  }
  for (const [stage, size] of codebookSizes.entries()) {
    checkInteger(`codebookSizes[${stage}]`, size, 1, limits.codebookSize);
  }
  return codebookSizes;
}
