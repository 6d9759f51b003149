// Validation at the public edge: every argument a caller can get wrong, one line each, before anything is written.

import { fileURLToPath } from "node:url";
import { types } from "node:util";
import type { BadInput, CodeArray, Metric } from "./backend.js";
import { firstBadInput } from "./bad-input.js";
import { invalidArgument, RvqError, show } from "./errors.js";

/** Codes of `count` vectors: data[count][stages], row-major; each below the codebook size of its stage. */
export interface Codes {
  readonly count: number;
  readonly stages: number;
  readonly data: CodeArray;
}

/** Dimension and stage counts beyond these would overflow 32-bit offsets inside a codebook; a wider beam gains nothing. */
export const limits = {
  dim: 65_536,
  codebookSize: 2 ** 24,
  codebookElements: 2 ** 30,
  stages: 1024,
  beam: 256,
  groups: 1024,
} as const;

export function checkInteger(name: string, value: unknown, min: number, max: number): number {
  if (typeof value !== "number" || !Number.isInteger(value) || value < min || value > max) {
    throw invalidArgument(name, `an integer from ${min} to ${max}`, value);
  }
  return value;
}

export function checkNumber(name: string, value: unknown, min: number, expected: string): number {
  if (typeof value !== "number" || !(value >= min && value < Infinity)) throw invalidArgument(name, expected, value);
  return value;
}

/** λ of shrinkage, by default 0; larger ones would overflow float64 where they are multiplied with what they draw to. */
export function checkShrinkage(value: unknown): number {
  const shrinkage = value ?? 0;
  if (typeof shrinkage === "number" && shrinkage >= 0 && shrinkage <= 2 ** 53) return shrinkage;
  throw invalidArgument("shrinkage", "a number from 0 to 2^53", shrinkage);
}

export function checkOptions(name: string, value: unknown): void {
  if (value !== undefined) checkRequiredOptions(name, value);
}

/** Options of which some must be given. */
export function checkRequiredOptions(name: string, value: unknown): void {
  if (typeof value !== "object" || value === null) throw invalidArgument(name, "an object", value);
}

export function checkFunction(name: string, value: unknown): void {
  if (value !== undefined && typeof value !== "function") throw invalidArgument(name, "a function", value);
}

/** What `for await` takes. */
export function checkIterable(name: string, value: unknown): void {
  const { [Symbol.asyncIterator]: asynchronous, [Symbol.iterator]: synchronous } = Object(value);
  if (typeof asynchronous === "function" || typeof synchronous === "function") return;
  throw invalidArgument(name, "an iterable", value);
}

/** mapped[i] of every element of an array by its index, holes too, whatever its own methods and iterator do. */
export function mapList<Result>(list: readonly unknown[], map: (item: unknown, index: number) => Result): Result[] {
  return Array.from({ length: list.length }, (_, i) => map(list[i], i));
}

/** A signal of any realm: what has the parts of one that are used here. */
export function checkSignal(name: string, value: unknown): AbortSignal | undefined {
  if (value === undefined) return undefined;
  try {
    const signal = value as AbortSignal;
    const methods = [signal.throwIfAborted, signal.addEventListener, signal.removeEventListener];
    if (typeof signal.aborted === "boolean" && methods.every((one) => typeof one === "function")) return signal;
  } catch {
    // An object that only pretends throws when it is asked.
  }
  throw invalidArgument(name, "an AbortSignal", value);
}

/** A path for node:fs: a string or a file URL. */
export function checkPath(name: string, value: unknown): string {
  try {
    const path = value instanceof URL ? fileURLToPath(value) : value;
    if (typeof path === "string" && path.length > 0 && !path.includes("\0")) return path;
  } catch {
    // A URL of another scheme.
  }
  throw invalidArgument(name, "a path, as a string or a file URL", value);
}

export function checkMetric(value: unknown): Metric {
  if (value !== "l2" && value !== "cosine") throw invalidArgument("metric", '"l2" or "cosine"', value);
  return value;
}

export function checkSeed(value: unknown): number {
  return checkInteger("seed", value, 0, Number.MAX_SAFE_INTEGER);
}

/** How many worker threads; 1 is this thread alone. */
export function checkWorkers(value: unknown): number {
  return checkInteger("workers", value ?? 1, 1, 1024);
}

/** A plain view of a Float32Array of any realm whose memory is this thread's own: not shared, not detached. */
export function checkFloat32(name: string, value: unknown): Float32Array {
  if (!types.isFloat32Array(value)) throw invalidArgument(name, "a Float32Array", value);
  return new Float32Array(...ownMemory(name, value));
}

/** A plain view of a Float64Array, likewise. */
export function checkFloat64(name: string, value: unknown): Float64Array {
  if (!types.isFloat64Array(value)) throw invalidArgument(name, "a Float64Array", value);
  return new Float64Array(...ownMemory(name, value));
}

