// The checkpoint of a trainer, in the envelope of lib/sealed-bytes.ts: everything that decides the bytes of all later steps.
//
// Header { dim, metric, codebookSizes, weighted, rule, steps, random, metadata }; then weights[D], float32, only where `weighted`;
// then of each stage usage[K] and averages[K][D], float64, and codebook[K][D], float32.

import {
  checkCodebooks,
  checkInteger,
  checkMetadata,
  checkMetric,
  checkOptions,
  checkWeights,
  limits,
} from "./check.js";
import { invalidArgument } from "./errors.js";
import type { StageState } from "./moving-average.js";
import { openBytes, type SealedArrays, type SealedFormat, sealBytes } from "./sealed-bytes.js";
import { checkLearning, type LearningOptions } from "./trainer-options.js";
import type { TrainerModel, TrainerState } from "./training-step.js";

export interface Checkpoint {
  readonly model: TrainerModel;
  readonly state: TrainerState;
  readonly metadata: Readonly<Record<string, unknown>>;
}

const format: SealedFormat = { magic: "RVQT", version: 1, what: "a trainer's checkpoint", code: "INVALID_CHECKPOINT" };

export function checkpointToBytes({ model, state, metadata }: Checkpoint): Uint8Array {
  const { dim, metric, weights, rule } = model;
  const header = {
    dim,
    metric,
    codebookSizes: state.stages.map(({ usage }) => usage.length),
    weighted: weights !== null,
    rule,
    steps: state.steps,
    random: state.random,
    metadata,
  };
  const arrays = state.stages.flatMap(({ usage, averages, codebook }) => [usage, averages, codebook]);
  return sealBytes(format, header, weights === null ? arrays : [weights, ...arrays]);
}

/** @throws RvqError INVALID_CHECKPOINT; nothing larger than the input is allocated */
export function checkpointFromBytes(name: string, bytes: Uint8Array): Checkpoint {
  return openBytes(format, name, bytes, (header, arrays) => {
    const dim = checkInteger("dim", header.dim, 1, limits.dim);
    const metric = checkMetric(header.metric);
    const sizes = checkSizes(header.codebookSizes);
    const weighted = header.weighted === true;
    checkOptions("rule", header.rule ?? null);
    const rule = checkLearning(header.rule as LearningOptions, sizes.length);
    const steps = checkInteger("steps", header.steps, 0, Number.MAX_SAFE_INTEGER);
    const random = checkRandom(header.random);
    const metadata = checkMetadata(header.metadata);
    const codewords = sizes.reduce((sum, size) => sum + size, 0);
    arrays.expect(codewords * (8 + 12 * dim) + (weighted ? 4 * dim : 0));

    const weights = checkWeights(weighted ? arrays.float32(dim) : null, dim, metric);
    const stages = sizes.map((size) => readStage(arrays, size, dim));
    const codebooks = stages.map(({ codebook }) => codebook);
    checkCodebooks(codebooks, dim, metric);
    return { model: { dim, metric, weights, rule }, state: { steps, random, stages }, metadata };
  });
}

function readStage(arrays: SealedArrays, size: number, dim: number): StageState {
  const usage = arrays.float64(size);
  const averages = arrays.float64(size * dim);
  const codebook = arrays.float32(size * dim);
  if (!usage.every((n) => n >= 0 && n < Infinity)) throw invalidArgument("usage", "finite numbers ≥ 0", "others");
  if (!averages.every(Number.isFinite)) throw invalidArgument("averages", "finite numbers", "others");
  return { usage, averages, codebook };
}

function checkRandom(value: unknown): number[] {
  if (!Array.isArray(value) || value.length !== 4) throw invalidArgument("random", "four 32-bit words", value);
  const words = value.map((word: unknown, i) => checkInteger(`random[${i}]`, word, 0, 2 ** 32 - 1));
  if (words.every((word) => word === 0)) throw invalidArgument("random", "a word that is not zero", "zeros");
  return words;
}

function checkSizes(value: unknown): number[] {
  if (!Array.isArray(value)) throw invalidArgument("codebookSizes", "an array", value);
  checkInteger("codebookSizes.length", value.length, 1, limits.stages);
  return value.map((size, stage) => checkInteger(`codebookSizes[${stage}]`, size, 1, limits.codebookSize));
}
