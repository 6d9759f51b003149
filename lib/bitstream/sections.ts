// The codes of some frames as sections, one a stage, each packed or entropy-coded: dropping the last ones drops their stages.

import type { CodeArray } from "../backend.js";
import { type Codes, checkBytes, checkCodeRange, checkCodes, checkInteger, checkOptions } from "../check.js";
import { invalidArgument, RvqError } from "../errors.js";
import { checkCodebookSizes, newCodeArray, packCodes, packedSizeBytes, unpackCodes } from "../pack-codes.js";
import { type Coding, codings, decodeStage, encodeStage } from "./code-coder.js";
import { type CodeTables, checkTables } from "./code-tables.js";

export interface CodingOptions {
  /**
   * Default "mixed", the smallest and slowest; "adaptive" learns each stage's frequencies; "static" takes them from `tables`;
   * "packed" spends ceil(log2 K) bits a code. A stage that would not become smaller is packed whatever is asked for.
   */
  readonly coding?: Coding;
  /** For "static": what `codeTables` gave for these codebook sizes. */
  readonly tables?: CodeTables;
}

/** One stage's codes of some frames. */
export interface Section {
  readonly coding: Coding;
  readonly bytes: Uint8Array;
}

/** Frames times stages in one piece: what a reader may have to hold for a few bytes of input, 16 MiB of codes. */
export const mostCodesPerBlock = 2 ** 22;

/** A section's header in `compressCodes`: its length, and in the highest byte its coding. */
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
  checkCodeRange("codes", checked.data, checked.stages, used, 0);
  const sections = encodeSections(checked, used, checkCoding(options, used));

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
 * The inverse of `compressCodes`. There is no checksum: damaged bytes give other codes, each below its codebook size. The container
 * has checksums.
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
  checkInteger(
    "count · stages",
    checkInteger("count", count, 0, mostCodesPerBlock) * sizes.length,
    0,
    mostCodesPerBlock,
  );
  const plain = checkBytes("bytes", bytes);
  const view = Buffer.from(plain.buffer, plain.byteOffset, plain.length);
  const sections: Section[] = [];
  let at = 0;
  for (const stage of sizes.keys()) {
    const left = view.length - at - sectionHeaderBytes;
    if (left < 0) throw damaged(`${sizes.length} sections`, stage);
    const length = view.readUIntLE(at, 3);
    const coding = codings[view[at + 3]];
    if (coding === undefined)
      throw damaged(`a coding from 0 to ${codings.length - 1} in section ${stage}`, view[at + 3]);
    if (length > left) throw damaged(`${length} bytes of section ${stage}`, left);
    at += sectionHeaderBytes + length;
    sections.push({ coding, bytes: view.subarray(at - length, at) });
  }
  return decodeSections(sections, count, sizes, tables);
}

export interface CheckedCoding {
  readonly coding: Coding;
  readonly tables: CodeTables | null;
}

export function checkCoding(options: CodingOptions, codebookSizes: readonly number[]): CheckedCoding {
  checkOptions("options", options);
  const { coding = "mixed", tables } = options;
  if (!codings.includes(coding)) throw invalidArgument("coding", codings.map((name) => `"${name}"`).join(", "), coding);
  if (coding === "static" && tables === undefined)
    throw invalidArgument("tables", 'tables for coding "static"', tables);
  return { coding, tables: tables === undefined ? null : checkTables(tables, codebookSizes) };
}

/** One section a stage, none larger than packed. The codes have been checked. */
export function encodeSections(
  { count, stages, data }: Codes,
  codebookSizes: readonly number[],
  { coding, tables }: CheckedCoding,
): Section[] {
  const byStage = Array.from({ length: stages }, (_, stage) => column(data, stages, stage, count));
  return byStage.map((codes, stage): Section => {
    const sizes = [codebookSizes[stage]];
    if (coding !== "packed") {
      const table = tables?.nodes[stage] ?? null;
      const bytes = encodeStage(byStage, stage, sizes[0], coding, table, packedSizeBytes(count, sizes));
      if (bytes !== null) return { coding, bytes };
    }
    return { coding: "packed", bytes: packCodes({ count, stages: 1, data: codes }, sizes) };
  });
}

/**
 * Codes[count][sections.length] from sections of any origin.
 * @throws RvqError INVALID_STREAM for a section that no encoder wrote
 */
export function decodeSections(
  sections: readonly Section[],
  count: number,
  codebookSizes: readonly number[],
  tables: CodeTables | null,
): Codes {
  const stages = sections.length;
  const data = newCodeArray(count * stages, codebookSizes);
  const byStage: CodeArray[] = [];
  for (const [stage, { coding, bytes }] of sections.entries()) {
    const codes = decodeSection(bytes, coding, byStage, stage, codebookSizes[stage], count, tables);
    byStage.push(codes);
    for (let frame = 0, at = stage; frame < count; frame++, at += stages) data[at] = codes[frame];
  }
  return { count, stages, data };
}

function decodeSection(
  bytes: Uint8Array,
  coding: Coding,
  byStage: readonly CodeArray[],
  stage: number,
  codebookSize: number,
  count: number,
  tables: CodeTables | null,
): CodeArray {
  const mostBytes = packedSizeBytes(count, [codebookSize]);
  if (coding === "packed") {
    if (bytes.length !== mostBytes) throw damaged(`${mostBytes} bytes of packed section ${stage}`, bytes.length);
    try {
      return unpackCodes(bytes, count, [codebookSize]).data;
    } catch (cause) {
      if (!(cause instanceof RvqError)) throw cause;
      throw new RvqError("INVALID_STREAM", `section ${stage}: ${cause.message}`, { cause });
    }
  }
  if (bytes.length >= mostBytes) throw damaged(`fewer than ${mostBytes} bytes in section ${stage}`, bytes.length);
  const table = tables?.nodes[stage] ?? null;
  if (coding === "static" && table === null) {
    throw new RvqError("INVALID_STREAM", `section ${stage}: expected tables for its static coding, got none`);
  }
  const codes = newCodeArray(count, [codebookSize]);
  if (!decodeStage(bytes, byStage, stage, codebookSize, coding, table, codes)) {
    throw damaged(`${count} codes in section ${stage}`, bytes.length);
  }
  return codes;
}

/** The codes of one stage out of data[count][stages]. */
function column(data: CodeArray, stages: number, stage: number, count: number): CodeArray {
  const codes = data instanceof Uint16Array ? new Uint16Array(count) : new Uint32Array(count);
  for (let frame = 0, at = stage; frame < count; frame++, at += stages) codes[frame] = data[at];
  return codes;
}

function damaged(expected: string, got: number): RvqError {
  return new RvqError("INVALID_STREAM", `bytes: expected ${expected}, got ${got}`);
}