/** A plain view of a Uint16Array, likewise. */
export function checkUint16(name: string, value: unknown, expected: string): Uint16Array {
  if (!types.isUint16Array(value)) throw invalidArgument(name, expected, value);
  return new Uint16Array(...ownMemory(name, value));
}

/** A plain view of a Uint8Array (a Buffer is one) of any realm whose memory is this thread's own. */
export function checkBytes(name: string, value: unknown): Uint8Array {
  if (!types.isUint8Array(value)) throw invalidArgument(name, "a Uint8Array", value);
  return new Uint8Array(...ownMemory(name, value));
}

/** vectors[count][dim]; the content (NaN, zero vectors) is looked at by the backend, which reads it anyway. */
export function checkVectors(name: string, value: unknown, dim: number): Float32Array {
  const vectors = checkFloat32(name, value);
  if (vectors.length % dim !== 0) {
    throw invalidArgument(name, `a length that is a multiple of dim ${dim}`, vectors.length);
  }
  return vectors;
}

/** weights[dim], finite and not negative, as a copy; null stays null. */
export function checkWeights(value: unknown, dim: number, metric: Metric): Float32Array | null {
  if (value === undefined || value === null) return null;
  if (metric !== "l2") throw invalidArgument("weights", 'none with metric "cosine"', value);
  const weights = checkFloat32("weights", value);
  if (weights.length !== dim) throw invalidArgument("weights", `dim ${dim} elements`, weights.length);
  const bad = weights.findIndex((w) => !(w >= 0 && w < Infinity));
  if (bad >= 0) throw invalidArgument(`weights[${bad}]`, "a finite number that is not negative", weights[bad]);
  return weights.slice();
}

/** codebooks[stages], each [K_s][dim] with K_s ≥ 1, finite, with the cosine metric without zero rows; copied. */
export function checkCodebooks(value: unknown, dim: number, metric: Metric, what = "codebooks"): Float32Array[] {
  if (!Array.isArray(value) || value.length === 0) {
    throw invalidArgument(what, "a non-empty array of Float32Array, one a stage", value);
  }
  checkInteger(`${what}.length`, value.length, 1, limits.stages);
  return mapList(value, (item, stage) => {
    const name = `${what}[${stage}]`;
    const codebook = checkVectors(name, item, dim);
    if (codebook.length === 0) throw invalidArgument(name, `at least one codeword of dim ${dim}`, codebook.length);
    checkInteger(`${name} codewords`, codebook.length / dim, 1, limits.codebookSize);
    if (codebook.length > limits.codebookElements) {
      throw invalidArgument(name, `at most ${limits.codebookElements} elements`, codebook.length);
    }
    const bad = firstBadInput(codebook, dim, metric === "cosine");
    if (bad !== null) throw badInput(name, bad, 0);
    return codebook.slice();
  });
}

/** The shape of codes, and which of the quantizer's stages they have; their range is `checkCodeRange`'s. */
export function checkCodes(name: string, value: unknown, quantizerStages: number): Codes {
  if (typeof value !== "object" || value === null) throw invalidArgument(name, "{ count, stages, data }", value);
  const { count, stages, data, stageCounts } = value as Partial<Record<keyof Codes | "stageCounts", unknown>>;
  // Codes beyond a frame's count are not codes: who can do with them takes the counts out first.
  if (stageCounts !== undefined && stageCounts !== null) {
    throw invalidArgument(`${name}.stageCounts`, "none: every frame has all stages here", stageCounts);
  }
  checkInteger(`${name}.count`, count, 0, Number.MAX_SAFE_INTEGER);
  checkInteger(`${name}.stages`, stages, 1, quantizerStages);
  if (!types.isUint16Array(data) && !types.isUint32Array(data)) {
    throw invalidArgument(`${name}.data`, "a Uint16Array or a Uint32Array", data);
  }
  const memory = ownMemory(`${name}.data`, data);
  const plain = types.isUint16Array(data) ? new Uint16Array(...memory) : new Uint32Array(...memory);
  const expected = (count as number) * (stages as number);
  if (plain.length !== expected) {
    throw invalidArgument(`${name}.data`, `count · stages = ${expected} elements`, plain.length);
  }
  return { count: count as number, stages: stages as number, data: plain };
}

