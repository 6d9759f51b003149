// Codes of frames with different numbers of stages, as rate control and damaged files make them: how they are decoded.

import { allocate, type Codes, checkCodes, checkUint16 } from "./check.js";
import { newCodeArray } from "./code-array.js";
import { invalidArgument } from "./errors.js";
import { type CheckedCall, checkInto } from "./quantizer-options.js";
import { checkLeftAlone } from "./staging.js";

/** Codes of which each frame has its first so many stages; those beyond mean nothing. */
export interface CountedCodes extends Codes {
  /** stageCounts[count], each from 0 to `stages`. */
  readonly stageCounts: Uint16Array;
}

/** The codes as counted ones, checked; null for codes without stage counts, which are not looked at. */
export function countedCodes(codes: unknown, quantizerStages: number): CountedCodes | null {
  if (typeof codes !== "object" || codes === null) return null;
  const { stageCounts } = codes as Partial<CountedCodes>;
  if (stageCounts === undefined || stageCounts === null) return null;
  const { count, stages, data } = codes as CountedCodes;
  const checked = checkCodes("codes", { count, stages, data }, quantizerStages);
  return { ...checked, stageCounts: checkStageCounts(stageCounts, checked) };
}

/** A copy of stageCounts[count], none above the codes' stages. */
export function checkStageCounts(value: unknown, { count, stages }: Codes): Uint16Array {
  const name = "codes.stageCounts";
  const plain = checkUint16(name, value, `a Uint16Array of ${count}`);
  if (plain.length !== count) throw invalidArgument(name, `a Uint16Array of ${count}`, value);
  const counts = plain.slice();
  const bad = counts.findIndex((one) => one > stages);
  if (bad >= 0) throw invalidArgument(`${name}[${bad}]`, `at most ${stages}`, counts[bad]);
  return counts;
}

/** Counts that a batch of a product form may have, whose columns are more than its stages. */
type Counted = Codes & { readonly stageCounts: Uint16Array | Uint32Array };

/** What of a call's options matters here. */
type DecodeCall = Pick<CheckedCall, "stages" | "into">;

/** Decodes codes of one number of stages: the rest of `ResidualQuantizer.decode`. */
type DecodePlain<Result> = (codes: Codes) => Result;

/** Reconstruction[count][dim], each frame from its own stages, zeros from none; the same bits as frame by frame. */
export async function decodeCounted(
  codes: Counted,
  call: DecodeCall,
  dim: number,
  codebookSizes: readonly number[],
  decode: DecodePlain<Promise<Float32Array>>,
): Promise<Float32Array> {
  const { result, given, groups } = prepare(codes, call, dim, codebookSizes);
  for (const group of groups) {
    const vectors = await decode(group.codes);
    if (given !== undefined) checkLeftAlone("into", result, codes.count * dim);
    scatter(vectors, group.frames, dim, result);
  }
  return given ?? result;
}

export function decodeCountedSync(
  codes: CountedCodes,
  call: DecodeCall,
  dim: number,
  codebookSizes: readonly number[],
  decode: DecodePlain<Float32Array>,
): Float32Array {
  const { result, given, groups } = prepare(codes, call, dim, codebookSizes);
  for (const group of groups) scatter(decode(group.codes), group.frames, dim, result);
  return given ?? result;
}

/** Frames with the same number of stages, and their codes. */
interface Group {
  readonly frames: readonly number[];
  readonly codes: Codes;
}

interface Prepared {
  /** Zeros, [count][dim]. */
  readonly result: Float32Array;
  /** The caller's own array of it. */
  readonly given: Float32Array | undefined;
  readonly groups: readonly Group[];
}

function prepare(codes: Counted, call: DecodeCall, dim: number, codebookSizes: readonly number[]): Prepared {
  const { count, stages, data, stageCounts } = codes;
  const wanted = call.stages;
  const given = call.into as Float32Array | undefined;
  const plain = given === undefined ? null : checkInto(given, count * dim, data);
  const byStages: number[][] = Array.from({ length: stages + 1 }, () => []);
  for (let frame = 0; frame < count; frame++) byStages[Math.min(stageCounts[frame], wanted)].push(frame);
  const groups = byStages.flatMap((frames, kept): Group[] => {
    if (frames.length === 0 || kept === 0) return [];
    const some = newCodeArray(frames.length * kept, codebookSizes);
    for (const [i, frame] of frames.entries()) {
      some.set(data.subarray(frame * stages, frame * stages + kept), i * kept);
    }
    return [{ frames, codes: { count: frames.length, stages: kept, data: some } }];
  });
  const result = plain?.fill(0) ?? allocate("the reconstruction", count * dim, (length) => new Float32Array(length));
  return { result, given, groups };
}

function scatter(vectors: Float32Array, frames: readonly number[], dim: number, into: Float32Array): void {
  for (const [i, frame] of frames.entries()) into.set(vectors.subarray(i * dim, (i + 1) * dim), frame * dim);
}
