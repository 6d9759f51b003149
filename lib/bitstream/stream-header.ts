// The header of a `.rvq` file: by which model, at what rate, for whom; docs/format.md is the specification.

import { checkBytes, checkInteger, checkMetadata, limits } from "../check.js";
import { invalidArgument, RvqError } from "../errors.js";
import { checkCodebookSizes } from "../pack-layout.js";
import { type CodeTables, checkTables, tablesFromBytes, tablesSizeBytes, tablesToBytes } from "./code-tables.js";
import { crc32c } from "./crc32c.js";

/** What is the same for all codes of a file. */
export interface StreamHeader {
  /** Hex id of the model (`quantizer.id`) whose codes these are. */
  readonly modelId: string;
  /** K_s of each stored stage. */
  readonly codebookSizes: readonly number[];
  /** Frames (vectors) a second; null: they have no rate. */
  readonly frameRate: number | null;
  /** A JSON object of the writer's. */
  readonly metadata: Readonly<Record<string, unknown>>;
  /** The tables of sections coded as "static"; null: there are none. */
  readonly tables: CodeTables | null;
}

/** 0x89 and line ends, as in PNG: what mistakes the file for text breaks it where it is seen at once. */
export const fileMagic = Buffer.from("\x89RVQ\r\n\x1a\n", "latin1");
const version = 1;

// Offsets of the fixed fields; the codebook sizes follow them, then metadata, tables, and a CRC32C of everything before.
const at = { version: 8, stages: 10, length: 12, modelId: 16, frameRate: 48, metadata: 56, tables: 60 } as const;
export const fixedHeaderBytes = 64;

/** What a reader has to hold in memory at most: 1 MiB of metadata, tables of 64 codebooks of 65536 codewords. */
export const mostMetadataBytes = 2 ** 20;
const mostTablesBytes = 2 ** 23;
export const mostHeaderBytes = fixedHeaderBytes + 4 * limits.stages + mostMetadataBytes + mostTablesBytes + 4;

/** A header from what a caller gives. */
export function checkHeader(value: StreamHeader): StreamHeader {
  const modelId: unknown = value.modelId;
  if (typeof modelId !== "string" || !/^[0-9a-f]{64}$/.test(modelId)) {
    throw invalidArgument("modelId", "64 hexadecimal digits", modelId);
  }
  const codebookSizes = checkCodebookSizes(value.codebookSizes);
  checkInteger("codebookSizes.length", codebookSizes.length, 1, limits.stages);
  const frameRate: unknown = value.frameRate;
  if (frameRate !== null && !isFrameRate(frameRate)) {
    throw invalidArgument("frameRate", "a positive number, or null", frameRate);
  }
  const metadata = checkMetadata(value.metadata);
  const metadataBytes = Buffer.byteLength(JSON.stringify(metadata));
  if (metadataBytes > mostMetadataBytes) {
    throw invalidArgument("metadata", `at most ${mostMetadataBytes} bytes of JSON`, metadataBytes);
  }
  const tables = value.tables === null ? null : checkTables(value.tables, codebookSizes);
  if (tables !== null && tablesSizeBytes(codebookSizes) > mostTablesBytes) {
    throw invalidArgument("tables", `at most ${mostTablesBytes} bytes of tables`, tablesSizeBytes(codebookSizes));
  }
  return { modelId, codebookSizes, frameRate, metadata, tables };
}

/** The bytes of a checked header. */
export function headerToBytes({ modelId, codebookSizes, frameRate, metadata, tables }: StreamHeader): Uint8Array {
  const json = Buffer.from(JSON.stringify(metadata), "utf8");
  const tableBytes = tables === null ? new Uint8Array(0) : tablesToBytes(tables);
  const stages = codebookSizes.length;
  const bytes = Buffer.alloc(fixedHeaderBytes + 4 * stages + json.length + tableBytes.length + 4);
  fileMagic.copy(bytes);
  bytes.writeUInt16LE(version, at.version);
  bytes.writeUInt16LE(stages, at.stages);
  bytes.writeUInt32LE(bytes.length, at.length);
  bytes.write(modelId, at.modelId, "hex");
  bytes.writeDoubleLE(frameRate ?? 0, at.frameRate);
  bytes.writeUInt32LE(json.length, at.metadata);
  bytes.writeUInt32LE(tableBytes.length, at.tables);
  for (const [stage, size] of codebookSizes.entries()) bytes.writeUInt32LE(size, fixedHeaderBytes + 4 * stage);
  json.copy(bytes, fixedHeaderBytes + 4 * stages);
  bytes.set(tableBytes, bytes.length - 4 - tableBytes.length);
  bytes.writeUInt32LE(crc32c(bytes.subarray(0, -4)), bytes.length - 4);
  return bytes;
}

