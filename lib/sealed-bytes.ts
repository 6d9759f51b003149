// The envelope of models, checkpoints and statistics: a magic, a version, a JSON header, arrays of numbers, and a SHA-256 over all of it.
//
//   offset  bytes  content
//   0       4      magic                        (ASCII)
//   4       4      format version               (integers are little-endian)
//   8       4      length H of the header
//   12      H      header: UTF-8 JSON, of some formats padded with spaces
//   12+H    …      arrays, one after the other, little-endian
//   end−32  32     SHA-256 of everything before

import { createHash } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { endianness } from "node:os";
import { checkBytes, checkPath } from "./check.js";
import { RvqError, type RvqErrorCode } from "./errors.js";

export interface SealedFormat {
  /** Four letters. */
  readonly magic: string;
  readonly version: number;
  /** What it is called in errors, such as "a checkpoint". */
  readonly what: string;
  readonly code: RvqErrorCode;
  /** The header is padded to a multiple of so many bytes. Default 1: not at all. */
  readonly headerMultiple?: number;
}

type NumberArray = Float32Array | Float64Array | Int32Array | Uint8Array;

const fixedBytes = 12;
const digestBytes = 32;

export function sealBytes(format: SealedFormat, header: object, arrays: readonly NumberArray[]): Uint8Array {
  const json = padded(Buffer.from(JSON.stringify(header), "utf8"), format.headerMultiple ?? 1);
  const arrayBytes = arrays.reduce((sum, array) => sum + array.byteLength, 0);
  const bytes = Buffer.alloc(fixedBytes + json.length + arrayBytes + digestBytes);
  bytes.write(format.magic, 0, "latin1");
  bytes.writeUInt32LE(format.version, 4);
  bytes.writeUInt32LE(json.length, 8);
  json.copy(bytes, fixedBytes);
  let offset = fixedBytes + json.length;
  for (const array of arrays) {
    bytes.set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength), offset);
    toLittleEndian(bytes.subarray(offset, offset + array.byteLength), array.BYTES_PER_ELEMENT);
    offset += array.byteLength;
  }
  bytes.set(createHash("sha256").update(bytes.subarray(0, offset)).digest(), offset);
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
}

/**
 * What `read` makes of the header and the arrays of sealed bytes.
 *
 * `read` checks the header first, then says how long the arrays are in all, which must be what is there, and only then takes them:
 * nothing larger than the input is ever allocated. A digest is no proof of good intent: `read` checks what it takes.
 * @param name what to call the source in an error: a path, or "bytes"
 * @throws RvqError with the format's code for anything that is not whole, undamaged and accepted by `read`
 */
export function openBytes<Result>(
  format: SealedFormat,
  name: string,
  bytes: Uint8Array,
  read: (header: Readonly<Record<string, unknown>>, arrays: SealedArrays) => Result,
): Result {
  const plain = checkBytes(name, bytes);
  const buffer = Buffer.from(plain.buffer, plain.byteOffset, plain.length);
  const damaged = (expected: string, got: unknown) =>
    new RvqError(format.code, `${name}: expected ${expected}, got ${String(got)}`);

  if (buffer.length < fixedBytes + digestBytes) throw damaged(`${format.what} of at least 44 bytes`, buffer.length);
  const magic = buffer.toString("latin1", 0, 4);
  if (magic !== format.magic) {
    throw damaged(`${format.what}, which starts with "${format.magic}"`, JSON.stringify(magic));
  }
  const version = buffer.readUInt32LE(4);
  if (version !== format.version) throw damaged(`format version ${format.version}`, version);
  const end = buffer.length - digestBytes;
  if (!createHash("sha256").update(buffer.subarray(0, end)).digest().equals(buffer.subarray(end))) {
    throw damaged("a matching SHA-256 at the end", "another one: the bytes are truncated or damaged");
  }
  const headerBytes = buffer.readUInt32LE(8);
  if (headerBytes > end - fixedBytes) throw damaged(`a header of at most ${end - fixedBytes} bytes`, headerBytes);

  try {
    const header: unknown = JSON.parse(buffer.toString("utf8", fixedBytes, fixedBytes + headerBytes));
    if (typeof header !== "object" || header === null || Array.isArray(header)) {
      throw damaged("a JSON object as header", typeof header);
    }
    return read(header as Record<string, unknown>, new SealedArrays(buffer.subarray(fixedBytes + headerBytes, end)));
  } catch (cause) {
    if (cause instanceof RvqError && cause.code === format.code) throw cause;
    throw new RvqError(format.code, `${name}: ${(cause as Error).message}`, { cause });
  }
}

/** The bytes of a file, and its name for `openBytes`. */
export async function readSealedFile(path: string | URL): Promise<{ name: string; bytes: Uint8Array }> {
  const name = checkPath("path", path);
  try {
    // A pipe or a device may have no end.
    if (!(await stat(name)).isFile()) throw new Error("it is not a file");
    return { name, bytes: await readFile(name) };
  } catch (cause) {
    throw new RvqError("IO", `cannot read ${name}: ${(cause as Error).message}`, { cause });
  }
}

/** The arrays of sealed bytes, taken in their order as copies. */
export class SealedArrays {
  private offset = 0;

  constructor(private readonly bytes: Uint8Array) {}

  /** Throws unless the arrays are exactly so long. */
  expect(totalBytes: number, what = "arrays"): void {
    if (totalBytes !== this.bytes.length) {
      throw new Error(`expected ${totalBytes} bytes of ${what}, as the header says, got ${this.bytes.length}`);
    }
  }

  float32(length: number): Float32Array {
    return this.take(new Float32Array(length));
  }

  float64(length: number): Float64Array {
    return this.take(new Float64Array(length));
  }

  int32(length: number): Int32Array {
    return this.take(new Int32Array(length));
  }

  uint8(length: number): Uint8Array {
    return this.take(new Uint8Array(length));
  }

  private take<Numbers extends NumberArray>(array: Numbers): Numbers {
    const bytes = new Uint8Array(array.buffer);
    bytes.set(this.bytes.subarray(this.offset, this.offset + bytes.length));
    toLittleEndian(bytes, array.BYTES_PER_ELEMENT);
    this.offset += bytes.length;
    return array;
  }
}

function padded(json: Buffer, multiple: number): Buffer {
  return Buffer.concat([json, Buffer.alloc((multiple - (json.length % multiple)) % multiple, " ")]);
}

/** Between the machine's order and little-endian: the same swap both ways. */
function toLittleEndian(bytes: Uint8Array, width: number): void {
  if (endianness() === "LE" || width === 1) return;
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (width === 8) buffer.swap64();
  else buffer.swap32();
}
