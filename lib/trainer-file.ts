// The checkpoint of a trainer, in the envelope of lib/sealed-bytes.ts: everything that decides the bytes of all later steps.
//
// Header { dim, metric, codebookSizes, weighted, rule, steps, random, metadata }; then weights[D], float32, only where `weighted`;
// then of each stage usage[K] and averages[K][D], float64, and codebook[K][D], float32.
//
// Of a product form also `groups`, the widths, and `codebookSizes` and `random` are lists with an entry for each group; the stages of
// one group follow those of another, D being its width.

import {
  checkCodebooks,
  checkInteger,
  checkMetadata,
  checkMetric,
  checkRequiredOptions,
  checkWeights,
  limits,
} from "./check.js";
import { checkGroups, neighbouringColumns } from "./column-groups.js";
import { invalidArgument } from "./errors.js";
import type { StageState } from "./moving-average.js";
import { openBytes, type SealedArrays, type SealedFormat, sealBytes } from "./sealed-bytes.js";
import { checkLearning, type LearningOptions } from "./trainer-options.js";
import type { TrainerPart } from "./training-step.js";

export interface Checkpoint {
  /** groups[G], the widths; null: not a product form. */
  readonly groups: readonly number[] | null;
  /** One a group: of the same metric, rule, number of stages and steps. */
  readonly parts: readonly TrainerPart[];
  readonly metadata: Readonly<Record<string, unknown>>;
}

const format: SealedFormat = { magic: "RVQT", version: 1, what: "a trainer's checkpoint", code: "INVALID_CHECKPOINT" };

export function checkpointToBytes({ groups, parts, metadata }: Checkpoint): Uint8Array {
  const { metric, weights, rule } = parts[0].model;
  const sizes = parts.map(({ state }) => state.stages.map(({ usage }) => usage.length));
  const randoms = parts.map(({ state }) => state.random);
  const header = {
    dim: parts.reduce((sum, { model }) => sum + model.dim, 0),
    ...(groups === null ? {} : { groups }),
    metric,
    codebookSizes: groups === null ? sizes[0] : sizes,
    weighted: weights !== null,
    rule,
    steps: parts[0].state.steps,
    random: groups === null ? randoms[0] : randoms,
    metadata,
  };
  const stages = parts.flatMap(({ state }) => state.stages);
  const arrays = stages.flatMap(({ usage, averages, codebook }) => [usage, averages, codebook]);
  return sealBytes(format, header, [...parts.flatMap(({ model }) => model.weights ?? []), ...arrays]);
}

/** @throws RvqError INVALID_CHECKPOINT; nothing larger than the input is allocated */
export function checkpointFromBytes(name: string, bytes: Uint8Array): Checkpoint {
  return openBytes(format, name, bytes, (header, arrays) => {
    const dim = checkInteger("dim", header.dim, 1, limits.dim);
    const groups = header.groups === undefined ? null : checkWidths(header.groups, dim);
    const metric = checkMetric(header.metric);
    const lists =
      groups === null ? [header.codebookSizes] : checkPerGroup("codebookSizes", header.codebookSizes, groups);
    const sizes = lists.map(checkSizes);
    if (sizes.some((own) => own.length !== sizes[0].length)) {
      throw invalidArgument("codebookSizes", "as many stages in every group", "others");
    }
    const weighted = header.weighted === true;
    checkRequiredOptions("rule", header.rule);
    const rule = checkLearning(header.rule as LearningOptions, sizes[0].length);
    const steps = checkInteger("steps", header.steps, 0, Number.MAX_SAFE_INTEGER);
    const randoms = groups === null ? [header.random] : checkPerGroup("random", header.random, groups);
    const random = randoms.map(checkRandom);
    const metadata = checkMetadata(header.metadata);
    const columns = neighbouringColumns(groups ?? [dim]);
    const stageBytes = sizes.map((own, g) => own.reduce((sum, size) => sum + size * (8 + 12 * columns[g].width), 0));
    arrays.expect(stageBytes.reduce((sum, length) => sum + length, weighted ? 4 * dim : 0));

    const weights = checkWeights(weighted ? arrays.float32(dim) : null, dim, metric);
    const parts = columns.map(({ from, width }, group): TrainerPart => {
      const stages = sizes[group].map((size) => readStage(arrays, size, width));
      checkCodebooks(
        stages.map(({ codebook }) => codebook),
        width,
        metric,
      );
      const own = weights?.slice(from, from + width) ?? null;
      return { model: { dim: width, metric, weights: own, rule }, state: { steps, random: random[group], stages } };
    });
    return { groups, parts, metadata };
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

function checkWidths(value: unknown, dim: number): readonly number[] {
  if (!Array.isArray(value)) throw invalidArgument("groups", "an array of widths", value);
  return checkGroups(value, dim);
}

function checkPerGroup(name: string, value: unknown, groups: readonly number[]): readonly unknown[] {
  if (!Array.isArray(value) || value.length !== groups.length) {
    throw invalidArgument(name, `an array of ${groups.length}, one a group`, value);
  }
  return value;
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
