// The tensors of a codec's checkpoint as codebooks and projections: their shapes and numbers are checked, weight normalization folded.

import type { Projection } from "../backend.js";
import { limits } from "../check.js";
import { RvqError } from "../errors.js";
import type { Safetensors } from "./safetensors.js";
import type { Tensor } from "./tensor.js";

/** Where a stage's tensors are: the name up to the pattern, and the stage. */
export interface Layer {
  readonly index: number;
  readonly prefix: string;
}

/** The layers of a pattern with `{i}`, which must be 0, 1, … of one prefix; of one without, the one layer. */
export function findLayers(tensors: Safetensors, pattern: string): Layer[] {
  const [before, after] = pattern.split("{i}").map((part) => part.replaceAll(".", "\\."));
  const expression = new RegExp(`^(|.*\\.)${after === undefined ? before : `${before}(\\d{1,4})${after}`}$`);
  const layers = tensors.names.flatMap((name): Layer[] => {
    const match = expression.exec(name);
    return match === null ? [] : [{ prefix: match[1], index: Number(match[2] ?? 0) }];
  });
  layers.sort((a, b) => a.index - b.index);
  const bad = layers.find(({ index, prefix }, i) => index !== i || prefix !== layers[0].prefix);
  if (bad !== undefined) {
    const expected = `${pattern} for stages 0, 1, … under one prefix`;
    throw new RvqError("INVALID_MODEL", `checkpoint: expected ${expected}, got ${bad.prefix}… of stage ${bad.index}`);
  }
  if (layers.length > limits.stages) throw wrong(pattern, `at most ${limits.stages} stages`, String(layers.length));
  return layers;
}

/** The name that a pattern means in a layer. */
export function nameIn({ prefix, index }: Layer, pattern: string): string {
  return prefix + pattern.replace("{i}", String(index));
}

/** heads[h], each [K][dim]: of a tensor [K][dim] the one. */
export interface Codebook {
  readonly dim: number;
  readonly heads: readonly Float32Array[];
}

/** With `usageName` the codeword is the row divided by its usage, at least 1e-5. */
export function readCodebook(tensors: Safetensors, name: string, usageName: string | undefined): Codebook {
  const { shape, data } = tensors.tensor(name);
  const [heads, size, dim] = shape.length === 3 ? shape : [1, ...shape];
  if (shape.length < 2 || shape.length > 3 || data.length === 0) {
    throw wrong(name, "the shape codewords × dim, or heads × codewords × dim", shape.join(" × "));
  }
  if (usageName === undefined) requireFinite(name, data);
  else {
    const usage = readNumbers(tensors, usageName, heads * size);
    for (let i = 0; i < data.length; i++) data[i] /= Math.max(usage[Math.floor(i / dim)], Math.fround(1e-5));
    requireFinite(`${name} / ${usageName}`, data);
  }
  return { dim, heads: Array.from({ length: heads }, (_, h) => data.subarray(h * size * dim, (h + 1) * size * dim)) };
}

/** Names of a weight of direction and length: PyTorch's older and newer form. */
const normalized = [
  { direction: "weight_v", length: "weight_g" },
  { direction: "parametrizations.weight.original1", length: "parametrizations.weight.original0" },
] as const;

/** What a projection of that name is made of. */
export function projectionNames(name: string): string[] {
  return [
    `${name}.weight`,
    ...normalized.map(({ direction, length }) => `${name}.${direction} with ${name}.${length}`),
  ];
}

/**
 * A linear layer, or a convolution of kernel size 1, its weight as it is or as direction and length; null where nothing has that name.
 * @throws RvqError INVALID_MODEL for one that is there in part, or is something else
 */
export function readProjection(tensors: Safetensors, name: string): Projection | null {
  const bias = `${name}.bias`;
  const form = normalized.find(({ direction }) => tensors.has(`${name}.${direction}`));
  const folded = tensors.has(`${name}.weight`);
  if (!folded && form === undefined) {
    const rests = [bias, ...normalized.map(({ length }) => `${name}.${length}`)];
    if (rests.some((rest) => tensors.has(rest))) throw missing(tensors, projectionNames(name));
    return null;
  }
  const weightName = `${name}.${folded ? "weight" : form?.direction}`;
  const { shape, data } = tensors.tensor(weightName);
  const [outDim, inDim] = shape;
  if (shape.length < 2 || outDim * inDim !== data.length || data.length === 0) {
    throw wrong(weightName, "a weight out × in (× 1)", shape.join(" × "));
  }
  requireFinite(weightName, data);
  if (!folded && form !== undefined) foldWeight(tensors, weightName, `${name}.${form.length}`, { shape, data });
  return { weight: data, outDim, inDim, bias: tensors.has(bias) ? readNumbers(tensors, bias, outDim) : null };
}

/** weight[o] = length[o] · direction[o] / |direction[o]|, in float64, in its place. */
function foldWeight(tensors: Safetensors, name: string, lengthName: string, { shape, data }: Tensor): void {
  const [outDim, inDim] = shape;
  const lengths = readNumbers(tensors, lengthName, outDim);
  for (let out = 0; out < outDim; out++) {
    const row = data.subarray(out * inDim, (out + 1) * inDim);
    let sum = 0;
    for (const v of row) sum += v * v;
    if (sum === 0) throw wrong(name, "rows that have a direction", `zeros in row ${out}`);
    const scale = lengths[out] / Math.sqrt(sum);
    for (let i = 0; i < inDim; i++) row[i] *= scale;
  }
}

function readNumbers(tensors: Safetensors, name: string, length: number): Float32Array {
  if (!tensors.has(name)) throw missing(tensors, [name]);
  const { data } = tensors.tensor(name);
  if (data.length !== length) throw wrong(name, `${length} elements`, String(data.length));
  requireFinite(name, data);
  return data;
}

function requireFinite(name: string, data: Float32Array): void {
  const bad = data.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0) throw wrong(name, "finite numbers", `${data[bad]} in element ${bad}`);
}

export function wrong(name: string, expected: string, got: string): RvqError {
  return new RvqError("INVALID_MODEL", `checkpoint: ${name}: expected ${expected}, got ${got}`);
}

export function missing(tensors: Safetensors, patterns: readonly string[]): RvqError {
  const { names } = tensors;
  const shown = names.slice(0, 20).join(", ") + (names.length > 20 ? `, … (${names.length} in all)` : "");
  const found = names.length === 0 ? "no tensors" : shown;
  return new RvqError("INVALID_MODEL", `checkpoint: expected tensors named ${patterns.join(" or ")}, got ${found}`);
}
