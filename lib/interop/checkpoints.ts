// The quantizers of other codecs' checkpoints, found by the names of their tensors, which are mapped here and nowhere else.

import type { Projection } from "../backend.js";
import { RvqError } from "../errors.js";
import type { Safetensors } from "./safetensors.js";
import type { Tensor } from "./tensor.js";

/** A residual quantizer of a checkpoint: what `ResidualQuantizer.fromCodebooks` takes, and the maps around it. */
export interface ImportedQuantizer {
  /** "quantizer", or for Mimi "first" and "rest", for DAC "0", "1", … (its stages, each with maps of its own). */
  readonly name: string;
  readonly dim: number;
  /** codebooks[s][K][dim] */
  readonly codebooks: readonly Float32Array[];
  /** What the codec searches by. DAC: codewords and vectors of unit length, though the codeword as it is is handed out. */
  readonly metric: "l2" | "cosine";
  /** Applied to vectors before the search; null: none. */
  readonly input: Projection | null;
  /** Applied to the sum of the codewords; null: none. Residuals of DAC are taken after it. */
  readonly output: Projection | null;
}

export interface ImportedCheckpoint {
  readonly family: "EnCodec" | "Mimi" | "DAC" | "vector-quantize-pytorch";
  readonly quantizers: readonly ImportedQuantizer[];
}

/** Names of tensors, with the stage in the place of `{i}`; any prefix may come before. */
interface Names {
  readonly family: ImportedCheckpoint["family"];
  readonly quantizer: string;
  readonly codebook: string;
  /** The codeword is the codebook's row divided by this, at least 1e-5. */
  readonly usage?: string;
  readonly input?: string;
  readonly output?: string;
}

const mimiNames = (quantizer: string, base: string, codebook: string, sum: string): Names => ({
  family: "Mimi",
  quantizer,
  codebook: `${base}.${codebook}.${sum}`,
  usage: `${base}.${codebook}.cluster_usage`,
  input: `${base}.input_proj`,
  output: `${base}.output_proj`,
});

// In this order: what the last ones look for is a part of what the first ones do.
const known: readonly (readonly Names[])[] = [
  [{ family: "EnCodec", quantizer: "quantizer", codebook: "quantizer.vq.layers.{i}._codebook.embed" }],
  [{ family: "EnCodec", quantizer: "quantizer", codebook: "quantizer.layers.{i}.codebook.embed" }],
  [
    mimiNames("first", "quantizer.rvq_first", "vq.layers.{i}._codebook", "embedding_sum"),
    mimiNames("rest", "quantizer.rvq_rest", "vq.layers.{i}._codebook", "embedding_sum"),
  ],
  [
    mimiNames("first", "quantizer.semantic_residual_vector_quantizer", "layers.{i}.codebook", "embed_sum"),
    mimiNames("rest", "quantizer.acoustic_residual_vector_quantizer", "layers.{i}.codebook", "embed_sum"),
  ],
  [
    {
      family: "DAC",
      quantizer: "{i}",
      codebook: "quantizer.quantizers.{i}.codebook.weight",
      input: "quantizer.quantizers.{i}.in_proj",
      output: "quantizer.quantizers.{i}.out_proj",
    },
  ],
  [{ family: "vector-quantize-pytorch", quantizer: "quantizer", codebook: "layers.{i}._codebook.embed" }],
];

/**
 * Finds the quantizer of EnCodec, Mimi, DAC or vector-quantize-pytorch, also in a whole codec's checkpoint and in the forms of
 * Hugging Face.
 * @throws RvqError INVALID_MODEL that lists what was looked for and what was found
 */
export function importCheckpoint(tensors: Safetensors): ImportedCheckpoint {
  for (const names of known) {
    const found = names.map((one) => ({ one, layers: findLayers(tensors, one.codebook) }));
    if (found.every(({ layers }) => layers.length === 0)) continue;
    const quantizers = found.flatMap(({ one, layers }) => {
      if (layers.length === 0) throw missing(tensors, [one.codebook]);
      if (one.family === "DAC") return layers.map((layer) => readQuantizer(tensors, one, [layer]));
      return [readQuantizer(tensors, one, layers)];
    });
    return { family: names[0].family, quantizers };
  }
  throw missing(
    tensors,
    known.flatMap((names) => names.map(({ codebook }) => codebook)),
  );
}

interface Layer {
  readonly index: number;
  readonly prefix: string;
}

/** The layers of a pattern, which must be 0, 1, … of one prefix. */
function findLayers(tensors: Safetensors, pattern: string): Layer[] {
  const [before, after] = pattern.split("{i}").map((part) => part.replaceAll(".", "\\."));
  const expression = new RegExp(`^(|.*\\.)${before}(\\d{1,4})${after}$`);
  const layers = tensors.names.flatMap((name): Layer[] => {
    const match = expression.exec(name);
    return match === null ? [] : [{ prefix: match[1], index: Number(match[2]) }];
  });
  layers.sort((a, b) => a.index - b.index);
  const bad = layers.find(({ index, prefix }, i) => index !== i || prefix !== layers[0].prefix);
  if (bad !== undefined) {
    const expected = `${pattern} for stages 0, 1, … under one prefix`;
    throw new RvqError("INVALID_MODEL", `checkpoint: expected ${expected}, got ${bad.prefix}… of stage ${bad.index}`);
  }
  return layers;
}

