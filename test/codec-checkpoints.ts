// Checkpoints as the codecs save them, made from a seed, and what the codecs' own loops give for them: one number after the other.

import type { Tensor } from "../lib/index.js";
import { Safetensors, writeSafetensors } from "../lib/index.js";
import { Random } from "../lib/random.js";
import { normal } from "./contract/families.js";
import { nearest } from "./contract/reference.js";

export type Tensors = Record<string, Tensor>;

export function asFile(tensors: Tensors): Safetensors {
  return Safetensors.fromBytes(writeSafetensors(tensors));
}

export function gaussian(seed: number, length: number, scale = 1): Float32Array {
  const random = new Random(seed);
  return Float32Array.from({ length }, () => scale * normal(random));
}

/** A tensor of normal numbers; of the same name the same ones. */
export function tensor(name: string, shape: readonly number[], scale = 1): Tensor {
  let seed = 7;
  for (const letter of name) seed = (seed * 31 + letter.charCodeAt(0)) % 1_000_003;
  return {
    shape,
    data: gaussian(
      seed,
      shape.reduce((a, b) => a * b, 1),
      scale,
    ),
  };
}

/** How a weight is saved: as it is, or as length and direction in PyTorch's older and newer form. */
export type WeightForm = "folded" | "weight_g" | "parametrizations";

export interface DacShape {
  readonly dim: number;
  readonly codeDim: number;
  readonly size: number;
  readonly stages: number;
}

/** As descript-audio-codec saves it; "folded" is Hugging Face's form. */
export function dacTensors({ dim, codeDim, size, stages }: DacShape, form: WeightForm, prefix = ""): Tensors {
  const tensors: Tensors = { [`${prefix}encoder.block.0.weight`]: tensor("encoder", [2, 2]) };
  for (let s = 0; s < stages; s++) {
    const base = `${prefix}quantizer.quantizers.${s}`;
    const key = (name: string) => `${s}.${name}`;
    tensors[`${base}.codebook.weight`] = tensor(key("codebook"), [size, codeDim], 0.7 ** s);
    for (const [name, out, width] of [
      ["in_proj", codeDim, dim],
      ["out_proj", dim, codeDim],
    ] as const) {
      const v = tensor(key(`${name}.v`), [out, width, 1]);
      const g = tensor(key(`${name}.g`), [out, 1, 1], name === "in_proj" ? 1 : Math.sqrt(codeDim) / 2);
      tensors[`${base}.${name}.bias`] = tensor(key(`${name}.bias`), [out], 0.1 * 0.7 ** s);
      if (form === "folded") tensors[`${base}.${name}.weight`] = { shape: v.shape, data: folded(v, g) };
      const [length, direction] =
        form === "weight_g"
          ? ["weight_g", "weight_v"]
          : ["parametrizations.weight.original0", "parametrizations.weight.original1"];
      if (form !== "folded") {
        tensors[`${base}.${name}.${length}`] = g;
        tensors[`${base}.${name}.${direction}`] = v;
      }
    }
  }
  return tensors;
}

/** g · v / |v|, row by row. */
function folded(v: Tensor, g: Tensor): Float32Array {
  const width = v.data.length / g.data.length;
  return v.data.map((value, i) => {
    const row = v.data.subarray(i - (i % width), i - (i % width) + width);
    return value * (g.data[Math.floor(i / width)] / Math.sqrt(row.reduce((sum, x) => sum + x * x, 0)));
  });
}

export interface MimiShape {
  readonly dim: number;
  readonly codeDim: number;
  readonly size: number;
  /** Of the acoustic quantizer. */
  readonly rest: number;
}

/** Names of Mimi's quantizers: Kyutai's, and those of Hugging Face. */
export const mimiNames = {
  Kyutai: {
    first: "quantizer.rvq_first",
    rest: "quantizer.rvq_rest",
    codebook: (base: string, i: number) => `${base}.vq.layers.${i}._codebook`,
    sum: "embedding_sum",
  },
  "Hugging Face": {
    first: "quantizer.semantic_residual_vector_quantizer",
    rest: "quantizer.acoustic_residual_vector_quantizer",
    codebook: (base: string, i: number) => `${base}.layers.${i}.codebook`,
    sum: "embed_sum",
  },
} as const;

