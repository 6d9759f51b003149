// The options of GroupedQuantizer's creation, and what it says of itself.

import type { Description } from "./description.js";
import type { FromCodebooksOptions } from "./quantizer-options.js";
import type { Seeding } from "./seed-codebook.js";
import type { TrainOptions, TrainProgress } from "./train.js";

export interface GroupOptions {
  /** How many groups of as many dimensions each, or the dimensions of each group, which are neighbours. */
  readonly groups: number | readonly number[];
}

export interface FromGroupedCodebooksOptions extends FromCodebooksOptions, GroupOptions {}

/** Sizes, stages and all else are those of each group. */
export interface GroupedTrainOptions extends Omit<TrainOptions, "init" | "onProgress">, GroupOptions {
  readonly init?: Seeding;
  /** Called after every iteration of every group; errors are those of the group. */
  readonly onProgress?: (progress: GroupedTrainProgress) => void;
}

export interface GroupedTrainProgress extends TrainProgress {
  /** The group in training, from 0. */
  readonly group: number;
  readonly groups: number;
}

/** As of a ResidualQuantizer; `codebookSizes` of every column of the codes, rates for the stages of all groups together. */
export interface GroupedDescription extends Description {
  readonly groups: readonly number[];
}
