// A quantizer that encodes and decodes as a codec's own does, from the codec's checkpoint in one call.

import { checkCodebooks, checkMetadata } from "../check.js";
import { invalidArgument, RvqError } from "../errors.js";
import { GroupedQuantizer } from "../grouped-quantizer.js";
import type { AnyQuantizer } from "../load-quantizer.js";
import { checkProjectedModel } from "../projected-options.js";
import { ProjectedQuantizer } from "../projected-quantizer.js";
import type { BackendChoiceOptions } from "../quantizer-options.js";
import { ResidualQuantizer } from "../residual-quantizer.js";
import { type ImportedCheckpoint, type ImportedQuantizer, type ImportOptions, readCheckpoint } from "./checkpoints.js";
import type { Safetensors } from "./safetensors.js";

export interface FromCheckpointOptions extends ImportOptions, BackendChoiceOptions {
  /** Only the quantizer of this name of several, with its own projections. */
  readonly quantizer?: string;
  /** A JSON object that is stored with the model. */
  readonly metadata?: Record<string, unknown>;
}

/**
 * The quantizer of EnCodec, Mimi, DAC or vector-quantize-pytorch. A ResidualQuantizer where there is nothing around the codebooks, a
 * GroupedQuantizer for several heads and for GroupedResidualVQ, else a ProjectedQuantizer, whose codes are in the codec's order.
 * @throws RvqError INVALID_MODEL that says what was looked for and what was found; INVALID_ARGUMENT, BACKEND_UNAVAILABLE
 */
export function quantizerFromCheckpoint(tensors: Safetensors, options: FromCheckpointOptions = {}): AnyQuantizer {
  return quantizerOf(readCheckpoint(tensors, options, true), options);
}

/** Of a checkpoint that was read as a complete one. */
export function quantizerOf(checkpoint: ImportedCheckpoint, options: FromCheckpointOptions): AnyQuantizer {
  const { backend, threads, device } = options;
  const metadata = checkMetadata(options.metadata);
  const { arrangement, quantizers } = chosen(checkpoint, options.quantizer);
  const [{ metric, dim: firstDim, codebooks, input, output }] = quantizers;
  const choice = { metric, metadata, backend, threads, device };
  const projected = quantizers.some((one) => one.input !== null || one.output !== null);

  if (arrangement === "grouped") {
    if (projected) throw unsound(checkpoint, "groups without projections", "groups with some");
    const dims = quantizers.map(({ dim }) => dim);
    const given = quantizers.map((one) => one.codebooks);
    sound(checkpoint, () => given.map((one, g) => checkCodebooks(one, dims[g], metric, `codebooks[${g}]`)));
    const stages = new Set(given.map(({ length }) => length));
    if (stages.size > 1) throw unsound(checkpoint, "as many stages in every group", [...stages].join(", "));
    const dim = dims.reduce((sum, one) => sum + one, 0);
    return GroupedQuantizer.fromCodebooks(given, { ...choice, dim, groups: dims });
  }
  if (!projected && quantizers.length === 1) {
    sound(checkpoint, () => checkCodebooks(codebooks, firstDim, metric));
    return ResidualQuantizer.fromCodebooks(codebooks, { ...choice, dim: firstDim });
  }
  const dim = input?.inDim ?? output?.outDim ?? firstDim;
  const parts = { ...choice, dim, arrangement: arrangement === "single" ? undefined : arrangement };
  sound(checkpoint, () => checkProjectedModel(quantizers, parts));
  return ProjectedQuantizer.fromParts(quantizers, parts);
}

function chosen(checkpoint: ImportedCheckpoint, name: string | undefined): Omit<ImportedCheckpoint, "family"> {
  if (name === undefined) return checkpoint;
  const found: ImportedQuantizer | undefined = checkpoint.quantizers.find((one) => one.name === name);
  if (found !== undefined) return { arrangement: "single", quantizers: [found] };
  const names = checkpoint.quantizers.map((one) => one.name).join(", ");
  throw invalidArgument("quantizer", `one of ${names} in this checkpoint of ${checkpoint.family}`, name);
}

/** What a check of contents finds is wrong with the checkpoint, not with an argument. */
function sound(checkpoint: ImportedCheckpoint, check: () => unknown): void {
  try {
    check();
  } catch (cause) {
    if (!(cause instanceof RvqError)) throw cause;
    throw new RvqError("INVALID_MODEL", `checkpoint of ${checkpoint.family}: ${cause.message}`, { cause });
  }
}

function unsound({ family }: ImportedCheckpoint, expected: string, got: string): RvqError {
  return new RvqError("INVALID_MODEL", `checkpoint of ${family}: expected ${expected}, got ${got}`);
}
