// NumPy's `.npy` files: one array each, versions 1 to 3 of the format.

import { type Codes, checkBytes } from "../check.js";
import { RvqError } from "../errors.js";
import { checkTensor, elementCount, type NumberType, readNumbers, type Tensor } from "./tensor.js";

const magic = Buffer.from("\x93NUMPY", "latin1");

/** NumPy pads so that the data begins at a multiple of this. */
const alignment = 64;

/**
 * The array of a `.npy` file as float32: floating-point numbers of 16 to 64 bits and integers, in either byte order.
 * @throws RvqError INVALID_MODEL for anything else, objects (pickles) and arrays in Fortran order among it
 */
export function readNpy(bytes: Uint8Array): Tensor {
  const plain = checkBytes("bytes", bytes);
  const { shape, type, dataAt } = npyLayout(plain, plain.length);
  return { shape, data: readNumbers(plain.subarray(dataAt), type) };
}

/** What a `.npy` file holds, and at which byte its numbers begin. */
export interface NpyLayout {
  readonly shape: readonly number[];
  readonly type: NumberType;
  readonly dataAt: number;
}

/** Longer than any header of version 1; who reads only the head of a file reads so much. */
export const npyHeadBytes = 2 ** 16 + 16;

/** The layout of a file of `sizeBytes` bytes by its head, which holds the header. */
export function npyLayout(head: Uint8Array, sizeBytes: number): NpyLayout {
  const buffer = Buffer.from(head.buffer, head.byteOffset, head.length);
  if (buffer.length < 12 || !magic.equals(buffer.subarray(0, magic.length))) {
    throw damaged("a file that begins with \\x93NUMPY", "one that begins otherwise, or is shorter than 12 bytes");
  }
  const version = buffer[6];
  if (version < 1 || version > 3) throw damaged("version 1, 2 or 3", version);
  const headerAt = version === 1 ? 10 : 12;
  const headerBytes = version === 1 ? buffer.readUInt16LE(8) : buffer.readUInt32LE(8);
  if (headerBytes > buffer.length - headerAt)
    throw damaged(`a header of at most ${buffer.length - headerAt} bytes`, headerBytes);
  const header = buffer.toString("utf8", headerAt, headerAt + headerBytes);

  const type = numberType(field(header, "descr", /'([^']*)'|"([^"]*)"/));
  if (field(header, "fortran_order", /(True|False)/) !== "False") throw damaged("row-major order", "Fortran order");
  const sizes = field(header, "shape", /\(([\d,\s]*)\)/)
    .split(",")
    .map((part) => part.trim());
  // "(3,)" has a comma more than sizes.
  const shape = sizes.filter((size) => size !== "").map(Number);
  const count = elementCount(shape);
  const dataAt = headerAt + headerBytes;
  if (count === null || count * type.sizeBytes !== sizeBytes - dataAt) {
    throw damaged(`${sizeBytes - dataAt} bytes of data to have the shape`, `(${shape.join(", ")})`);
  }
  return { shape, type, dataAt };
}

/** The bytes of a `.npy` file with float32 numbers. */
export function writeNpy(tensor: Tensor): Uint8Array {
  const { shape, data } = checkTensor("tensor", tensor);
  const { bytes, dataAt } = npyFile("<f4", shape, 4 * data.length);
  for (let i = 0; i < data.length; i++) bytes.writeFloatLE(data[i], dataAt + 4 * i);
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** The bytes of a `.npy` file with codes[count][stages], integers of 16 or 32 bits. */
export function codesToNpy({ count, stages, data }: Codes): Uint8Array {
  const width = data.BYTES_PER_ELEMENT;
  const { bytes, dataAt } = npyFile(`<u${width}`, [count, stages], data.byteLength);
  for (let i = 0; i < data.length; i++) bytes.writeUIntLE(data[i], dataAt + width * i, width);
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** A file with its header and room for the numbers. */
function npyFile(descr: string, shape: readonly number[], dataBytes: number): { bytes: Buffer; dataAt: number } {
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`;
  const text = `{'descr': '${descr}', 'fortran_order': False, 'shape': ${tuple}, }`;
  const headerBytes = Math.ceil((10 + text.length + 1) / alignment) * alignment - 10;
  const bytes = Buffer.alloc(10 + headerBytes + dataBytes, " ");
  magic.copy(bytes);
  bytes.writeUInt16LE(1, 6);
  bytes.writeUInt16LE(headerBytes, 8);
  bytes.write(`${text.padEnd(headerBytes - 1)}\n`, 10, "latin1");
  return { bytes, dataAt: 10 + headerBytes };
}

/** A field of the header, which is a dictionary as Python prints it. */
function field(header: string, name: string, value: RegExp): string {
  const match = new RegExp(`['"]${name}['"]\\s*:\\s*${value.source}`).exec(header);
  const found = match?.slice(1).find((group) => group !== undefined);
  if (found === undefined) throw damaged(`a header with ${name}`, JSON.stringify(header.slice(0, 100)));
  return found;
}

function numberType(descr: string): NumberType {
  const match = /^([<>|=])([fiu])([1248])$/.exec(descr);
  const kinds = { f: "float", i: "signed", u: "unsigned" } as const;
  const kind = match === null ? undefined : kinds[match[2] as keyof typeof kinds];
  if (match === null || kind === undefined || descr.endsWith("f1")) {
    throw damaged("numbers of type f2, f4, f8, i1 … i8 or u1 … u8", JSON.stringify(descr));
  }
  return { kind, sizeBytes: Number(match[3]), bigEndian: match[1] === ">" };
}

function damaged(expected: string, got: unknown): RvqError {
  return new RvqError("INVALID_MODEL", `npy: expected ${expected}, got ${String(got)}`);
}
