// The codes of some frames as sections, one a stage, each packed or entropy-coded: dropping the last ones drops their stages.

import type { CodeArray } from "../backend.js";
import { type Codes, checkOptions } from "../check.js";
import { newCodeArray } from "../code-array.js";
import { invalidArgument, RvqError } from "../errors.js";
import { packCodes, unpackCodes } from "../pack-codes.js";
import { packedSizeBytes } from "../pack-layout.js";
import type { Steps } from "../time-slice.js";
import { type Coding, codings, decodeStage, encodeStage, type StageCodes } from "./code-coder.js";
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

/**
 * One section a stage, none larger than packed. The codes have been checked.
 * @param stageCounts how many of its stages each frame has; null: all
 */
export function* encodeSections(
  { count, stages, data }: Codes,
  codebookSizes: readonly number[],
  { coding, tables }: CheckedCoding,
  stageCounts: Uint16Array | null = null,
): Steps<Section[]> {
  const codes = Array.from({ length: stages }, (_, stage) => column(data, stages, stage, count));
  const sections: Section[] = [];
  for (let stage = 0; stage < stages; stage++) {
    const frames = framesWith(stage, stageCounts);
    const table = tables?.nodes[stage] ?? null;
    sections.push(yield* encodeSection({ stage, codebookSize: codebookSizes[stage], codes, frames, table }, coding));
  }
  return sections;
}

/** The section of a stage. */
function* encodeSection(stage: StageCodes, coding: Coding): Steps<Section> {
  const { codes, frames, codebookSize } = stage;
  const all = codes[stage.stage];
  const count = frames?.length ?? all.length;
  if (coding !== "packed") {
    const bytes = yield* encodeStage(stage, coding, packedSizeBytes(count, [codebookSize]));
    if (bytes !== null) return { coding, bytes };
  }
  const data = frames === null ? all : gather(all, frames);
  return { coding: "packed", bytes: packCodes({ count, stages: 1, data }, [codebookSize]) };
}

/**
 * Codes[count][sections.length] from sections of any origin; 0 where a frame does not have the stage.
 * @throws RvqError INVALID_STREAM for a section that no encoder wrote
 */
export function* decodeSections(
  sections: readonly Section[],
  count: number,
  codebookSizes: readonly number[],
  tables: CodeTables | null,
  stageCounts: Uint16Array | null = null,
): Steps<Codes> {
  const stages = sections.length;
  const data = newCodeArray(count * stages, codebookSizes);
  const codes: CodeArray[] = [];
  for (const [stage, section] of sections.entries()) {
    const codebookSize = codebookSizes[stage];
    codes.push(newCodeArray(count, [codebookSize]));
    const table = tables?.nodes[stage] ?? null;
    yield* decodeSection(section, { stage, codebookSize, codes, frames: framesWith(stage, stageCounts), table });
    for (let frame = 0, at = stage; frame < count; frame++, at += stages) data[at] = codes[stage][frame];
  }
  return { count, stages, data };
}

function* decodeSection({ coding, bytes }: Section, stage: StageCodes): Steps<void> {
  const { codebookSize, codes, frames } = stage;
  const name = `section ${stage.stage}`;
  const into = codes[stage.stage];
  const count = frames?.length ?? into.length;
  const mostBytes = packedSizeBytes(count, [codebookSize]);
  if (coding === "packed") {
    if (bytes.length !== mostBytes) throw damaged(`${mostBytes} bytes of packed ${name}`, bytes.length);
    try {
      const { data } = unpackCodes(bytes, count, [codebookSize]);
      if (frames === null) into.set(data);
      else for (const [i, frame] of frames.entries()) into[frame] = data[i];
    } catch (cause) {
      if (!(cause instanceof RvqError)) throw cause;
      throw new RvqError("INVALID_STREAM", `${name}: ${cause.message}`, { cause });
    }
    return;
  }
  if (bytes.length >= mostBytes) throw damaged(`fewer than ${mostBytes} bytes in ${name}`, bytes.length);
  if (coding === "static" && stage.table === null) {
    throw new RvqError("INVALID_STREAM", `${name}: expected tables for its static coding, got none`);
  }
  if (!(yield* decodeStage(bytes, stage, coding))) throw damaged(`${count} codes in ${name}`, bytes.length);
}

/** The frames with more than `stage` stages; null: all. */
function framesWith(stage: number, stageCounts: Uint16Array | null): Uint32Array | null {
  if (stageCounts === null) return null;
  const frames: number[] = [];
  for (const [frame, stages] of stageCounts.entries()) if (stages > stage) frames.push(frame);
  return Uint32Array.from(frames);
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

/** codes[frames[i]] */
function gather(codes: CodeArray, frames: Uint32Array): CodeArray {
  const gathered = codes instanceof Uint16Array ? new Uint16Array(frames.length) : new Uint32Array(frames.length);
  for (let i = 0; i < frames.length; i++) gathered[i] = codes[frames[i]];
  return gathered;
}
