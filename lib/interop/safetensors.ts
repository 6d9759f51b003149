// `.safetensors` files: named tensors behind a JSON header; every length, offset and shape is checked before it is used.

import { checkBytes, checkRequiredOptions } from "../check.js";
import { invalidArgument, RvqError } from "../errors.js";
import { checkTensor, elementCount, type NumberType, readNumbers, type Tensor } from "./tensor.js";

// Layout: uint64 header length, header { name: { dtype, shape, data_offsets: [begin, end] }, __metadata__: { text: text } }, data.
// Offsets count from the end of the header; the tensors fill the data without gaps or overlaps.

/** That of the reference implementation. */
const mostHeaderBytes = 100_000_000;

const types: Readonly<Record<string, Omit<NumberType, "bigEndian">>> = {
  F64: { kind: "float", sizeBytes: 8 },
  F32: { kind: "float", sizeBytes: 4 },
  F16: { kind: "float", sizeBytes: 2 },
  BF16: { kind: "bfloat", sizeBytes: 2 },
  I64: { kind: "signed", sizeBytes: 8 },
  I32: { kind: "signed", sizeBytes: 4 },
  I16: { kind: "signed", sizeBytes: 2 },
  I8: { kind: "signed", sizeBytes: 1 },
  U64: { kind: "unsigned", sizeBytes: 8 },
  U32: { kind: "unsigned", sizeBytes: 4 },
  U16: { kind: "unsigned", sizeBytes: 2 },
  U8: { kind: "unsigned", sizeBytes: 1 },
  BOOL: { kind: "unsigned", sizeBytes: 1 },
};

interface Entry {
  readonly type: NumberType;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** The tensors of a file. Their numbers are read when they are asked for, not before. */
export class Safetensors {
  private constructor(
    private readonly entries: ReadonlyMap<string, Entry>,
    /** What the file says under `__metadata__`. */
    readonly metadata: Readonly<Record<string, unknown>>,
  ) {}

  /** @throws RvqError INVALID_MODEL for anything that is no sound file; nothing larger than the input is allocated */
  static fromBytes(bytes: Uint8Array): Safetensors {
    const plain = checkBytes("bytes", bytes);
    const buffer = Buffer.from(plain.buffer, plain.byteOffset, plain.length);
    if (buffer.length < 8) throw damaged("at least 8 bytes", buffer.length);
    const headerBytes = Number(buffer.readBigUInt64LE(0));
    const most = Math.min(mostHeaderBytes, buffer.length - 8);
    if (headerBytes > most) throw damaged(`a header of at most ${most} bytes`, headerBytes);
    const { __metadata__: metadata = {}, ...tensors } = parseHeader(buffer.toString("utf8", 8, 8 + headerBytes));
    const data = buffer.subarray(8 + headerBytes);

    const entries = new Map<string, Entry>();
    const ranges: [begin: number, end: number][] = [];
    for (const [name, value] of Object.entries(tensors)) {
      const { entry, range } = readEntry(name, value, data);
      entries.set(name, entry);
      ranges.push(range);
    }
    let filled = 0;
    for (const [begin, end] of ranges.sort(([a, b], [c, d]) => a - c || b - d)) {
      if (begin !== filled) throw damaged(`a tensor from byte ${filled} on`, begin);
      filled = end;
    }
    if (filled !== data.length) throw damaged(`${data.length} bytes of tensors`, filled);
    return new Safetensors(entries, typeof metadata === "object" ? { ...metadata } : {});
  }

  /** The names, sorted. */
  get names(): string[] {
    return [...this.entries.keys()].sort();
  }

  has(name: string): boolean {
    return this.entries.has(name);
  }

  /** Numbers are rounded to float32. Throws `RvqError` INVALID_ARGUMENT for a name that is not there. */
  tensor(name: string): Tensor {
    const { shape, bytes, type } = this.entry(name);
    return { shape, data: readNumbers(bytes, type) };
  }

