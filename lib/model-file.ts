// The model file `.rvqm`: a quantizer's codebooks, metric, weights and metadata, closed by a SHA-256 over all of it.
//
//   offset  bytes  content
//   0       4      "RVQM"
//   4       4      format version, 1            (integers are little-endian)
//   8       4      length H of the header
//   12      H      header: UTF-8 JSON { dim, metric, codebookSizes, weighted, metadata }, padded with spaces to 4 bytes
//   12+H    4·D    weights[D], float32, only where `weighted`
//   …              codebook 0 [K_0][D], codebook 1 [K_1][D], …, float32
//   end−32  32     SHA-256 of everything before

import { createHash } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { endianness } from "node:os";
import type { CodebookSpec } from "./backend.js";
import {
  checkBytes,
  checkCodebooks,
  checkInteger,
  checkMetadata,
  checkMetric,
  checkPath,
  checkWeights,
  limits,
} from "./check.js";
import { invalidArgument, RvqError } from "./errors.js";

export interface Model {
  readonly spec: CodebookSpec;
  readonly metadata: Readonly<Record<string, unknown>>;
}

const magic = "RVQM";
const version = 1;
const fixedBytes = 12;
const digestBytes = 32;

export function modelToBytes({ spec, metadata }: Model): Uint8Array {
  const header = {
    dim: spec.dim,
    metric: spec.metric,
    codebookSizes: spec.codebooks.map((codebook) => codebook.length / spec.dim),
    weighted: spec.weights !== null,
    metadata,
  };
  const json = Buffer.from(JSON.stringify(header), "utf8");
  const headerBytes = Math.ceil(json.length / 4) * 4;

  const arrays = spec.weights === null ? spec.codebooks : [spec.weights, ...spec.codebooks];
  const floatBytes = arrays.reduce((sum, array) => sum + array.byteLength, 0);
  const bytes = Buffer.alloc(fixedBytes + headerBytes + floatBytes + digestBytes, " ");
  bytes.write(magic, 0, "latin1");
  bytes.writeUInt32LE(version, 4);
  bytes.writeUInt32LE(headerBytes, 8);
  json.copy(bytes, fixedBytes);
  let offset = fixedBytes + headerBytes;
  for (const array of arrays) {
    bytes.set(littleEndian(array), offset);
    offset += array.byteLength;
  }
  bytes.set(createHash("sha256").update(bytes.subarray(0, offset)).digest(), offset);
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
}

/**
 * @param name what to call the source in an error: a path, or "bytes"
 * @throws RvqError INVALID_MODEL for anything that is not a whole, undamaged model; nothing larger than the input is allocated
 */
export function modelFromBytes(name: string, bytes: Uint8Array): Model {
  const plain = checkBytes(name, bytes);
  const buffer = Buffer.from(plain.buffer, plain.byteOffset, plain.length);
  const damaged = (expected: string, got: unknown) =>
    new RvqError("INVALID_MODEL", `${name}: expected ${expected}, got ${String(got)}`);

  // Envelope: magic, version, digest.
  if (buffer.length < fixedBytes + digestBytes) throw damaged("a model file of at least 44 bytes", buffer.length);
  if (buffer.toString("latin1", 0, 4) !== magic) {
    throw damaged(`a model file that starts with "${magic}"`, JSON.stringify(buffer.toString("latin1", 0, 4)));
  }
  if (buffer.readUInt32LE(4) !== version) throw damaged(`format version ${version}`, buffer.readUInt32LE(4));
  const end = buffer.length - digestBytes;
  if (!createHash("sha256").update(buffer.subarray(0, end)).digest().equals(buffer.subarray(end))) {
    throw damaged("a matching SHA-256 at the end", "another one: the file is truncated or damaged");
  }
  const headerBytes = buffer.readUInt32LE(8);
  if (headerBytes > end - fixedBytes) throw damaged(`a header of at most ${end - fixedBytes} bytes`, headerBytes);

  // Header, then the floats it promises, which must fill the rest exactly. A digest is no proof of good intent.
  try {
    const header = checkMetadata(JSON.parse(buffer.toString("utf8", fixedBytes, fixedBytes + headerBytes)));
    const dim = checkInteger("dim", header.dim, 1, limits.dim);
    const metric = checkMetric(header.metric);
    const sizes = checkSizes(header.codebookSizes);
    const weighted = header.weighted === true;
    const floats = (sizes.reduce((sum, size) => sum + size, 0) + (weighted ? 1 : 0)) * dim;
    const available = end - fixedBytes - headerBytes;
    if (floats * 4 !== available) throw damaged(`${floats * 4} bytes of float32`, available);

    let offset = fixedBytes + headerBytes;
    const read = (count: number): Float32Array => {
      const array = new Float32Array(count);
      new Uint8Array(array.buffer).set(buffer.subarray(offset, offset + 4 * count));
      offset += 4 * count;
      if (endianness() === "BE") Buffer.from(array.buffer).swap32();
      return array;
    };
    const weights = checkWeights(weighted ? read(dim) : null, dim, metric);
    const codebooks = checkCodebooks(
      sizes.map((size) => read(size * dim)),
      dim,
      metric,
    );
    return { spec: { dim, metric, weights, codebooks }, metadata: checkMetadata(header.metadata) };
  } catch (cause) {
    if (cause instanceof RvqError && cause.code === "INVALID_MODEL") throw cause;
    throw new RvqError("INVALID_MODEL", `${name}: ${(cause as Error).message}`, { cause });
  }
}

export async function readModel(path: string | URL): Promise<Model> {
  const { name, bytes } = await readModelBytes(path);
  return modelFromBytes(name, bytes);
}

/** The bytes of a model file, and what to call it in an error. */
export async function readModelBytes(
  path: string | URL,
): Promise<{ readonly name: string; readonly bytes: Uint8Array }> {
  const name = checkPath("path", path);
  try {
    // A pipe or a device may have no end.
    if (!(await stat(name)).isFile()) throw new Error("it is not a file");
    return { name, bytes: await readFile(name) };
  } catch (cause) {
    throw new RvqError("IO", `cannot read ${name}: ${(cause as Error).message}`, { cause });
  }
}

/** SHA-256 (hex) of what decides codes and reconstructions: dimension, metric, weights and codebooks, not metadata. */
export function modelId({ dim, metric, weights, codebooks }: CodebookSpec): string {
  const hash = createHash("sha256");
  const sizes = codebooks.map((codebook) => codebook.length / dim);
  hash.update(JSON.stringify({ dim, metric, codebookSizes: sizes, weighted: weights !== null }));
  if (weights !== null) hash.update(littleEndian(weights));
  for (const codebook of codebooks) hash.update(littleEndian(codebook));
  return hash.digest("hex");
}

function checkSizes(value: unknown): number[] {
  if (!Array.isArray(value)) throw invalidArgument("codebookSizes", "an array", value);
  checkInteger("codebookSizes.length", value.length, 1, limits.stages);
  return value.map((size, stage) => checkInteger(`codebookSizes[${stage}]`, size, 1, limits.codebookSize));
}

/** The array's memory as little-endian bytes: a view where the machine agrees, else a swapped copy. */
function littleEndian(array: Float32Array): Uint8Array {
  const bytes = Buffer.from(array.buffer, array.byteOffset, array.byteLength);
  return endianness() === "LE" ? bytes : Buffer.from(bytes).swap32();
}