function readQuantizer(tensors: Safetensors, names: Names, layers: readonly Layer[]): ImportedQuantizer {
  const of = (pattern: string, { prefix, index }: Layer) => prefix + pattern.replace("{i}", String(index));
  const codebooks = layers.map((layer) =>
    readCodebook(tensors, of(names.codebook, layer), names.usage && of(names.usage, layer)),
  );
  const { dim } = codebooks[0];
  const other = codebooks.findIndex((codebook) => codebook.dim !== dim);
  if (other >= 0) throw wrong(of(names.codebook, layers[other]), `rows of ${dim}`, `rows of ${codebooks[other].dim}`);
  const projection = (pattern: string | undefined) =>
    pattern === undefined ? null : readProjection(tensors, of(pattern, layers[0]));
  return {
    name: names.quantizer.replace("{i}", String(layers[0].index)),
    dim,
    codebooks: codebooks.map(({ data }) => data),
    metric: names.family === "DAC" ? "cosine" : "l2",
    input: projection(names.input),
    output: projection(names.output),
  };
}

/** [K][dim], or [1][K][dim] as vector-quantize-pytorch has it for one head. */
function readCodebook(
  tensors: Safetensors,
  name: string,
  usageName: string | undefined,
): { dim: number; data: Float32Array } {
  const { shape, data } = tensors.tensor(name);
  const [size, dim] = shape.length === 3 && shape[0] === 1 ? shape.slice(1) : shape;
  if (shape.length < 2 || shape.length > 3 || size * dim !== data.length || data.length === 0) {
    throw wrong(name, "the shape codewords × dim, or 1 × codewords × dim", shape.join(" × "));
  }
  if (usageName === undefined) return { dim, data };
  if (!tensors.has(usageName)) throw missing(tensors, [usageName]);
  const usage = tensors.tensor(usageName).data;
  if (usage.length !== size) throw wrong(usageName, `${size} elements`, String(usage.length));
  return { dim, data: data.map((sum, i) => sum / Math.max(usage[Math.floor(i / dim)], Math.fround(1e-5))) };
}

/** A convolution of kernel size 1, its weight as it is or as direction `weight_v` and length `weight_g`. */
function readProjection(tensors: Safetensors, name: string): Projection | null {
  const bias = tensors.has(`${name}.bias`) ? tensors.tensor(`${name}.bias`).data : null;
  const folded = tensors.has(`${name}.weight`);
  const direction = `${name}.weight_v`;
  if (!folded && !tensors.has(direction)) return null;
  const { shape, data } = tensors.tensor(folded ? `${name}.weight` : direction);
  const [outDim, inDim] = shape;
  if (shape.length < 2 || outDim * inDim !== data.length)
    throw wrong(name, "a weight out × in (× 1)", shape.join(" × "));
  if (bias !== null && bias.length !== outDim) throw wrong(`${name}.bias`, `${outDim} elements`, String(bias.length));
  if (folded) return { weight: data, outDim, inDim, bias };
  if (!tensors.has(`${name}.weight_g`)) throw missing(tensors, [`${name}.weight_g`]);
  return { weight: foldWeight({ shape, data }, tensors.tensor(`${name}.weight_g`)), outDim, inDim, bias };
}

/** weight[o] = g[o] · v[o] / |v[o]|, in float64. */
function foldWeight({ shape: [outDim, inDim], data }: Tensor, { data: lengths }: Tensor): Float32Array {
  if (lengths.length !== outDim) throw wrong("weight_g", `${outDim} elements`, String(lengths.length));
  const weight = new Float32Array(data.length);
  for (let out = 0; out < outDim; out++) {
    const row = data.subarray(out * inDim, (out + 1) * inDim);
    let sum = 0;
    for (const v of row) sum += v * v;
    const scale = lengths[out] / Math.sqrt(sum);
    for (let i = 0; i < inDim; i++) weight[out * inDim + i] = row[i] * scale;
  }
  return weight;
}

function wrong(name: string, expected: string, got: string): RvqError {
  return new RvqError("INVALID_MODEL", `checkpoint: ${name}: expected ${expected}, got ${got}`);
}

function missing(tensors: Safetensors, patterns: readonly string[]): RvqError {
  const { names } = tensors;
  const shown = names.slice(0, 20).join(", ") + (names.length > 20 ? `, … (${names.length} in all)` : "");
  const found = names.length === 0 ? "no tensors" : shown;
  return new RvqError("INVALID_MODEL", `checkpoint: expected tensors named ${patterns.join(" or ")}, got ${found}`);
}
