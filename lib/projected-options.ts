// The options of ProjectedQuantizer's creation, their checks, and what it says of itself.

import type { CodebookSpec, Metric, Projection } from "./backend.js";
import { firstBadInput } from "./bad-input.js";
import {
  badInput,
  checkCodebooks,
  checkFloat32,
  checkInteger,
  checkMetadata,
  checkMetric,
  checkRequiredOptions,
  limits,
} from "./check.js";
import type { Description } from "./description.js";
import { invalidArgument } from "./errors.js";
import type { BackendChoiceOptions } from "./quantizer-options.js";

/** Residual codebooks with the linear maps around them. */
export interface ProjectedPart {
  /** Of the codewords. */
  readonly dim: number;
  /** codebooks[s], each [K_s][dim]. */
  readonly codebooks: readonly Float32Array[];
  /** From the vectors to what is searched; null (only where the dimensions are the same): none. */
  readonly input: Projection | null;
  /** From the sum of the codewords to the reconstruction; null likewise. */
  readonly output: Projection | null;
}

/**
 * What each part quantizes. "residual": what the reconstructions of the parts before leave over of the vector (DAC). "parallel": the
 * vector itself (Mimi). The reconstruction is the sum of the parts' either way.
 */
export type Arrangement = "residual" | "parallel";

export interface FromPartsOptions extends BackendChoiceOptions {
  /** Of the vectors. */
  readonly dim: number;
  /** Makes no difference with a single part. Default "residual". */
  readonly arrangement?: Arrangement;
  /** By which every part searches. Default "l2". */
  readonly metric?: Metric;
  /** A JSON object that is stored with the model. */
  readonly metadata?: Record<string, unknown>;
}

/** What a ProjectedQuantizer is made of, checked. */
export interface ProjectedSpec {
  readonly dim: number;
  readonly arrangement: Arrangement;
  readonly metric: Metric;
  readonly parts: readonly ProjectedPart[];
}

export interface ProjectedModel {
  readonly spec: ProjectedSpec;
  readonly metadata: Readonly<Record<string, unknown>>;
}

/** As of a ResidualQuantizer, with what is around the codebooks. */
export interface ProjectedDescription extends Description {
  readonly arrangement: Arrangement;
  readonly parts: readonly { readonly dim: number; readonly stages: number }[];
  /** Bytes of all projections in float32. */
  readonly projectionBytes: number;
}

/** Everything is copied. @throws RvqError INVALID_ARGUMENT, NOT_FINITE, ZERO_VECTOR */
export function checkProjectedModel(parts: unknown, options: FromPartsOptions): ProjectedModel {
  checkRequiredOptions("options", options);
  const dim = checkInteger("dim", options.dim, 1, limits.dim);
  const metric = checkMetric(options.metric ?? "l2");
  const arrangement = checkArrangement(options.arrangement ?? "residual");
  if (!Array.isArray(parts)) throw invalidArgument("parts", "an array", parts);
  checkInteger("parts.length", parts.length, 1, limits.stages);
  const checked = Array.from(parts, (part: unknown, p) => checkPart(`parts[${p}]`, part, dim, metric));
  const stages = checked.reduce((sum, { codebooks }) => sum + codebooks.length, 0);
  checkInteger("stages of all parts", stages, 1, limits.stages);
  return { spec: { dim, metric, arrangement, parts: checked }, metadata: checkMetadata(options.metadata) };
}

export function checkArrangement(value: unknown): Arrangement {
  if (value !== "residual" && value !== "parallel") {
    throw invalidArgument("arrangement", '"residual" or "parallel"', value);
  }
  return value;
}

/** The codebooks of a part as a backend takes them. */
export function codebooksOf({ dim, codebooks }: ProjectedPart, metric: Metric): CodebookSpec {
  return { dim, metric, weights: null, codebooks };
}

function checkPart(name: string, value: unknown, vectorDim: number, metric: Metric): ProjectedPart {
  if (typeof value !== "object" || value === null) {
    throw invalidArgument(name, "{ dim, codebooks, input, output }", value);
  }
  const { dim: givenDim, codebooks, input, output } = value as Partial<Record<keyof ProjectedPart, unknown>>;
  const dim = checkInteger(`${name}.dim`, givenDim, 1, limits.dim);
  return {
    dim,
    codebooks: checkCodebooks(codebooks, dim, metric, `${name}.codebooks`),
    input: checkProjection(`${name}.input`, input, vectorDim, dim),
    output: checkProjection(`${name}.output`, output, dim, vectorDim),
  };
}

function checkProjection(name: string, value: unknown, from: number, to: number): Projection | null {
  if (value === undefined || value === null) {
    if (from === to) return null;
    throw invalidArgument(name, `a projection from ${from} to ${to} dimensions`, value);
  }
  if (typeof value !== "object") throw invalidArgument(name, "{ weight, inDim, outDim, bias }", value);
  const { weight, inDim, outDim, bias } = value as Partial<Record<keyof Projection, unknown>>;
  if (inDim !== from) throw invalidArgument(`${name}.inDim`, `${from}, of what it is applied to`, inDim);
  if (outDim !== to) throw invalidArgument(`${name}.outDim`, `${to}, of what it leads to`, outDim);
  return {
    inDim: from,
    outDim: to,
    weight: checkNumbers(`${name}.weight`, weight, from * to, from),
    bias: bias === undefined || bias === null ? null : checkNumbers(`${name}.bias`, bias, to, to),
  };
}

/** A copy of finite numbers[…][width]. */
function checkNumbers(name: string, value: unknown, length: number, width: number): Float32Array {
  const numbers = checkFloat32(name, value);
  if (numbers.length !== length) throw invalidArgument(name, `${length} elements`, numbers.length);
  const bad = firstBadInput(numbers, width, false);
  if (bad !== null) throw badInput(name, bad, 0, numbers[bad.row * width + bad.column]);
  return numbers.slice();
}
