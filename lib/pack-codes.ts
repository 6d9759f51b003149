// Packs codes at ceil(log2 K) bits each, or densely in mixed radix, and unpacks them: little-endian bit order, no header.

import { endianness } from "node:os";
import type { CodeArray } from "./backend.js";
import { allocate, type Codes, checkBytes, checkCodeRange, checkCodes, checkInteger } from "./check.js";
import { newCodeArray } from "./code-array.js";
import { nativePacking } from "./cpu/packing.js";
import { invalidArgument, RvqError } from "./errors.js";
import {
  checkCodebookSizes,
  checkPackOptions,
  type PackLayout,
  type PackOptions,
  type PackSection,
  packLayout,
} from "./pack-layout.js";
import { packWords, type Unpacked, unpackWords } from "./pack-loops.js";

/**
 * Packs codes[count][stages] into `packedSizeBytes(count, codebookSizes, options)` bytes: one number after the other, the low bit of
 * a number in the lowest free bit of the current byte. A number is a code, in ceil(log2 K) bits, or with `dense` several. The last
 * byte, with "stage-major" the last one of each stage, is padded with zero bits.
 * @param codebookSizes sizes of at least the stages that the codes have
 * @throws RvqError INVALID_ARGUMENT, CODE_OUT_OF_RANGE
 */
export function packCodes(codes: Codes, codebookSizes: readonly number[], options: PackOptions = {}): Uint8Array {
  // Before the codes: a getter could detach codes that have been checked.
  const all = checkCodebookSizes(codebookSizes);
  const packing = checkPackOptions(options);
  const checked = checkCodes("codes", codes, all.length);
  const sizes = all.slice(0, checked.stages);
  const layout = packLayout(checked.count, sizes, packing);
  const bytes = allocate("packed codes", layout.sizeBytes, (length) => new Uint8Array(length));
  const native = nativePacking(checked.data.length);
  const inRange = native ? native.pack(checked, layout, bytes) : packSections(checked, layout, bytes);
  if (!inRange) checkCodeRange("codes", checked.data, checked.stages, sizes, 0);
  return bytes;
}

/**
 * The inverse of `packCodes`.
 * @param codebookSizes sizes of exactly the stages that were packed
 * @param options as for packing
 * @throws RvqError INVALID_ARGUMENT for a wrong length, CODE_OUT_OF_RANGE, INVALID_STREAM for padding that is not zero
 */
export function unpackCodes(
  bytes: Uint8Array,
  count: number,
  codebookSizes: readonly number[],
  options: PackOptions = {},
): Codes {
  const sizes = checkCodebookSizes(codebookSizes);
  checkInteger("count", count, 0, Number.MAX_SAFE_INTEGER);
  const layout = packLayout(count, sizes, options);
  const packed = checkBytes("bytes", bytes);
  if (packed.length !== layout.sizeBytes)
    throw invalidArgument("bytes", `${layout.sizeBytes} bytes for ${count} vectors`, packed.length);
  const stages = sizes.length;
  const codes = { count, stages, data: newCodeArray(count * stages, sizes) };
  const native = nativePacking(codes.data.length);
  const found = native ? native.unpack(packed, layout, codes) : unpackSections(packed, layout, codes);
  if (found === "padding")
    throw new RvqError("INVALID_STREAM", "bytes: expected zero padding in the last byte, got ones");
  if (found === "range") {
    checkCodeRange("bytes", codes.data, stages, sizes, 0);
    // A dense number too large for its group has no code to show.
    throw new RvqError("CODE_OUT_OF_RANGE", "bytes: expected numbers below the product of their codebook sizes");
  }
  return codes;
}

/** What `native.pack` does too: whether all codes are below their sizes. */
export function packSections({ count, stages, data }: Codes, { sections }: PackLayout, bytes: Uint8Array): boolean {
  return sections.every((section) => {
    const { byteOffset, sizeBytes, groups } = section;
    const words = allocate("packed codes", Math.ceil(sizeBytes / 4), (length) => new Int32Array(length));
    if (!packWords(sectionCodes(data, stages, section, count), groups, words)) return false;
    bytes.set(new Uint8Array(littleEndian(words), 0, sizeBytes), byteOffset);
    return true;
  });
}

/** What `native.unpack` does too. */
export function unpackSections(bytes: Uint8Array, { sections }: PackLayout, { count, stages, data }: Codes): Unpacked {
  let worst: Unpacked = "whole";
  for (const section of sections) {
    const { firstStage, byteOffset, sizeBytes, groups } = section;
    // A copy: words must be aligned, and whole ones.
    const words = allocate("packed codes", Math.ceil(sizeBytes / 4), (length) => new Int32Array(length));
    new Uint8Array(words.buffer).set(bytes.subarray(byteOffset, byteOffset + sizeBytes));
    littleEndian(words);
    const codes = sectionCodes(data, stages, section, count);
    const found = unpackWords(words, groups, codes);
    if (codes !== data) for (let row = 0, at = firstStage; row < count; row++, at += stages) data[at] = codes[row];
    if (found === "range") return found;
    if (found === "padding") worst = found;
  }
  return worst;
}

/** The codes of a section in a row: data[count][stages] itself, or a copy of one stage's. */
function sectionCodes(data: CodeArray, stages: number, section: PackSection, count: number): CodeArray {
  if (section.stages === stages) return data;
  const codes = data instanceof Uint16Array ? new Uint16Array(count) : new Uint32Array(count);
  for (let row = 0, at = section.firstStage; row < count; row++, at += stages) codes[row] = data[at];
  return codes;
}

/** The memory of the words with the lowest byte of each first. */
function littleEndian(words: Int32Array): ArrayBuffer {
  const { buffer } = words;
  if (endianness() === "BE") Buffer.from(buffer).swap32();
  return buffer as ArrayBuffer;
}