/** Throws for the first of data[rows][codeStages] that is not below the codebook size of its stage. */
export function checkCodeRange(
  name: string,
  data: CodeArray,
  codeStages: number,
  codebookSizes: readonly number[],
  firstRow: number,
): void {
  // What is below the smallest size needs no second look, and that is all where sizes are equal.
  const smallest = Math.min(...codebookSizes.slice(0, codeStages));
  let below = 0;
  while (below < data.length && data[below] < smallest) below++;

  let row = Math.floor(below / codeStages);
  for (let start = row * codeStages; start < data.length; start += codeStages, row++) {
    for (let stage = 0; stage < codeStages; stage++) {
      if (data[start + stage] < codebookSizes[stage]) continue;
      const expected = `codes of stage ${stage} below its codebook size ${codebookSizes[stage]}`;
      const message = `${name}: expected ${expected}, got ${data[start + stage]} in row ${firstRow + row}`;
      throw new RvqError("CODE_OUT_OF_RANGE", message);
    }
  }
}

/** The error for bad content found by `firstBadInput` or a backend in rows that start at `firstRow`. */
export function badInput(name: string, bad: BadInput, firstRow: number, value?: number): RvqError {
  const row = firstRow + bad.row;
  if (bad.kind === "zero") {
    const remedy = "the cosine metric has no direction for it; remove the row or use metric l2";
    return new RvqError(
      "ZERO_VECTOR",
      `${name}: expected vectors that are not zero, got zeros in row ${row} (${remedy})`,
    );
  }
  const got = value === undefined ? "NaN or infinity" : String(value);
  return new RvqError("NOT_FINITE", `${name}: expected finite numbers, got ${got} in row ${row}, column ${bad.column}`);
}

/** Whether matrix[start … +dim] is all zero. */
export function isZeroRow(matrix: Float32Array, start: number, dim: number): boolean {
  for (let i = start; i < start + dim; i++) if (matrix[i] !== 0) return false;
  return true;
}

/** A JSON object, as a frozen deep copy: what was checked is what will be saved. */
export function checkMetadata(value: unknown, name = "metadata"): Record<string, unknown> {
  if (value === undefined) return {};
  try {
    const copy: unknown = JSON.parse(JSON.stringify(value));
    if (typeof copy === "object" && copy !== null && !Array.isArray(copy)) {
      return deepFreeze(copy, name, mostLevels) as Record<string, unknown>;
    }
  } catch (cause) {
    if (cause instanceof RvqError) throw cause;
    throw new RvqError("INVALID_ARGUMENT", `${name}: expected a JSON object, got ${show(value)}`, { cause });
  }
  throw invalidArgument(name, "a JSON object", value);
}

/** Of metadata: what is nested deeper could be made and not be written, or the other way round, depending on the stack. */
const mostLevels = 500;

function deepFreeze(value: object, name: string, levels: number): object {
  if (levels === 0) throw invalidArgument(name, `at most ${mostLevels} levels`, "more");
  for (const inner of Object.values(value)) {
    if (typeof inner === "object" && inner !== null) deepFreeze(inner, name, levels - 1);
  }
  return Object.freeze(value);
}

/** `new Type(length)`, or a typed error where there is no memory for it. */
export function allocate<Result>(what: string, length: number, make: (length: number) => Result): Result {
  try {
    return make(length);
  } catch (cause) {
    throw new RvqError("OUT_OF_MEMORY", `cannot allocate ${length} elements for ${what}`, { cause });
  }
}

/**
 * Buffer, offset and length of a typed array, read once and past anything that a subclass overrides. Shared memory could
 * change under a check, detached memory is gone: both are refused.
 */
function ownMemory(name: string, view: ArrayBufferView): [buffer: ArrayBuffer, byteOffset: number, length: number] {
  const buffer = intrinsic.buffer.call(view) as ArrayBufferLike;
  const byteOffset = intrinsic.byteOffset.call(view) as number;
  const length = intrinsic.length.call(view) as number;
  if (types.isSharedArrayBuffer(buffer)) {
    throw invalidArgument(name, "memory of its own", "a view of a SharedArrayBuffer");
  }
  // A detached array, or one on a resizable buffer that shrank, looks like an empty one.
  if (length === 0 && (isDetached(buffer) || (buffer as { resizable?: boolean }).resizable === true)) {
    throw invalidArgument(name, "an array with memory", "a detached or shrunk array");
  }
  return [buffer as ArrayBuffer, byteOffset, length];
}

/** Making a view is the one test that every Node version has. */
function isDetached(buffer: ArrayBufferLike): boolean {
  try {
    new Uint8Array(buffer);
    return false;
  } catch {
    return true;
  }
}

const intrinsic = typedArrayGetters();

function typedArrayGetters() {
  const prototype: object = Object.getPrototypeOf(Uint8Array.prototype);
  const getter = (name: "buffer" | "byteOffset" | "length") => {
    const get = Object.getOwnPropertyDescriptor(prototype, name)?.get;
    if (get === undefined) throw new Error(`no %TypedArray%.prototype.${name}`);
    return get;
  };
  return { buffer: getter("buffer"), byteOffset: getter("byteOffset"), length: getter("length") };
}
