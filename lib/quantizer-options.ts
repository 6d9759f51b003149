// The options of ResidualQuantizer's methods, and their checks.

import type { Metric } from "./backend.js";
import {
  type Codes,
  checkCodes,
  checkFloat32,
  checkFunction,
  checkInteger,
  checkOptions,
  checkSignal,
  limits,
} from "./check.js";
import type { ChunkOptions } from "./chunks.js";
import { invalidArgument } from "./errors.js";
import type { BackendChoice } from "./open-backend.js";
import { checkOptionNames, type OptionNames } from "./option-names.js";

export interface BackendChoiceOptions {
  /** Default "auto": the environment variable RVQ_BACKEND, else the fastest that runs. */
  readonly backend?: BackendChoice;
  /**
   * Threads a call may use; the result never depends on it. Default: every processor, with the backend `js` only the calling
   * thread; with two and more it has large asynchronous `encode` and `train` calls done by so many worker threads.
   */
  readonly threads?: number;
  /** The number of the GPU that the backend `cuda` uses; default: the first that can run. */
  readonly device?: number;
}

export interface FromCodebooksOptions extends BackendChoiceOptions {
  readonly dim: number;
  /** Default "l2". */
  readonly metric?: Metric;
  /** weights[D] of the weighted l2 distance. */
  readonly weights?: Float32Array;
  /** A JSON object that is stored with the model. */
  readonly metadata?: Record<string, unknown>;
}

export interface StageOptions {
  /** Use the first so many stages; default all (for decoding: all that the codes have). */
  readonly stages?: number;
}

export interface CallOptions extends StageOptions, ChunkOptions {}

export interface EncodeSyncOptions extends StageOptions {
  /**
   * How many partial codes a vector has on the way, 1 … 256; the answer is the best of them, and never worse than with 1, which is
   * the default: the greedy search. It takes `beam` times as long. Only with metric "l2". The codes are for just these `stages`:
   * their prefixes may be worse than the greedy search's.
   */
  readonly beam?: number;
}

export interface EncodeOptions extends EncodeSyncOptions, CallOptions {}

export interface DecodeSyncOptions extends StageOptions {
  /**
   * into[count][dim]: where the reconstruction goes, instead of into new memory, whose first use costs more than decoding does.
   * Memory apart from the codes', which the caller leaves alone until the call settles. After an error its content is unspecified.
   */
  readonly into?: Float32Array;
}

export interface DecodeOptions extends DecodeSyncOptions, CallOptions {}

/** Options of a call after checking; `given` is the number of stages if one was given. */
export interface CheckedCall extends ChunkOptions {
  readonly given: number | undefined;
  readonly stages: number;
  /** Not looked at yet: `checkBeam` does. */
  readonly beam: unknown;
  /** Not looked at yet: `checkDecode` does. */
  readonly into: unknown;
}

/** Of all calls: one object may hold the options of several. */
const callNames: OptionNames<DecodeOptions & EncodeOptions & { capacity: number }> = {
  stages: true,
  beam: true,
  signal: true,
  onProgress: true,
  into: true,
  capacity: true,
};

export const fromCodebooksNames: OptionNames<FromCodebooksOptions> = {
  dim: true,
  metric: true,
  weights: true,
  metadata: true,
  backend: true,
  threads: true,
  device: true,
};

/** The options every call shares, each read once; `names` are those that it takes. */
export function checkCall(
  options: DecodeOptions & EncodeOptions,
  available: number,
  names: Readonly<Record<string, true>> = callNames,
): CheckedCall {
  checkOptions("options", options);
  checkOptionNames(options, names);
  const { stages: given, beam, signal: givenSignal, onProgress, into } = options;
  const stages = checkInteger("stages", given ?? available, 1, available);
  const signal = checkSignal("signal", givenSignal);
  checkFunction("onProgress", onProgress);
  signal?.throwIfAborted();
  return { given, stages, beam, signal, onProgress, into };
}

/** With the cosine metric the distance that decides a stage is not the length of what it leaves over, which a beam compares. */
export function checkBeam(beam: unknown, metric: Metric): number {
  const checked = checkInteger("beam", beam ?? 1, 1, limits.beam);
  if (checked > 1 && metric !== "l2") throw invalidArgument("beam", `1 with metric "${metric}"`, checked);
  return checked;
}

export interface CheckedDecode {
  readonly codes: Codes;
  /** How many of the codes' stages to add up. */
  readonly stages: number;
  /** A plain view of into[count][dim]. */
  readonly into: Float32Array | null;
  /** The caller's own array of it, which the call returns. */
  readonly given: Float32Array | undefined;
}

export function checkDecode(codesArgument: unknown, call: CheckedCall, dim: number, available: number): CheckedDecode {
  const codes = checkCodes("codes", codesArgument, available);
  const stages = checkInteger("stages", call.given ?? codes.stages, 1, codes.stages);
  if (call.into === undefined) return { codes, stages, into: null, given: undefined };

  // Last: reading the codes may run a getter of the caller's.
  const into = checkInto(call.into, codes.count * dim, codes.data);
  return { codes, stages, into, given: call.into as Float32Array };
}

/** A plain view of `into`, of so many elements, apart from the codes. */
export function checkInto(value: unknown, length: number, codes: Codes["data"]): Float32Array {
  const into = checkFloat32("into", value);
  if (into.length !== length) throw invalidArgument("into", `codes.count · dim = ${length} elements`, into.length);
  if (overlap(into, codes)) {
    throw invalidArgument("into", "memory apart from the codes'", "an array that overlaps codes.data");
  }
  return into;
}

function overlap(a: Float32Array, b: Codes["data"]): boolean {
  const apart = a.byteOffset + a.byteLength <= b.byteOffset || b.byteOffset + b.byteLength <= a.byteOffset;
  return a.buffer === b.buffer && !apart;
}
