// Codebooks in files of other programs: which arrays they are there, and what such a file cannot say.

// .npy: [stages][codewords][dim], or [codewords][dim] for one stage. .safetensors: as quantizer-tensors.ts writes them, or a codec's
// checkpoint.

import {
  type AnyQuantizer,
  type BackendChoiceOptions,
  GroupedQuantizer,
  type Metric,
  ProjectedQuantizer,
  ResidualQuantizer,
  RvqError,
  type Safetensors,
  type Tensor,
  writeNpy,
} from "../index.js";
import { readCheckpoint } from "../interop/checkpoints.js";
import { quantizerOf } from "../interop/quantizer-from-checkpoint.js";
import { quantizerFromOwnTensors } from "./quantizer-tensors.js";

export interface ImportOptions {
  /** Which quantizer of a checkpoint that has several; default: all of them together. */
  readonly quantizer?: string;
  /** Of a checkpoint that does not say. */
  readonly metric?: Metric;
  readonly backend: BackendChoiceOptions;
}

/** What was read or written, and what was left out, a sentence each. */
export interface Converted<Result> {
  readonly result: Result;
  readonly notes: readonly string[];
}

export function quantizerFromNpy(
  path: string,
  { shape, data }: Tensor,
  metric: Metric,
  backend: BackendChoiceOptions,
): ResidualQuantizer {
  const [stages, size, dim] = shape.length === 2 ? [1, ...shape] : shape;
  if (shape.length < 2 || shape.length > 3 || data.length === 0) {
    const expected = "codebooks of shape stages × codewords × dim, or codewords × dim";
    throw new RvqError("INVALID_MODEL", `${path}: expected ${expected}, got ${shape.join(" × ")}`);
  }
  const codebooks = Array.from({ length: stages }, (_, s) => data.subarray(s * size * dim, (s + 1) * size * dim));
  return ResidualQuantizer.fromCodebooks(codebooks, { dim, metric, ...backend });
}

export function quantizerFromTensors(
  path: string,
  tensors: Safetensors,
  { quantizer, metric, backend }: ImportOptions,
): Converted<AnyQuantizer> {
  const own = quantizerFromOwnTensors(path, tensors, backend);
  if (own !== null && quantizer === undefined && metric === undefined) return { result: own, notes: [] };
  if (own !== null) {
    const option = quantizer === undefined ? "--metric" : "--quantizer";
    throw new RvqError(
      "INVALID_ARGUMENT",
      `${option}: expected only with a checkpoint, got ${path}, which says it all`,
    );
  }
  const checkpoint = readCheckpoint(tensors, { metric }, true);
  const result = quantizerOf(checkpoint, { quantizer, ...backend });
  const which = quantizer === undefined ? "the quantizer" : `the quantizer "${quantizer}"`;
  return { result, notes: [`${which} of ${checkpoint.family}`] };
}

export function npyFromQuantizer(path: string, quantizer: AnyQuantizer): Converted<Uint8Array> {
  const { metric, metadata } = quantizer;
  const { dim, codebooks } = oneSetOf(path, quantizer);
  const sizes = codebooks.map((codebook) => codebook.length / dim);
  const [size] = sizes;
  if (sizes.some((other) => other !== size)) {
    const got = `sizes ${sizes.join(", ")} (a .safetensors file holds them)`;
    throw new RvqError("INVALID_ARGUMENT", `${path}: expected codebooks of one size for a .npy file, got ${got}`);
  }
  const data = new Float32Array(sizes.length * size * dim);
  for (const [s, codebook] of codebooks.entries()) data.set(codebook, s * size * dim);
  const leftOut = (what: string) =>
    `${what} left out: a .npy file has no room for ${what.endsWith("is") ? "it" : "them"}`;
  const notes: string[] = [];
  if (metric !== "l2") notes.push(leftOut(`the metric ${metric} is`));
  if (quantizer instanceof ProjectedQuantizer) notes.push(leftOut("the projections are"));
  else if (quantizer.weights() !== null) notes.push(leftOut("the weights are"));
  if (Object.keys(metadata).length > 0) notes.push(leftOut("the metadata are"));
  return { result: writeNpy({ shape: [sizes.length, size, dim], data }), notes };
}

/** The codebooks of a quantizer that has one set of them, all of one dimension. */
function oneSetOf(path: string, quantizer: AnyQuantizer): { dim: number; codebooks: readonly Float32Array[] } {
  const refused = (got: string) => {
    const remedy = "a .safetensors file holds them, and --quantizer takes one of a checkpoint's";
    return new RvqError(
      "INVALID_ARGUMENT",
      `${path}: expected one set of codebooks for a .npy file, got ${got} (${remedy})`,
    );
  };
  if (quantizer instanceof GroupedQuantizer) throw refused(`${quantizer.groups.length} groups`);
  if (quantizer instanceof ResidualQuantizer) return { dim: quantizer.dim, codebooks: quantizer.codebooks() };
  const [part, ...others] = quantizer.parts();
  if (others.length > 0) throw refused(`${1 + others.length} parts`);
  return part;
}