  shape(name: string): readonly number[] {
    return this.entry(name).shape;
  }

  private entry(name: string): Entry {
    const entry = this.entries.get(name);
    if (entry !== undefined) return entry;
    throw new RvqError("INVALID_ARGUMENT", `name: expected one of ${this.entries.size} tensors, got ${String(name)}`);
  }
}

/** The bytes of a `.safetensors` file with float32 tensors, in the order given. */
export function writeSafetensors(
  tensors: Readonly<Record<string, Tensor>>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  checkRequiredOptions("tensors", tensors);
  checkRequiredOptions("metadata", metadata);
  for (const [name, value] of Object.entries(metadata)) {
    if (typeof value !== "string") throw invalidArgument(`metadata.${name}`, "a string", value);
  }
  const checked = Object.entries(tensors).map(([name, tensor]) => {
    // Readers take the first for metadata; the second is no name of a property in JavaScript.
    if (name === "__metadata__" || name === "__proto__") throw invalidArgument("tensors", `no tensor ${name}`, name);
    return [name, checkTensor(name, tensor)] as const;
  });
  const header: Record<string, unknown> = Object.keys(metadata).length > 0 ? { __metadata__: metadata } : {};
  let offset = 0;
  for (const [name, { shape, data }] of checked) {
    header[name] = { dtype: "F32", shape, data_offsets: [offset, offset + 4 * data.length] };
    offset += 4 * data.length;
  }
  const json = Buffer.from(JSON.stringify(header), "utf8");
  // Spaces, so that the numbers are aligned.
  const headerBytes = Math.ceil(json.length / 8) * 8;
  const bytes = Buffer.alloc(8 + headerBytes + offset, " ");
  bytes.writeBigUInt64LE(BigInt(headerBytes), 0);
  json.copy(bytes, 8);
  let at = 8 + headerBytes;
  for (const [, { data }] of checked) for (const number of data) at = bytes.writeFloatLE(number, at);
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
}

function parseHeader(text: string): Record<string, unknown> {
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch (cause) {
    throw new RvqError("INVALID_MODEL", `safetensors: expected a header in JSON, got ${(cause as Error).message}`, {
      cause,
    });
  }
  if (typeof header === "object" && header !== null && !Array.isArray(header)) return header as Record<string, unknown>;
  throw damaged("a JSON object as header", text.slice(0, 40));
}

function readEntry(name: string, value: unknown, data: Uint8Array): { entry: Entry; range: [number, number] } {
  const what = `tensor ${JSON.stringify(name.slice(0, 100))}`;
  const fields = (typeof value === "object" && value !== null ? value : {}) as Record<string, unknown>;
  const { dtype, shape, data_offsets: offsets } = fields;
  const type = typeof dtype === "string" && Object.hasOwn(types, dtype) ? types[dtype] : undefined;
  if (type === undefined) throw damaged(`${what} of a type among ${Object.keys(types).join(", ")}`, dtype);
  const count = elementCount(shape);
  if (count === null) throw damaged(`${what} to have a shape`, JSON.stringify(shape));
  const [begin, end] = Array.isArray(offsets) && offsets.length === 2 ? (offsets as unknown[]) : [];
  const inside = Number.isSafeInteger(begin) && Number.isSafeInteger(end);
  if (!inside || (begin as number) < 0 || (end as number) > data.length || (begin as number) > (end as number)) {
    throw damaged(`${what} within ${data.length} bytes`, JSON.stringify(offsets));
  }
  const bytes = data.subarray(begin as number, end as number);
  if (bytes.length !== count * type.sizeBytes)
    throw damaged(`${what} of ${count * type.sizeBytes} bytes`, bytes.length);
  const entry = { type: { ...type, bigEndian: false }, shape: shape as readonly number[], bytes };
  return { entry, range: [begin as number, end as number] };
}

function damaged(expected: string, got: unknown): RvqError {
  return new RvqError("INVALID_MODEL", `safetensors: expected ${expected}, got ${String(got)}`);
}
