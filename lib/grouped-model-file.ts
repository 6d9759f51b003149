// The model of a GroupedQuantizer as bytes: the model of each group (model-file.ts), closed by a SHA-256 over all of it.
//
//   offset  bytes  content
//   0       4      "RVQG"
//   4       4      format version, 1            (integers are little-endian)
//   8       4      length H of the header
//   12      H      header: UTF-8 JSON { modelBytes: [of each group], metadata }, padded with spaces to 4 bytes
//   12+H    …      the models of group 0, 1, …
//   end−32  32     SHA-256 of everything before

import { createHash } from "node:crypto";
import type { CodebookSpec } from "./backend.js";
import { checkBytes, checkInteger, checkMetadata, limits } from "./check.js";
import { invalidArgument, RvqError } from "./errors.js";
import { modelFromBytes, modelToBytes } from "./model-file.js";

export interface GroupedModel {
  /** One a group: of the same metric and number of stages, all with weights or none. */
  readonly specs: readonly CodebookSpec[];
  readonly metadata: Readonly<Record<string, unknown>>;
}

const magic = "RVQG";
const version = 1;
const fixedBytes = 12;
const digestBytes = 32;

export function groupedModelToBytes({ specs, metadata }: GroupedModel): Uint8Array {
  const models = specs.map((spec) => modelToBytes({ spec, metadata: {} }));
  const header = { modelBytes: models.map((model) => model.length), metadata };
  const json = Buffer.from(JSON.stringify(header), "utf8");
  const headerBytes = Math.ceil(json.length / 4) * 4;
  const bytes = Buffer.alloc(
    models.reduce((sum, model) => sum + model.length, fixedBytes + headerBytes + digestBytes),
    " ",
  );
  bytes.write(magic, 0, "latin1");
  bytes.writeUInt32LE(version, 4);
  bytes.writeUInt32LE(headerBytes, 8);
  json.copy(bytes, fixedBytes);
  let offset = fixedBytes + headerBytes;
  for (const model of models) {
    bytes.set(model, offset);
    offset += model.length;
  }
  bytes.set(digest(bytes.subarray(0, offset)), offset);
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
}

/**
 * @param name what to call the source in an error: a path, or "bytes"
 * @throws RvqError INVALID_MODEL for anything that is not a whole, undamaged model
 */
export function groupedModelFromBytes(name: string, bytes: Uint8Array): GroupedModel {
  const plain = checkBytes(name, bytes);
  const buffer = Buffer.from(plain.buffer, plain.byteOffset, plain.length);
  const damaged = (expected: string, got: unknown) =>
    new RvqError("INVALID_MODEL", `${name}: expected ${expected}, got ${String(got)}`);
  if (buffer.length < fixedBytes + digestBytes) throw damaged("a grouped model of at least 44 bytes", buffer.length);
  if (buffer.toString("latin1", 0, 4) !== magic) {
    throw damaged(`a grouped model that starts with "${magic}"`, JSON.stringify(buffer.toString("latin1", 0, 4)));
  }
  if (buffer.readUInt32LE(4) !== version) throw damaged(`format version ${version}`, buffer.readUInt32LE(4));
  const end = buffer.length - digestBytes;
  if (!digest(buffer.subarray(0, end)).equals(buffer.subarray(end))) {
    throw damaged("a matching SHA-256 at the end", "another one: the file is truncated or damaged");
  }
  const headerBytes = buffer.readUInt32LE(8);
  if (headerBytes > end - fixedBytes) throw damaged(`a header of at most ${end - fixedBytes} bytes`, headerBytes);

  // A digest is no proof of good intent.
  try {
    const header = checkMetadata(JSON.parse(buffer.toString("utf8", fixedBytes, fixedBytes + headerBytes)));
    let offset = fixedBytes + headerBytes;
    const specs = checkLengths(header.modelBytes).map((length, group) => {
      if (length > end - offset) throw damaged(`a model of group ${group} within the file`, `${length} bytes`);
      offset += length;
      return modelFromBytes(`${name}, group ${group}`, plain.subarray(offset - length, offset)).spec;
    });
    if (offset !== end) throw damaged("nothing after the models", `${end - offset} bytes`);
    checkAlike(specs);
    return { specs, metadata: checkMetadata(header.metadata) };
  } catch (cause) {
    if (cause instanceof RvqError && cause.code === "INVALID_MODEL") throw cause;
    throw new RvqError("INVALID_MODEL", `${name}: ${(cause as Error).message}`, { cause });
  }
}

/** Groups of one quantizer have the same metric, as many stages, and all of them weights or none; together at most dim. */
export function checkAlike(specs: readonly CodebookSpec[]): void {
  const [first] = specs;
  for (const [group, { metric, weights, codebooks }] of specs.entries()) {
    const stages = codebooks.length;
    if (stages !== first.codebooks.length) {
      throw invalidArgument(`codebooks[${group}]`, `${first.codebooks.length} stages, as in group 0`, stages);
    }
    if (metric !== first.metric) throw invalidArgument(`group ${group}`, `metric "${first.metric}"`, metric);
    if ((weights === null) !== (first.weights === null)) {
      throw invalidArgument(`group ${group}`, "weights in all groups or in none", weights);
    }
  }
  checkInteger(
    "dim",
    specs.reduce((sum, { dim }) => sum + dim, 0),
    1,
    limits.dim,
  );
}

function checkLengths(value: unknown): number[] {
  if (!Array.isArray(value)) throw invalidArgument("modelBytes", "an array", value);
  checkInteger("modelBytes.length", value.length, 1, limits.groups);
  return Array.from(value, (length: unknown, group) =>
    checkInteger(`modelBytes[${group}]`, length, 0, Number.MAX_SAFE_INTEGER),
  );
}

function digest(bytes: Uint8Array): Buffer {
  return createHash("sha256").update(bytes).digest();
}