/** The length that a header's first `fixedHeaderBytes` bytes claim, or the error for bytes that begin no header. */
export function headerLength(name: string, head: Uint8Array): number {
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.length);
  if (!isRvq(bytes)) throw damaged(name, "a file that begins as .rvq", "one that begins otherwise");
  if (bytes.length < fixedHeaderBytes)
    throw damaged(name, `a header of ${fixedHeaderBytes} bytes and more`, bytes.length);
  const found = bytes.readUInt16LE(at.version);
  if (found !== version) throw damaged(name, `format version ${version}`, found);
  const length = bytes.readUInt32LE(at.length);
  if (length < fixedHeaderBytes + 8 || length > mostHeaderBytes) {
    throw damaged(name, `a header of ${fixedHeaderBytes + 8} to ${mostHeaderBytes} bytes`, length);
  }
  return length;
}

/** Reads a whole header. Throws `RvqError` INVALID_STREAM for any other bytes. */
export function headerFromBytes(name: string, source: Uint8Array): StreamHeader {
  const plain = checkBytes(name, source);
  const bytes = Buffer.from(plain.buffer, plain.byteOffset, plain.length);
  const length = headerLength(name, bytes);
  if (length !== bytes.length) throw damaged(name, `a header of ${length} bytes`, bytes.length);
  if (crc32c(bytes.subarray(0, -4)) !== bytes.readUInt32LE(length - 4)) {
    throw damaged(name, "a header that fits its CRC32C", "a damaged one");
  }
  const stages = bytes.readUInt16LE(at.stages);
  const metadataBytes = bytes.readUInt32LE(at.metadata);
  const tablesBytes = bytes.readUInt32LE(at.tables);
  const expected = fixedHeaderBytes + 4 * stages + metadataBytes + tablesBytes + 4;
  if (stages === 0 || expected !== length) throw damaged(name, `a header of ${expected} bytes`, length);

  // A checksum is no proof of good intent.
  try {
    const codebookSizes = Array.from({ length: stages }, (_, s) => bytes.readUInt32LE(fixedHeaderBytes + 4 * s));
    checkCodebookSizes(codebookSizes);
    if (tablesBytes > 0 && tablesBytes !== tablesSizeBytes(codebookSizes)) {
      throw damaged(name, `${tablesSizeBytes(codebookSizes)} bytes of tables`, tablesBytes);
    }
    const tablesAt = length - 4 - tablesBytes;
    const metadata: unknown = JSON.parse(bytes.toString("utf8", fixedHeaderBytes + 4 * stages, tablesAt));
    const frameRate = bytes.readDoubleLE(at.frameRate);
    return checkHeader({
      modelId: bytes.toString("hex", at.modelId, at.modelId + 32),
      codebookSizes,
      frameRate: frameRate === 0 ? null : frameRate,
      metadata: metadata as Record<string, unknown>,
      tables: tablesBytes === 0 ? null : tablesFromBytes(bytes.subarray(tablesAt, length - 4), codebookSizes),
    });
  } catch (cause) {
    if (cause instanceof RvqError && cause.code === "INVALID_STREAM") throw cause;
    throw new RvqError("INVALID_STREAM", `${name}: ${(cause as Error).message}`, { cause });
  }
}

/** The CRC32C that ends a header; chunks carry it to show that they belong to it. */
export function headerTag(header: Uint8Array): number {
  return new DataView(header.buffer, header.byteOffset, header.length).getUint32(header.length - 4, true);
}

/** Whether a file that begins with these bytes is a `.rvq` file. */
export function isRvq(head: Uint8Array): boolean {
  return head.length >= fileMagic.length && fileMagic.equals(head.subarray(0, fileMagic.length));
}

function isFrameRate(value: unknown): value is number {
  return typeof value === "number" && value > 0 && value < Infinity;
}

/** `name: expected …, got …` as INVALID_STREAM. */
export function damaged(name: string, expected: string, got: unknown): RvqError {
  return new RvqError("INVALID_STREAM", `${name}: expected ${expected}, got ${String(got)}`);
}
