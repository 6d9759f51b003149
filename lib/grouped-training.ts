// The quantizers of a product form, one a group: trained, refined, or from given codebooks.

import type { CodebookSpec } from "./backend.js";
import {
  checkFunction,
  checkInteger,
  checkMetadata,
  checkMetric,
  checkRequiredOptions,
  checkVectors,
  checkWeights,
  limits,
} from "./check.js";
import { checkGroups, neighbouringColumns } from "./column-groups.js";
import { invalidArgument } from "./errors.js";
import { checkGroupedContent, columnsInSlices } from "./group-layout.js";
import { checkAlike } from "./grouped-model-file.js";
import type { FromGroupedCodebooksOptions, GroupedTrainOptions } from "./grouped-options.js";
import type { RefineOptions } from "./refine.js";
import { ResidualQuantizer } from "./residual-quantizer.js";
import { inSlices } from "./time-slice.js";

export interface GroupedParts {
  /** One a group. */
  readonly quantizers: readonly ResidualQuantizer[];
  readonly metadata: Readonly<Record<string, unknown>>;
}

/** `GroupedQuantizer.train`. */
export async function trainGroups(vectors: unknown, options: GroupedTrainOptions): Promise<GroupedParts> {
  checkRequiredOptions("options", options);
  const { groups: given, onProgress, metadata, ...training } = options;
  const dim = checkInteger("dim", training.dim, 1, limits.dim);
  const widths = checkGroups(given, dim);
  const metric = checkMetric(training.metric ?? "l2");
  const weights = checkWeights(training.weights, dim, metric);
  const seed = checkInteger("seed", training.seed ?? 0, 0, Number.MAX_SAFE_INTEGER - limits.groups);
  const checked = checkMetadata(metadata);
  checkFunction("onProgress", onProgress);
  const columnGroups = neighbouringColumns(widths);
  // A copy, so that the caller may have them back.
  const plain = checkVectors("vectors", vectors, dim).slice();
  await inSlices(plain.length, dim, (from, to) =>
    checkGroupedContent("vectors", plain.subarray(from, to), columnGroups, metric, from / dim),
  );

  const quantizers: ResidualQuantizer[] = [];
  for (const [group, columns] of columnGroups.entries()) {
    const rq = await ResidualQuantizer.train(await columnsInSlices(plain, dim, columns), {
      ...training,
      dim: columns.width,
      weights: weights?.slice(columns.from, columns.from + columns.width),
      seed: seed + group,
      onProgress: (progress) => onProgress?.({ ...progress, group, groups: widths.length }),
    });
    quantizers.push(rq);
  }
  return { quantizers, metadata: checked };
}

/** `GroupedQuantizer.fromCodebooks`. */
export function groupsFromCodebooks(codebooks: unknown, options: FromGroupedCodebooksOptions): GroupedParts {
  checkRequiredOptions("options", options);
  const { groups: given, weights: givenWeights, metadata, ...choice } = options;
  const dim = checkInteger("dim", choice.dim, 1, limits.dim);
  const widths = checkGroups(given, dim);
  const weights = checkWeights(givenWeights, dim, choice.metric ?? "l2");
  if (!Array.isArray(codebooks) || codebooks.length !== widths.length) {
    throw invalidArgument("codebooks", `an array of ${widths.length}, one list of codebooks a group`, codebooks);
  }
  const quantizers = neighbouringColumns(widths).map(({ from, width }, group) => {
    const part = weights?.slice(from, from + width);
    return ResidualQuantizer.fromCodebooks(codebooks[group], { ...choice, dim: width, weights: part });
  });
  checkAlike(quantizers.map(specOf));
  return { quantizers, metadata: checkMetadata(metadata) };
}

/** `GroupedQuantizer.refine` of quantizers that have `dim` dimensions in all. */
export async function refineGroups(
  quantizers: readonly ResidualQuantizer[],
  vectors: unknown,
  options: RefineOptions,
): Promise<ResidualQuantizer[]> {
  const columnGroups = neighbouringColumns(quantizers.map(({ dim }) => dim));
  const dim = columnGroups.reduce((sum, { width }) => sum + width, 0);
  const plain = checkVectors("vectors", vectors, dim).slice();
  await inSlices(plain.length, dim, (from, to) =>
    checkGroupedContent("vectors", plain.subarray(from, to), columnGroups, quantizers[0].metric, from / dim),
  );
  const refined: ResidualQuantizer[] = [];
  for (const [group, rq] of quantizers.entries()) {
    refined.push(await rq.refine(await columnsInSlices(plain, dim, columnGroups[group]), options));
  }
  return refined;
}

export function specOf(rq: ResidualQuantizer): CodebookSpec {
  return { dim: rq.dim, metric: rq.metric, weights: rq.weights(), codebooks: rq.codebooks() };
}
