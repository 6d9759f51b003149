// Tensors of files of other programs: their types, and reading their numbers as float32.

import { allocate, checkFloat32, checkInteger } from "../check.js";
import { invalidArgument, RvqError } from "../errors.js";

/** Row-major numbers: data[shape[0]][shape[1]]… */
export interface Tensor {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** How numbers lie in a file; little-endian unless `bigEndian`. */
export interface NumberType {
  readonly kind: "float" | "bfloat" | "signed" | "unsigned";
  /** 1, 2, 4 or 8. */
  readonly sizeBytes: number;
  readonly bigEndian: boolean;
}

/** A tensor that a caller gives, to be written. */
export function checkTensor(name: string, value: unknown): Tensor {
  const { shape, data } = (typeof value === "object" && value !== null ? value : {}) as Partial<Tensor>;
  const plain = checkFloat32(`${name}.data`, data);
  if (!Array.isArray(shape)) throw invalidArgument(`${name}.shape`, "an array of sizes", shape);
  const sizes = shape.map((size, i) => checkInteger(`${name}.shape[${i}]`, size, 0, Number.MAX_SAFE_INTEGER));
  if (elementCount(sizes) !== plain.length) {
    throw invalidArgument(`${name}.shape`, `a shape of ${plain.length} elements`, sizes.join(" × "));
  }
  return { shape: sizes, data: plain };
}

/** Elements of a shape from a file; null for what is no shape, or one that no file could fill. */
export function elementCount(shape: unknown): number | null {
  // NumPy has no more than 64 axes.
  if (!Array.isArray(shape) || shape.length > 64) return null;
  let count = 1;
  for (const size of shape) {
    if (!Number.isSafeInteger(size) || size < 0) return null;
    count *= size;
    if (count > Number.MAX_SAFE_INTEGER) return null;
  }
  return count;
}

/** The numbers of bytes, whose length is a multiple of the type's size, rounded to float32. */
export function readNumbers(bytes: Uint8Array, { kind, sizeBytes, bigEndian }: NumberType): Float32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const numbers = allocate("a tensor", bytes.length / sizeBytes, (length) => new Float32Array(length));
  const read = reader(view, kind, sizeBytes, !bigEndian);
  for (let i = 0; i < numbers.length; i++) numbers[i] = read(i * sizeBytes);
  return numbers;
}

function reader(view: DataView, kind: NumberType["kind"], sizeBytes: number, little: boolean): (at: number) => number {
  switch (`${kind}${8 * sizeBytes}`) {
    case "float32":
      return (at) => view.getFloat32(at, little);
    case "float64":
      return (at) => view.getFloat64(at, little);
    case "float16":
      return (at) => half(view.getUint16(at, little));
    case "bfloat16":
      return (at) => bfloat(view.getUint16(at, little));
    case "signed8":
      return (at) => view.getInt8(at);
    case "signed16":
      return (at) => view.getInt16(at, little);
    case "signed32":
      return (at) => view.getInt32(at, little);
    case "signed64":
      return (at) => Number(view.getBigInt64(at, little));
    case "unsigned8":
      return (at) => view.getUint8(at);
    case "unsigned16":
      return (at) => view.getUint16(at, little);
    case "unsigned32":
      return (at) => view.getUint32(at, little);
    case "unsigned64":
      return (at) => Number(view.getBigUint64(at, little));
    default:
      throw new RvqError("INVALID_MODEL", `expected numbers of 8 to 64 bits, got ${kind} of ${8 * sizeBytes}`);
  }
}

/** IEEE 754 binary16. */
function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : Number.NaN;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * 2 ** (exponent - 25);
}

/** The upper half of a binary32. */
function bfloat(bits: number): number {
  scratch.setUint32(0, bits << 16);
  return scratch.getFloat32(0);
}

const scratch = new DataView(new ArrayBuffer(4));
