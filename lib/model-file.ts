// The model of a ResidualQuantizer as bytes, in the envelope of lib/sealed-bytes.ts.
//
// Header { dim, metric, codebookSizes, weighted, metadata }, padded to 4 bytes; then weights[D], float32, only where `weighted`; then
// codebook 0 [K_0][D], codebook 1 [K_1][D], …, float32.

import { createHash } from "node:crypto";
import { endianness } from "node:os";
import type { CodebookSpec } from "./backend.js";
import { checkCodebooks, checkInteger, checkMetadata, checkMetric, checkWeights, limits } from "./check.js";
import { invalidArgument } from "./errors.js";
import { openBytes, readSealedFile, type SealedFormat, sealBytes } from "./sealed-bytes.js";

export interface Model {
  readonly spec: CodebookSpec;
  readonly metadata: Readonly<Record<string, unknown>>;
}

const format: SealedFormat = {
  magic: "RVQM",
  version: 1,
  what: "a model file",
  code: "INVALID_MODEL",
  headerMultiple: 4,
};

export function modelToBytes({ spec, metadata }: Model): Uint8Array {
  const { dim, metric, weights, codebooks } = spec;
  const codebookSizes = codebooks.map((codebook) => codebook.length / dim);
  const header = { dim, metric, codebookSizes, weighted: weights !== null, metadata };
  return sealBytes(format, header, weights === null ? codebooks : [weights, ...codebooks]);
}

/**
 * @param name what to call the source in an error: a path, or "bytes"
 * @throws RvqError INVALID_MODEL for anything that is not a whole, undamaged model; nothing larger than the input is allocated
 */
export function modelFromBytes(name: string, bytes: Uint8Array): Model {
  return openBytes(format, name, bytes, (header, arrays) => {
    const dim = checkInteger("dim", header.dim, 1, limits.dim);
    const metric = checkMetric(header.metric);
    const sizes = checkSizes(header.codebookSizes);
    const weighted = header.weighted === true;
    const rows = sizes.reduce((sum, size) => sum + size, weighted ? 1 : 0);
    arrays.expect(4 * rows * dim, "float32");

    const weights = checkWeights(weighted ? arrays.float32(dim) : null, dim, metric);
    const codebooks = checkCodebooks(
      sizes.map((size) => arrays.float32(size * dim)),
      dim,
      metric,
    );
    return { spec: { dim, metric, weights, codebooks }, metadata: checkMetadata(header.metadata) };
  });
}

export async function readModel(path: string | URL): Promise<Model> {
  const { name, bytes } = await readSealedFile(path);
  return modelFromBytes(name, bytes);
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