export function mimiTensors({ dim, codeDim, size, rest }: MimiShape, form: keyof typeof mimiNames): Tensors {
  const names = mimiNames[form];
  const tensors: Tensors = {};
  for (const [base, role, stages] of [
    [names.first, "first", 1],
    [names.rest, "rest", rest],
  ] as const) {
    tensors[`${base}.input_proj.weight`] = tensor(`${role}.input`, [codeDim, dim, 1], 1 / Math.sqrt(dim));
    tensors[`${base}.output_proj.weight`] = tensor(`${role}.output`, [dim, codeDim, 1], 0.5);
    for (let i = 0; i < stages; i++) {
      const codebook = names.codebook(base, i);
      tensors[`${codebook}.${names.sum}`] = tensor(`${role}.${i}`, [size, codeDim], 3 * 0.6 ** i);
      // One codeword that was never used: its sum is divided by 1e-5.
      const usage = Float32Array.from({ length: size }, (_, k) => (k === 1 ? 0 : 2 + (k % 3)));
      tensors[`${codebook}.cluster_usage`] = { shape: [size], data: usage };
    }
  }
  return tensors;
}

/** A stage or several with what is around them: weight[outDim][inDim], codebooks[s][K][dim]. */
export interface ReferencePart {
  readonly input: { readonly weight: Float32Array; readonly bias: Float32Array | null } | null;
  readonly codebooks: readonly Float32Array[];
  readonly output: ReferencePart["input"];
}

export function dacReference(tensors: Tensors, stages: number, prefix = ""): ReferencePart[] {
  return Array.from({ length: stages }, (_, s) => {
    const base = `${prefix}quantizer.quantizers.${s}`;
    const side = (name: string) => {
      const at = (rest: string) => tensors[`${base}.${name}.${rest}`];
      const v = at("weight_v") ?? at("parametrizations.weight.original1");
      const weight =
        v === undefined ? at("weight").data : folded(v, at("weight_g") ?? at("parametrizations.weight.original0"));
      return { weight, bias: at("bias").data };
    };
    return { input: side("in_proj"), codebooks: [tensors[`${base}.codebook.weight`].data], output: side("out_proj") };
  });
}

export function mimiReference(tensors: Tensors, form: keyof typeof mimiNames, rest: number): ReferencePart[] {
  const names = mimiNames[form];
  return (
    [
      [names.first, 1],
      [names.rest, rest],
    ] as const
  ).map(([base, stages]) => ({
    input: { weight: tensors[`${base}.input_proj.weight`].data, bias: null },
    codebooks: Array.from({ length: stages }, (_, i) => {
      const sums = tensors[`${names.codebook(base, i)}.${names.sum}`];
      const usage = tensors[`${names.codebook(base, i)}.cluster_usage`].data;
      return sums.data.map((sum, at) => sum / Math.max(usage[Math.floor(at / sums.shape[1])], Math.fround(1e-5)));
    }),
    output: { weight: tensors[`${base}.output_proj.weight`].data, bias: null },
  }));
}

export interface ReferenceResult {
  /** codes[count][stages] */
  readonly codes: number[];
  /** reconstructions[stages][count][dim] from the first 1, 2, … stages. */
  readonly reconstructions: Float32Array[];
}

/** docs/exactness.md word by word. `residual`: each part quantizes what the ones before leave over, else the vector itself. */
export function quantize(
  vectors: Float32Array,
  dim: number,
  parts: readonly ReferencePart[],
  metric: "l2" | "cosine",
  residual: boolean,
): ReferenceResult {
  const stages = parts.reduce((sum, { codebooks }) => sum + codebooks.length, 0);
  const codes: number[] = [];
  const reconstructions = Array.from({ length: stages }, () => new Float32Array(vectors.length));
  for (let start = 0; start < vectors.length; start += dim) {
    let left = vectors.slice(start, start + dim);
    let sum = new Float32Array(dim);
    let stage = 0;
    for (const { input, codebooks, output } of parts) {
      let searched = map(input, left);
      let decoded = new Float32Array(searched.length);
      let projected = new Float32Array(dim);
      for (const codebook of codebooks) {
        const code = nearest(searched, codebook, metric, null);
        const codeword = codebook.subarray(code * searched.length, (code + 1) * searched.length);
        searched = searched.map((value, i) => value - codeword[i]);
        decoded = decoded.map((value, i) => value + codeword[i]);
        projected = map(output, decoded);
        codes.push(code);
        reconstructions[stage++].set(
          sum.map((value, i) => value + projected[i]),
          start,
        );
      }
      sum = sum.map((value, i) => value + projected[i]);
      if (residual) left = left.map((value, i) => value - projected[i]);
    }
  }
  return { codes, reconstructions };
}

function map(projection: ReferencePart["input"], x: Float32Array): Float32Array<ArrayBuffer> {
  if (projection === null) return x.slice();
  const { weight, bias } = projection;
  return Float32Array.from({ length: weight.length / x.length }, (_, o) => {
    let sum = bias === null ? 0 : bias[o];
    for (let i = 0; i < x.length; i++) sum += weight[o * x.length + i] * x[i];
    return sum;
  });
}
