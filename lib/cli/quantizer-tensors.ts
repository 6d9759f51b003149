// Quantizers as named tensors of a .safetensors file, and back: what a model says, for other programs.

// `codebooks.0`, `codebooks.1`, … [codewords][dim], with weights also `weights` [dim]; of a grouped quantizer `groups.0.codebooks.0`, …;
// of one with projections `parts.0.codebooks.0`, …, `parts.0.input.weight` [out][in], `.bias` [out], and `output` likewise. As metadata
// `metric`, `metadata` (JSON) and, with projections, `arrangement`.

import {
  type AnyQuantizer,
  type Arrangement,
  type BackendChoiceOptions,
  GroupedQuantizer,
  type Metric,
  ProjectedQuantizer,
  type Projection,
  ResidualQuantizer,
  RvqError,
  type Safetensors,
  type Tensor,
  writeSafetensors,
} from "../index.js";

type Named = [name: string, tensor: Tensor];

export function tensorsFromQuantizer(quantizer: AnyQuantizer): Uint8Array {
  const { metric, metadata } = quantizer;
  const texts = { metric, metadata: JSON.stringify(metadata) };
  if (quantizer instanceof ProjectedQuantizer) {
    const named = quantizer
      .parts()
      .flatMap(({ dim, codebooks, input, output }, p) => [
        ...namedProjection(`parts.${p}.input`, input),
        ...namedCodebooks(`parts.${p}.`, codebooks, dim),
        ...namedProjection(`parts.${p}.output`, output),
      ]);
    return writeSafetensors(Object.fromEntries(named), { ...texts, arrangement: quantizer.arrangement });
  }
  const named =
    quantizer instanceof GroupedQuantizer
      ? quantizer.codebooks().flatMap((group, g) => namedCodebooks(`groups.${g}.`, group, quantizer.groups[g]))
      : namedCodebooks("", quantizer.codebooks(), quantizer.dim);
  const weights = quantizer.weights();
  if (weights !== null) named.push(["weights", { shape: [quantizer.dim], data: weights }]);
  return writeSafetensors(Object.fromEntries(named), texts);
}

/** Null for tensors that `tensorsFromQuantizer` has not written, such as a codec's. */
export function quantizerFromOwnTensors(
  path: string,
  tensors: Safetensors,
  backend: BackendChoiceOptions,
): AnyQuantizer | null {
  const { metric, metadata, arrangement } = tensors.metadata;
  const options = { metric: (metric ?? "l2") as Metric, metadata: parseMetadata(path, metadata), ...backend };
  const weights = tensors.has("weights") ? tensors.tensor("weights").data : undefined;
  if (tensors.has("codebooks.0")) {
    const { dim, codebooks } = readCodebooks(path, tensors, "");
    return ResidualQuantizer.fromCodebooks(codebooks, { ...options, dim, weights });
  }
  if (tensors.has("groups.0.codebooks.0")) {
    const read = countOf(tensors, /^groups\.\d+\.codebooks\.0$/).map((g) =>
      readCodebooks(path, tensors, `groups.${g}.`),
    );
    const groups = read.map(({ dim }) => dim);
    const dim = groups.reduce((sum, width) => sum + width, 0);
    return GroupedQuantizer.fromCodebooks(
      read.map(({ codebooks }) => codebooks),
      { ...options, dim, groups, weights },
    );
  }
  if (!tensors.has("parts.0.codebooks.0")) return null;
  const parts = countOf(tensors, /^parts\.\d+\.codebooks\.0$/).map((p) => ({
    ...readCodebooks(path, tensors, `parts.${p}.`),
    input: readProjection(path, tensors, `parts.${p}.input`),
    output: readProjection(path, tensors, `parts.${p}.output`),
  }));
  const dim = parts[0].input?.inDim ?? parts[0].dim;
  return ProjectedQuantizer.fromParts(parts, { ...options, dim, arrangement: arrangement as Arrangement });
}

function namedCodebooks(prefix: string, codebooks: readonly Float32Array[], dim: number): Named[] {
  return codebooks.map((data, s) => [`${prefix}codebooks.${s}`, { shape: [data.length / dim, dim], data }]);
}

function namedProjection(name: string, projection: Projection | null): Named[] {
  if (projection === null) return [];
  const { weight, bias, inDim, outDim } = projection;
  const named: Named[] = [[`${name}.weight`, { shape: [outDim, inDim], data: weight }]];
  if (bias !== null) named.push([`${name}.bias`, { shape: [outDim], data: bias }]);
  return named;
}

/** 0, 1, … for each of the tensors of such a name. */
function countOf(tensors: Safetensors, pattern: RegExp): number[] {
  return [...tensors.names.filter((name) => pattern.test(name)).keys()];
}

function readCodebooks(path: string, tensors: Safetensors, prefix: string) {
  const stages = countOf(tensors, new RegExp(`^${prefix.replaceAll(".", "\\.")}codebooks\\.\\d+$`));
  const read = stages.map((s) => tensors.tensor(`${prefix}codebooks.${s}`));
  if (read.length === 0) throw new RvqError("INVALID_MODEL", `${path}: expected ${prefix}codebooks.0, got none`);
  const dim = read[0].shape[1];
  const bad = read.findIndex(({ shape }) => shape.length !== 2 || shape[1] !== dim);
  if (bad >= 0) {
    const expected = `${prefix}codebooks.${bad} of shape codewords × ${dim ?? "dim"}`;
    throw new RvqError("INVALID_MODEL", `${path}: expected ${expected}, got ${read[bad].shape.join(" × ")}`);
  }
  return { dim, codebooks: read.map(({ data }) => data) };
}

function readProjection(path: string, tensors: Safetensors, name: string): Projection | null {
  if (!tensors.has(`${name}.weight`)) return null;
  const { shape, data } = tensors.tensor(`${name}.weight`);
  if (shape.length !== 2) {
    throw new RvqError("INVALID_MODEL", `${path}: expected ${name}.weight of shape out × in, got ${shape.join(" × ")}`);
  }
  const bias = tensors.has(`${name}.bias`) ? tensors.tensor(`${name}.bias`).data : null;
  return { weight: data, outDim: shape[0], inDim: shape[1], bias };
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
