// Rows of float32 files: `.npy` arrays [rows][dim], or raw little-endian numbers, read by ranges.

import { endianness } from "node:os";
import { firstBadInput } from "../bad-input.js";
import { allocate, badInput } from "../check.js";
import { invalidArgument, RvqError } from "../errors.js";
import { npyHeadBytes, npyLayout } from "../interop/npy.js";
import { readNumbers } from "../interop/tensor.js";
import type { InputSource, SharedFolders, Side } from "./folders.js";

export interface Segment {
  readonly file: string;
  readonly firstRow: number;
  readonly rows: number;
}

interface RowFile {
  readonly source: InputSource;
  readonly rows: number;
  /** Of the first row. */
  readonly dataAt: number;
}

const float32 = { kind: "float", sizeBytes: 4, bigEndian: false } as const;

/** Reads rows of files that stay open until `close`. */
export class RowReader {
  private readonly files = new Map<string, RowFile>();

  constructor(
    private readonly folders: SharedFolders,
    private readonly side: Side,
    private readonly dim: number,
  ) {}

  /** How many rows a file has, and what changes when its bytes do. */
  async facts(file: string): Promise<{ rows: number; version: string }> {
    const { rows, source } = await this.open(file);
    return { rows, version: source.version ?? String(source.sizeBytes) };
  }

  /**
   * vectors[Σ rows][dim] of segments, one after the other.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, ZERO_VECTOR where zeros are refused, IO
   */
  async read(segments: readonly Segment[], refuseZero: boolean): Promise<Float32Array> {
    const { dim } = this;
    const count = segments.reduce((sum, { rows }) => sum + rows, 0);
    const vectors = allocate("rows", count * dim, (length) => new Float32Array(length));
    let at = 0;
    for (const { file, firstRow, rows } of segments) {
      const { source, rows: available, dataAt } = await this.open(file);
      if (firstRow + rows > available) {
        throw invalidArgument(file, `at least ${firstRow + rows} rows`, available);
      }
      const bytes = await source.read(dataAt + 4 * dim * firstRow, 4 * dim * rows);
      if (bytes.length !== 4 * dim * rows) throw new RvqError("IO", `cannot read ${file}: it ended early`);
      const part = numbersOf(bytes);
      const bad = firstBadInput(part, dim, refuseZero);
      if (bad !== null) throw badInput(file, bad, firstRow, part[bad.row * dim + bad.column]);
      vectors.set(part, at);
      at += part.length;
    }
    return vectors;
  }

  async close(): Promise<void> {
    const files = [...this.files.values()];
    this.files.clear();
    for (const { source } of files) await source.close?.();
  }

  private async open(file: string): Promise<RowFile> {
    const known = this.files.get(file);
    if (known !== undefined) return known;
    const source = await this.folders.open(this.side, file);
    try {
      const opened = { source, ...(await layout(file, source, this.dim)) };
      this.files.set(file, opened);
      return opened;
    } catch (error) {
      await source.close?.();
      throw error;
    }
  }
}

async function layout(file: string, source: InputSource, dim: number): Promise<{ rows: number; dataAt: number }> {
  if (!/\.npy$/i.test(file)) {
    const rows = source.sizeBytes / (4 * dim);
    if (!Number.isInteger(rows)) {
      throw invalidArgument(file, `raw float32 rows of ${dim} numbers, ${4 * dim} bytes each`, source.sizeBytes);
    }
    return { rows, dataAt: 0 };
  }
  const head = await source.read(0, Math.min(source.sizeBytes, npyHeadBytes));
  try {
    const { shape, type, dataAt } = npyLayout(head, source.sizeBytes);
    if (type.kind !== "float" || type.sizeBytes !== 4 || type.bigEndian) throw new Error("its numbers are not <f4");
    if (shape.length !== 2 || shape[1] !== dim) throw new Error(`its shape is (${shape.join(", ")})`);
    return { rows: shape[0], dataAt };
  } catch (cause) {
    const expected = `a .npy file of float32 [rows][${dim}]`;
    throw new RvqError("INVALID_ARGUMENT", `${file}: expected ${expected}: ${(cause as Error).message}`, { cause });
  }
}

/** A view where the machine can read the bytes as they are, else a copy. */
function numbersOf(bytes: Uint8Array): Float32Array {
  if (endianness() !== "LE" || bytes.byteOffset % 4 !== 0) return readNumbers(bytes, float32);
  return new Float32Array(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.length / 4);
}

/** Little-endian bytes of numbers: a view where the machine has them so. */
export function bytesOf(numbers: Float32Array | Uint16Array | Uint32Array): Uint8Array {
  const bytes = Buffer.from(numbers.buffer, numbers.byteOffset, numbers.byteLength);
  if (endianness() === "LE") return bytes;
  const copy = Buffer.from(bytes);
  return numbers.BYTES_PER_ELEMENT === 2 ? copy.swap16() : copy.swap32();
}
