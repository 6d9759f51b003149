// Packs codes at ceil(log2 K) bits each and unpacks them: frame-major, little-endian bit order, no header.

import type { CodeArray } from "./backend.js";
import { allocate, type Codes, checkBytes, checkCodeRange, checkCodes, checkInteger, limits } from "./check.js";
import { invalidArgument, RvqError } from "./errors.js";

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
  checkCodeRange("codes", data, stages, codebookSizes, 0);
  const sizes = codebookSizes.slice(0, stages);
  const bits = sizes.map(bitsPerCode);

  const bytes = new Uint8Array(packedSizeBytes(count, sizes));
  let pending = 0;
  let pendingBits = 0;
  let next = 0;
  for (let start = 0; start < data.length; start += stages) {
    for (let stage = 0; stage < stages; stage++) {
      // At most 7 pending bits and 24 new ones.
      pending |= data[start + stage] << pendingBits;
      pendingBits += bits[stage];
      for (; pendingBits >= 8; pendingBits -= 8) {
        bytes[next++] = pending;
        pending >>>= 8;
      }
    }
  }
  if (pendingBits > 0) bytes[next] = pending;
  return bytes;
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
  const bits = codebookSizes.map(bitsPerCode);

  const data = newCodeArray(count * stages, codebookSizes);
  let pending = 0;
  let pendingBits = 0;
  let next = 0;
  for (let start = 0; start < data.length; start += stages) {
    for (let stage = 0; stage < stages; stage++) {
      for (; pendingBits < bits[stage]; pendingBits += 8) pending |= packed[next++] << pendingBits;
      data[start + stage] = pending & ((1 << bits[stage]) - 1);
      pending >>>= bits[stage];
      pendingBits -= bits[stage];
    }
  }
  if (pending !== 0) throw new RvqError("INVALID_STREAM", "bytes: expected zero padding in the last byte, got ones");
  checkCodeRange("bytes", data, stages, codebookSizes, 0);
  return { count, stages, data };
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
