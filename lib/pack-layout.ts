// How codes become numbers and numbers become bits: the sections, groups and sizes of packed codes.

import { checkInteger, checkOptions, limits, mapList } from "./check.js";
import { invalidArgument } from "./errors.js";

export interface PackOptions {
  /**
   * "frame-major" (default): vector after vector, every one with all its codes. "stage-major": stage after stage, each from a whole
   * byte on, so that the first bytes are the first stages.
   */
  readonly order?: "frame-major" | "stage-major";
  /**
   * Several codes share one number in mixed radix, which wastes less than a bit a number instead of up to one a code where the
   * sizes are no powers of two: with "frame-major" codes of a vector, with "stage-major" successive codes of a stage. Default: false.
   */
  readonly dense?: boolean;
}

/** Successive codes c_0, c_1, … as one number c_0 + size_0 · (c_1 + size_1 · (…)), in the fewest bits that hold any such number. */
export interface PackGroup {
  readonly sizes: readonly number[];
  readonly bits: number;
}

/** Codes that are packed without a gap from a whole byte on: of every vector the codes of these stages. */
export interface PackSection {
  readonly firstStage: number;
  readonly stages: number;
  /** What repeats: the groups, over `period` codes. Codes that do not fill the last period fill as many of its groups, the last in part. */
  readonly groups: readonly PackGroup[];
  readonly period: number;
  readonly byteOffset: number;
  readonly sizeBytes: number;
}

export interface PackLayout {
  /** "frame-major": one section; "stage-major": one a stage, each of one group. */
  readonly order: "frame-major" | "stage-major";
  readonly sections: readonly PackSection[];
  readonly sizeBytes: number;
}

/** A float64 quotient of numbers up to this, rounded down, is exact; and so is every number below. */
export const largestProduct = 2 ** 52;

/** Bits of one packed code of a codebook with `codebookSize` codewords: ceil(log2 K), 0 for a single codeword. */
export function bitsPerCode(codebookSize: number): number {
  checkInteger("codebookSize", codebookSize, 1, limits.codebookSize);
  return bitsOf(codebookSize);
}

/** Bytes of `count` packed vectors of codes with these codebook sizes. */
export function packedSizeBytes(count: number, codebookSizes: readonly number[], options: PackOptions = {}): number {
  checkInteger("count", count, 0, Number.MAX_SAFE_INTEGER);
  return packLayout(count, checkCodebookSizes(codebookSizes), options).sizeBytes;
}

export function packLayout(count: number, codebookSizes: readonly number[], options: PackOptions): PackLayout {
  const { order, dense } = checkPackOptions(options);
  const sections: PackSection[] = [];
  let sizeBytes = 0;
  const add = (firstStage: number, stages: number, groups: readonly PackGroup[]): void => {
    const period = groups.reduce((sum, { sizes }) => sum + sizes.length, 0);
    const bytes = Math.ceil(sectionBits(count * stages, groups, period) / 8);
    sections.push({ firstStage, stages, groups, period, byteOffset: sizeBytes, sizeBytes: bytes });
    sizeBytes += bytes;
  };
  if (order === "frame-major") add(0, codebookSizes.length, dense ? fewestBits(codebookSizes) : singles(codebookSizes));
  else
    for (const [stage, size] of codebookSizes.entries()) add(stage, 1, dense ? [densestGroup(size)] : singles([size]));
  return { order, sections, sizeBytes };
}

/** The first `codes` codes of a group. */
export function groupStart({ sizes }: PackGroup, codes: number): PackGroup {
  return group(sizes.slice(0, codes));
}

/** A copy of the sizes, each possible for a codebook. */
export function checkCodebookSizes(codebookSizes: readonly number[]): number[] {
  if (!Array.isArray(codebookSizes) || codebookSizes.length === 0) {
    throw invalidArgument("codebookSizes", "a non-empty array of codebook sizes", codebookSizes);
  }
  return mapList(codebookSizes, (size, stage) => checkInteger(`codebookSizes[${stage}]`, size, 1, limits.codebookSize));
}

export function checkPackOptions(options: PackOptions): Required<PackOptions> {
  checkOptions("options", options);
  const { order = "frame-major", dense = false } = options;
  if (order !== "frame-major" && order !== "stage-major")
    throw invalidArgument("order", '"frame-major" or "stage-major"', order);
  if (typeof dense !== "boolean") throw invalidArgument("dense", "true or false", dense);
  return { order, dense };
}

/** ceil(log2 values) for an integer of at most 2^52. */
function bitsOf(values: number): number {
  let bits = 0;
  while (2 ** bits < values) bits++;
  return bits;
}

function group(sizes: readonly number[]): PackGroup {
  return { sizes, bits: bitsOf(sizes.reduce((product, size) => product * size, 1)) };
}

function singles(sizes: readonly number[]): PackGroup[] {
  return sizes.map((size) => group([size]));
}

/** The group of codes below `size` with the fewest bits a code; of several the shortest. */
function densestGroup(size: number): PackGroup {
  let best = group([size]);
  for (let codes = 2; size > 1 && size ** codes <= largestProduct; codes++) {
    const next = group(new Array<number>(codes).fill(size));
    if (next.bits * best.sizes.length < best.bits * codes) best = next;
  }
  return best;
}

/** The sizes in successive groups that take the fewest bits together; of several such the one whose first groups are the longest. */
function fewestBits(sizes: readonly number[]): PackGroup[] {
  const best: { bits: number; codes: number }[] = Array.from(sizes, () => ({ bits: Infinity, codes: 0 }));
  for (let first = sizes.length - 1; first >= 0; first--) {
    let product = 1;
    for (let codes = 1; first + codes <= sizes.length; codes++) {
      product *= sizes[first + codes - 1];
      if (product > largestProduct) break;
      const bits = bitsOf(product) + (best[first + codes]?.bits ?? 0);
      if (bits <= best[first].bits) best[first] = { bits, codes };
    }
  }
  const groups: PackGroup[] = [];
  for (let first = 0; first < sizes.length; first += best[first].codes)
    groups.push(group(sizes.slice(first, first + best[first].codes)));
  return groups;
}

function sectionBits(codes: number, groups: readonly PackGroup[], period: number): number {
  let bits = Math.floor(codes / period) * groups.reduce((sum, one) => sum + one.bits, 0);
  let left = codes % period;
  for (let i = 0; left > 0; i++) {
    const taken = Math.min(left, groups[i].sizes.length);
    bits += groupStart(groups[i], taken).bits;
    left -= taken;
  }
  return bits;
}
