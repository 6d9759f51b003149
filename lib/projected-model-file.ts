// The model of a ProjectedQuantizer as bytes, in the envelope of lib/sealed-bytes.ts.
//
// Header { dim, metric, arrangement, parts, metadata }, padded to 4 bytes; of each part { dim, codebookSizes, input, output }, a
// projection being null or { bias: whether it has one }. Then of part 0, 1, …, all float32: the weights of the input [dim of the
// part][dim] and its bias, codebook 0, 1, …, the weights of the output [dim][dim of the part] and its bias.

import { createHash } from "node:crypto";
import { endianness } from "node:os";
import type { Projection } from "./backend.js";
import { checkInteger, checkMetadata, checkMetric, limits } from "./check.js";
import { invalidArgument } from "./errors.js";
import {
  checkArrangement,
  checkProjectedModel,
  type ProjectedModel,
  type ProjectedPart,
  type ProjectedSpec,
} from "./projected-options.js";
import { openBytes, type SealedArrays, type SealedFormat, sealBytes } from "./sealed-bytes.js";

const format: SealedFormat = {
  magic: "RVQP",
  version: 1,
  what: "a projected model",
  code: "INVALID_MODEL",
  headerMultiple: 4,
};

export function projectedModelToBytes({ spec, metadata }: ProjectedModel): Uint8Array {
  return sealBytes(format, { ...shapeOf(spec), metadata }, spec.parts.flatMap(arraysOf));
}

/**
 * @param name what to call the source in an error: a path, or "bytes"
 * @throws RvqError INVALID_MODEL for anything that is not a whole, undamaged model; nothing larger than the input is allocated
 */
export function projectedModelFromBytes(name: string, bytes: Uint8Array): ProjectedModel {
  return openBytes(format, name, bytes, (header, arrays) => {
    const dim = checkInteger("dim", header.dim, 1, limits.dim);
    const metric = checkMetric(header.metric);
    const arrangement = checkArrangement(header.arrangement);
    const metadata = checkMetadata(header.metadata);
    const shapes = checkShapes(header.parts);
    const elements = shapes.reduce((sum, shape) => sum + elementCount(shape, dim), 0);
    arrays.expect(4 * elements, "float32");
    const parts = shapes.map((shape) => takePart(arrays, shape, dim));
    return checkProjectedModel(parts, { dim, metric, arrangement, metadata });
  });
}

/** SHA-256 (hex) of all that decides codes and reconstructions, not of metadata. */
export function projectedModelId(spec: ProjectedSpec): string {
  const hash = createHash("sha256");
  hash.update(JSON.stringify(shapeOf(spec)));
  for (const array of spec.parts.flatMap(arraysOf)) {
    const bytes = Buffer.from(array.buffer, array.byteOffset, array.byteLength);
    hash.update(endianness() === "LE" ? bytes : Buffer.from(bytes).swap32());
  }
  return hash.digest("hex");
}

interface PartShape {
  readonly dim: number;
  readonly codebookSizes: readonly number[];
  /** Null: no such projection. */
  readonly input: { readonly bias: boolean } | null;
  readonly output: { readonly bias: boolean } | null;
}

function shapeOf({ dim, metric, arrangement, parts }: ProjectedSpec) {
  const projectionShape = (projection: Projection | null) => projection && { bias: projection.bias !== null };
  const shapes = parts.map((part): PartShape => {
    const codebookSizes = part.codebooks.map((codebook) => codebook.length / part.dim);
    return { dim: part.dim, codebookSizes, input: projectionShape(part.input), output: projectionShape(part.output) };
  });
  return { dim, metric, arrangement, parts: shapes };
}

function arraysOf({ codebooks, input, output }: ProjectedPart): Float32Array[] {
  const arrays = (projection: Projection | null) =>
    projection === null ? [] : [projection.weight, ...(projection.bias === null ? [] : [projection.bias])];
  return [...arrays(input), ...codebooks, ...arrays(output)];
}

function checkShapes(value: unknown): PartShape[] {
  if (!Array.isArray(value)) throw invalidArgument("parts", "an array", value);
  checkInteger("parts.length", value.length, 1, limits.stages);
  return Array.from(value, (part: unknown, p) => {
    const name = `parts[${p}]`;
    const fields = (typeof part === "object" && part !== null ? part : {}) as Record<string, unknown>;
    const { codebookSizes: sizes } = fields;
    if (!Array.isArray(sizes)) throw invalidArgument(`${name}.codebookSizes`, "an array", sizes);
    checkInteger(`${name}.codebookSizes.length`, sizes.length, 1, limits.stages);
    return {
      dim: checkInteger(`${name}.dim`, fields.dim, 1, limits.dim),
      codebookSizes: sizes.map((size, s) => checkInteger(`${name}.codebookSizes[${s}]`, size, 1, limits.codebookSize)),
      input: checkProjectionShape(`${name}.input`, fields.input),
      output: checkProjectionShape(`${name}.output`, fields.output),
    };
  });
}

function checkProjectionShape(name: string, value: unknown): PartShape["input"] {
  if (value === null) return null;
  const { bias } = (typeof value === "object" ? value : {}) as Record<string, unknown>;
  if (typeof bias !== "boolean") throw invalidArgument(name, "null or { bias: true or false }", value);
  return { bias };
}

function elementCount({ dim, codebookSizes, input, output }: PartShape, vectorDim: number): number {
  const matrix = dim * vectorDim;
  const ofInput = input === null ? 0 : matrix + (input.bias ? dim : 0);
  const ofOutput = output === null ? 0 : matrix + (output.bias ? vectorDim : 0);
  return codebookSizes.reduce((sum, size) => sum + size * dim, ofInput + ofOutput);
}

function takePart(arrays: SealedArrays, { dim, codebookSizes, input, output }: PartShape, vectorDim: number) {
  const take = (shape: PartShape["input"], inDim: number, outDim: number): Projection | null => {
    if (shape === null) return null;
    const weight = arrays.float32(outDim * inDim);
    return { weight, outDim, inDim, bias: shape.bias ? arrays.float32(outDim) : null };
  };
  return {
    dim,
    input: take(input, vectorDim, dim),
    codebooks: codebookSizes.map((size) => arrays.float32(size * dim)),
    output: take(output, dim, vectorDim),
  };
}
