// The public API of rvq.

export { writeFileAtomic } from "./atomic-file.js";
export type { BackendName, CodeArray, Metric } from "./backend.js";
export type { Codes } from "./check.js";
export type { ChunkOptions } from "./chunks.js";
export { CodebookTrainer } from "./codebook-trainer.js";
export type { DeadBelow } from "./dead-codewords.js";
export type { Description } from "./description.js";
export type { Distortion } from "./distortion.js";
export { RvqError, type RvqErrorCode } from "./errors.js";
export {
  type CommitmentLossOptions,
  codebookLoss,
  commitmentLoss,
  type LossOptions,
  rotationTrickGradient,
  straightThroughGradient,
} from "./losses.js";
export { type AddOptions, mergeRanges, Statistics, vectorRange } from "./mergeable-statistics.js";
export type { AverageForm, Decay } from "./moving-average.js";
export { type BackendChoice, type BackendStatus, type Status, status } from "./open-backend.js";
export { bitsPerCode, packCodes, packedSizeBytes, unpackCodes } from "./pack-codes.js";
export type {
  BackendChoiceOptions,
  CallOptions,
  DecodeOptions,
  DecodeSyncOptions,
  FromCodebooksOptions,
  StageOptions,
} from "./quantizer-options.js";
export { ResidualQuantizer } from "./residual-quantizer.js";
export type { RowOptions } from "./row-options.js";
export type { VectorRange } from "./stage-sums.js";
export type { Usage } from "./statistics.js";
export type { TrainOptions, TrainProgress } from "./train.js";
export type {
  LearningOptions,
  StartTrainerOptions,
  StepOptions,
  TrainerFromCodebooksOptions,
} from "./trainer-options.js";
export type { StageReport, StepResult } from "./training-step.js";
