// compressCodes and expandCodes: entropy-coded codes as bytes without a container, for messages and databases.

import { type Codes, checkBytes, checkCodeRange, checkCodes, checkInteger, checkOptions } from "../check.js";
import { RvqError } from "../errors.js";
import { checkCodebookSizes } from "../pack-layout.js";
import { checkLeftAlone } from "../staging.js";
import { runToEnd } from "../time-slice.js";
import { codings } from "./code-coder.js";
import { checkTables } from "./code-tables.js";
import {
  type CodingOptions,
  checkCoding,
  decodeSections,
  encodeSections,
  mostCodesPerBlock,
  type Section,
} from "./sections.js";

/** A section's header: its length in three bytes, then its coding. */
const sectionHeaderBytes = 4;

/**
 * Codes[count][stages] in few bytes: for every stage a section, which is its length (3 bytes), its coding (1 byte) and its
 * content. Never larger than each stage packed, and 4 bytes a stage.
 * @param codebookSizes sizes of at least the stages that the codes have
 * @throws RvqError INVALID_ARGUMENT, CODE_OUT_OF_RANGE
 */
export function compressCodes(codes: Codes, codebookSizes: readonly number[], options: CodingOptions = {}): Uint8Array {
  const sizes = checkCodebookSizes(codebookSizes);
  const checked = checkCodes("codes", codes, sizes.length);
  const used = sizes.slice(0, checked.stages);
  checkInteger("codes.count · codes.stages", checked.data.length, 0, mostCodesPerBlock);
  const chosen = checkCoding(options, used);
  // A getter of the options could have detached the codes.
  checkLeftAlone("codes.data", checked.data, checked.count * checked.stages);
  checkCodeRange("codes", checked.data, checked.stages, used, 0);
  const sections = runToEnd(encodeSections(checked, used, chosen));

  const bytes = Buffer.alloc(sections.reduce((sum, section) => sum + sectionHeaderBytes + section.bytes.length, 0));
  let at = 0;
  for (const { coding, bytes: content } of sections) {
    bytes.writeUIntLE(content.length, at, 3);
    bytes[at + 3] = codings.indexOf(coding);
    bytes.set(content, at + sectionHeaderBytes);
    at += sectionHeaderBytes + content.length;
  }
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
}

/**
 * The inverse of `compressCodes`. There is no checksum: damaged bytes give other codes, each below its codebook size. The
 * container has checksums.
 * @param codebookSizes sizes of the stages to decode: all that are there, or the first few
 * @throws RvqError INVALID_ARGUMENT, INVALID_STREAM
 */
export function expandCodes(
  bytes: Uint8Array,
  count: number,
  codebookSizes: readonly number[],
  options: Pick<CodingOptions, "tables"> = {},
): Codes {
  const sizes = checkCodebookSizes(codebookSizes);
  checkOptions("options", options);
  const tables = options.tables === undefined ? null : checkTables(options.tables, sizes);
  checkInteger("count", count, 0, mostCodesPerBlock);
  checkInteger("count · stages", count * sizes.length, 0, mostCodesPerBlock);
  return runToEnd(decodeSections(readSections(checkBytes("bytes", bytes), sizes.length), count, sizes, tables));
}

/** The first `stages` sections. */
function readSections(bytes: Uint8Array, stages: number): Section[] {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = 0;
  return Array.from({ length: stages }, (_, stage) => {
    const left = view.length - at - sectionHeaderBytes;
    if (left < 0) throw damaged(`${stages} sections`, stage);
    const length = view.readUIntLE(at, 3);
    const coding = codings[view[at + 3]];
    if (coding === undefined)
      throw damaged(`a coding from 0 to ${codings.length - 1} in section ${stage}`, view[at + 3]);
    if (length > left) throw damaged(`${length} bytes of section ${stage}`, left);
    at += sectionHeaderBytes + length;
    return { coding, bytes: view.subarray(at - length, at) };
  });
}

function damaged(expected: string, got: number): RvqError {
  return new RvqError("INVALID_STREAM", `bytes: expected ${expected}, got ${got}`);
}
