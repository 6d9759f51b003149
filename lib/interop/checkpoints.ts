// The quantizers of other codecs' checkpoints, found by the names of their tensors, which are mapped here and nowhere else.

import type { Metric, Projection } from "../backend.js";
import { checkMetric, checkOptions } from "../check.js";
import { invalidArgument, RvqError } from "../errors.js";
import {
  type Codebook,
  findLayers,
  type Layer,
  missing,
  nameIn,
  projectionNames,
  readCodebook,
  readProjection,
  wrong,
} from "./checkpoint-tensors.js";
import { Safetensors } from "./safetensors.js";

/** A residual quantizer of a checkpoint, and the maps around it. */
export interface ImportedQuantizer {
  /** "quantizer"; for Mimi "first" and "rest", else for several "0", "1", … */
  readonly name: string;
  readonly dim: number;
  /** codebooks[s][K][dim] */
  readonly codebooks: readonly Float32Array[];
  /** What the codec searches by. DAC: codewords and vectors of unit length, though the codeword as it is is handed out. */
  readonly metric: Metric;
  /** Applied to vectors before the search; null: none. */
  readonly input: Projection | null;
  /** Applied to the sum of the codewords; null: none. */
  readonly output: Projection | null;
}

export interface ImportedCheckpoint {
  readonly family: "EnCodec" | "Mimi" | "DAC" | "vector-quantize-pytorch";
  /**
   * "single": one quantizer. Of several, each quantizes "residual": what those before it leave over, after their projections (DAC);
   * "parallel": the same vector, and the reconstructions add up (Mimi); "grouped": dimensions of its own (GroupedResidualVQ, heads).
   */
  readonly arrangement: "single" | "residual" | "parallel" | "grouped";
  readonly quantizers: readonly ImportedQuantizer[];
}

export interface ImportOptions {
  /** Of vector-quantize-pytorch, whose tensors do not tell: "cosine" for `use_cosine_sim`. Default "l2". */
  readonly metric?: Metric;
}

/** Names of tensors, with the stage in the place of `{i}`; any prefix may come before. */
interface Names {
  readonly family: ImportedCheckpoint["family"];
  readonly quantizer: string;
  readonly codebook: string;
  /** The codeword is the codebook's row divided by this, at least 1e-5. */
  readonly usage?: string;
  /** Projections around all stages. */
  readonly around?: ProjectionPair;
  /** Projections around every stage: residuals are then taken after them. */
  readonly aroundStages?: ProjectionPair;
  /** What tensors begin with that make codewords other than those of `codebook`, and what they are. */
  readonly unknown?: Readonly<Record<string, string>>;
}

interface ProjectionPair {
  readonly input: string;
  readonly output: string;
  /** A codec without them is none. */
  readonly needed: boolean;
}

const projectPair = (base: string): ProjectionPair => {
  return { input: `${base}project_in`, output: `${base}project_out`, needed: false };
};

const encodecNames = (base: string, codebook: string): Names => ({
  family: "EnCodec",
  quantizer: "quantizer",
  codebook: `${base}.{i}.${codebook}`,
  aroundStages: projectPair(`${base}.{i}.`),
});

const mimiNames = (quantizer: string, base: string, layers: string, codebook: string, sum: string): Names => ({
  family: "Mimi",
  quantizer,
  codebook: `${base}.${layers}.{i}.${codebook}.${sum}`,
  usage: `${base}.${layers}.{i}.${codebook}.cluster_usage`,
  around: { input: `${base}.input_proj`, output: `${base}.output_proj`, needed: true },
  unknown: { [`${base}.${layers}.0.project_in.`]: "projections around every stage" },
});

const vqNames = (quantizer: string, base: string, layer: string): Names => ({
  family: "vector-quantize-pytorch",
  quantizer,
  codebook: `${base}${layer}_codebook.embed`,
  around: projectPair(base),
  aroundStages: layer === "" ? undefined : projectPair(base + layer),
  unknown: {
    [`${base}mlps.`]: "implicit neural codebooks",
    [`${base}${layer.replace("{i}", "0")}_codebook.codebook_mean`]: "codebooks with an affine transform",
  },
});

// In this order: what the last ones look for is a part of what the first ones do.
const known: readonly (readonly Names[])[] = [
  [encodecNames("quantizer.vq.layers", "_codebook.embed")],
  [encodecNames("quantizer.layers", "codebook.embed")],
  [
    mimiNames("first", "quantizer.rvq_first", "vq.layers", "_codebook", "embedding_sum"),
    mimiNames("rest", "quantizer.rvq_rest", "vq.layers", "_codebook", "embedding_sum"),
  ],
  [
    mimiNames("first", "quantizer.semantic_residual_vector_quantizer", "layers", "codebook", "embed_sum"),
    mimiNames("rest", "quantizer.acoustic_residual_vector_quantizer", "layers", "codebook", "embed_sum"),
  ],
  [
    {
      family: "DAC",
      quantizer: "quantizer",
      codebook: "quantizer.quantizers.{i}.codebook.weight",
      aroundStages: {
        input: "quantizer.quantizers.{i}.in_proj",
        output: "quantizer.quantizers.{i}.out_proj",
        needed: true,
      },
    },
  ],
  [vqNames("quantizer", "", "layers.{i}.")],
  [vqNames("quantizer", "", "")],
];

/** Of GroupedResidualVQ: as those of a group's own quantizer, which come behind. */
const groups = /(?:^|\.)rvqs\.(\d{1,4})\.layers\.0\._codebook\.embed$/;

/**
 * Finds the quantizer of EnCodec, Mimi, DAC or vector-quantize-pytorch, also in a whole codec's checkpoint and in the forms of
 * Hugging Face.
 * @throws RvqError INVALID_MODEL that lists what was looked for and what was found
 */
