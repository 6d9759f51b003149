// Codebooks in files of other programs: which arrays they are there, and what such a file cannot say.

// .npy: [stages][codewords][dim], or [codewords][dim] for one stage. .safetensors: `codebooks.0`, `codebooks.1`, … [codewords][dim],
// with weights also `weights` [dim], and as metadata `metric` and `metadata` (JSON); or a codec's checkpoint.

import {
  type BackendChoiceOptions,
  importCheckpoint,
  type Metric,
  ResidualQuantizer,
  RvqError,
  type Safetensors,
  type Tensor,
  writeNpy,
  writeSafetensors,
} from "../index.js";

export interface ImportOptions {
  /** Which quantizer of a checkpoint that has several. */
  readonly quantizer?: string;
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
  { quantizer, backend }: ImportOptions,
): Converted<ResidualQuantizer> {
  if (tensors.has("codebooks.0")) return { result: fromOwnTensors(path, tensors, backend), notes: [] };
  const { family, quantizers } = importCheckpoint(tensors);
  const names = quantizers.map(({ name }) => name);
  const wanted = quantizer ?? names[0];
  const found = quantizers.find(({ name }) => name === wanted);
  if (found === undefined || (quantizer === undefined && names.length > 1)) {
    const expected = `--quantizer, one of ${names.join(", ")} in this checkpoint of ${family}`;
    throw new RvqError("INVALID_ARGUMENT", `${path}: expected ${expected}, got ${quantizer ?? "none"}`);
  }
  const { codebooks, dim, metric, input, output } = found;
  const notes = [`the quantizer "${found.name}" of ${family}`];
  if (input !== null || output !== null) notes.push("its projections are not part of a quantizer and are left out");
  return { result: ResidualQuantizer.fromCodebooks(codebooks, { dim, metric, ...backend }), notes };
}

function fromOwnTensors(path: string, tensors: Safetensors, backend: BackendChoiceOptions): ResidualQuantizer {
  const stages = tensors.names.filter((name) => /^codebooks\.\d+$/.test(name)).length;
  const read = Array.from({ length: stages }, (_, s) => tensors.tensor(`codebooks.${s}`));
  const dim = read[0].shape[1];
  const bad = read.findIndex(({ shape }) => shape.length !== 2 || shape[1] !== dim);
  if (bad >= 0) {
    const expected = `codebooks.${bad} of shape codewords × ${dim ?? "dim"}`;
    throw new RvqError("INVALID_MODEL", `${path}: expected ${expected}, got ${read[bad].shape.join(" × ")}`);
  }
  const { metric, metadata } = tensors.metadata;
  return ResidualQuantizer.fromCodebooks(
    read.map(({ data }) => data),
    {
      dim,
      metric: (metric ?? "l2") as Metric,
      weights: tensors.has("weights") ? tensors.tensor("weights").data : undefined,
      metadata: parseMetadata(path, metadata),
      ...backend,
    },
  );
}

function parseMetadata(path: string, text: unknown): Record<string, unknown> | undefined {
  if (text === undefined) return undefined;
  try {
    return JSON.parse(String(text)) as Record<string, unknown>;
  } catch (cause) {
    const got = (cause as Error).message;
    throw new RvqError("INVALID_MODEL", `${path}: expected metadata in JSON, got ${got}`, { cause });
  }
}

export function tensorsFromQuantizer(quantizer: ResidualQuantizer): Uint8Array {
  const { dim, codebookSizes, metric, metadata } = quantizer;
  const tensors = quantizer
    .codebooks()
    .map((data, s): [string, Tensor] => [`codebooks.${s}`, { shape: [codebookSizes[s], dim], data }]);
  const weights = quantizer.weights();
  if (weights !== null) tensors.push(["weights", { shape: [dim], data: weights }]);
  return writeSafetensors(Object.fromEntries(tensors), { metric, metadata: JSON.stringify(metadata) });
}

export function npyFromQuantizer(path: string, quantizer: ResidualQuantizer): Converted<Uint8Array> {
  const { dim, stages, codebookSizes, metric, metadata } = quantizer;
  const [size] = codebookSizes;
  if (codebookSizes.some((other) => other !== size)) {
    const got = `sizes ${codebookSizes.join(", ")} (a .safetensors file holds them)`;
    throw new RvqError("INVALID_ARGUMENT", `${path}: expected codebooks of one size for a .npy file, got ${got}`);
  }
  const data = new Float32Array(stages * size * dim);
  for (const [s, codebook] of quantizer.codebooks().entries()) data.set(codebook, s * size * dim);
  const notes: string[] = [];
  if (metric !== "l2") notes.push(`the metric ${metric} is left out: a .npy file has no room for it`);
  if (quantizer.weights() !== null) notes.push("the weights are left out: a .npy file has no room for them");
  if (Object.keys(metadata).length > 0) notes.push("the metadata are left out: a .npy file has no room for them");
  return { result: writeNpy({ shape: [stages, size, dim], data }), notes };
}