export function importCheckpoint(tensors: Safetensors, options: ImportOptions = {}): ImportedCheckpoint {
  return readCheckpoint(tensors, options, false);
}

/** `complete`: a codec's projections must all be there. */
export function readCheckpoint(tensors: Safetensors, options: ImportOptions, complete: boolean): ImportedCheckpoint {
  if (!(tensors instanceof Safetensors)) throw invalidArgument("tensors", "Safetensors", tensors);
  checkOptions("options", options);
  const metric = options.metric === undefined ? undefined : checkMetric(options.metric);
  for (const names of [...groupNames(tensors), ...known]) {
    const found = names.map((one) => ({ one, layers: findLayers(tensors, one.codebook) }));
    if (found.every(({ layers }) => layers.length === 0)) continue;
    const [{ family }] = names;
    if (metric !== undefined && family !== "vector-quantize-pytorch") {
      throw invalidArgument("metric", `none: that of ${family} is known`, metric);
    }
    const read = found.map(({ one, layers }) => {
      if (layers.length === 0) throw missing(tensors, [one.codebook]);
      return readQuantizers(tensors, one, layers, metric ?? (family === "DAC" ? "cosine" : "l2"), complete);
    });
    const quantizers = read.flatMap((one) => one.quantizers);
    if (names.length === 1) return { family, arrangement: read[0].arrangement, quantizers };
    if (read.some(({ arrangement }) => arrangement !== "single")) {
      throw new RvqError("INVALID_MODEL", `checkpoint: expected plain stages in the groups of ${family}, got others`);
    }
    return { family, arrangement: family === "Mimi" ? "parallel" : "grouped", quantizers };
  }
  throw missing(
    tensors,
    known.flatMap((names) => names.map(({ codebook }) => codebook)),
  );
}

/** The names of a GroupedResidualVQ's groups, where there are some. */
function groupNames(tensors: Safetensors): Names[][] {
  const found = tensors.names.flatMap((name) => groups.exec(name)?.[1] ?? []);
  const count = new Set(found).size;
  if (count === 0) return [];
  return [Array.from({ length: count }, (_, g) => vqNames(String(g), `rvqs.${g}.`, "layers.{i}."))];
}

type Read = Pick<ImportedCheckpoint, "arrangement" | "quantizers">;

function readQuantizers(
  tensors: Safetensors,
  names: Names,
  layers: readonly Layer[],
  metric: Metric,
  complete: boolean,
): Read {
  refuseUnknown(tensors, names, layers[0].prefix);
  const codebooks = layers.map((layer) => {
    const usage = names.usage && nameIn(layer, names.usage);
    return readCodebook(tensors, nameIn(layer, names.codebook), usage);
  });
  const projection = (pattern: string, layer: Layer, needed: boolean) => {
    const name = nameIn(layer, pattern);
    const read = readProjection(tensors, name);
    if (read === null && needed && complete) throw missing(tensors, projectionNames(name));
    return read;
  };
  const pair = (of: ProjectionPair | undefined, layer: Layer) => ({
    input: of === undefined ? null : projection(of.input, layer, of.needed),
    output: of === undefined ? null : projection(of.output, layer, of.needed),
  });
  const around = pair(names.around, layers[0]);
  const aroundStages = layers.map((layer) => pair(names.aroundStages, layer));
  const projected = [around, ...aroundStages].some(({ input, output }) => input !== null || output !== null);

  const [{ heads }] = codebooks;
  const bad = codebooks.findIndex((codebook) => codebook.heads.length !== heads.length);
  if (bad >= 0)
    throw wrong(nameIn(layers[bad], names.codebook), `${heads.length} heads`, String(codebooks[bad].heads.length));
  if (heads.length > 1) {
    // Their slices would be those of the projected vector.
    if (projected) throw wrong(nameIn(layers[0], names.codebook), "one head behind projections", String(heads.length));
    const quantizers = heads.map((_, h) => quantizerOf(names, layers, codebooks, h, metric, around));
    return { arrangement: "grouped", quantizers: quantizers.map((one, h) => ({ ...one, name: String(h) })) };
  }
  const perStage =
    names.aroundStages?.needed || aroundStages.some(({ input, output }) => input !== null || output !== null);
  if (!perStage)
    return { arrangement: "single", quantizers: [quantizerOf(names, layers, codebooks, 0, metric, around)] };
  if (around.input !== null || around.output !== null) {
    throw wrong(nameIn(layers[0], names.codebook), "projections around all stages or around every one", "both");
  }
  const quantizers = layers.map((layer, i) => ({
    ...quantizerOf(names, [layer], [codebooks[i]], 0, metric, aroundStages[i]),
    name: String(i),
  }));
  return { arrangement: "residual", quantizers };
}

function quantizerOf(
  names: Names,
  layers: readonly Layer[],
  codebooks: readonly Codebook[],
  head: number,
  metric: Metric,
  { input, output }: Pick<ImportedQuantizer, "input" | "output">,
): ImportedQuantizer {
  const [{ dim }] = codebooks;
  const other = codebooks.findIndex((codebook) => codebook.dim !== dim);
  if (other >= 0) {
    throw wrong(nameIn(layers[other], names.codebook), `rows of ${dim}`, `rows of ${codebooks[other].dim}`);
  }
  return { name: names.quantizer, dim, codebooks: codebooks.map(({ heads }) => heads[head]), metric, input, output };
}

function refuseUnknown(tensors: Safetensors, { unknown = {} }: Names, prefix: string): void {
  for (const [start, what] of Object.entries(unknown)) {
    const name = tensors.names.find((one) => one.startsWith(prefix + start));
    if (name !== undefined) throw new RvqError("INVALID_MODEL", `checkpoint: expected no ${what}, got ${name}`);
  }
}
