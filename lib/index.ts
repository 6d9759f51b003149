// The public API of rvq.

export { writeFileAtomic } from "./atomic-file.js";
export type { BackendName, CodeArray, Metric } from "./backend.js";
export type { Codes } from "./check.js";
export type { ChunkOptions } from "./chunks.js";
export type { Description } from "./description.js";
export type { Distortion } from "./distortion.js";
export { RvqError, type RvqErrorCode } from "./errors.js";
export type {
  FromGroupedCodebooksOptions,
  GroupedDescription,
  GroupedTrainOptions,
  GroupedTrainProgress,
  GroupOptions,
} from "./grouped-options.js";
export { GroupedQuantizer } from "./grouped-quantizer.js";
export { type BackendChoice, type BackendStatus, type Status, status } from "./open-backend.js";
export { bitsPerCode, packCodes, packedSizeBytes, unpackCodes } from "./pack-codes.js";
export type {
  BackendChoiceOptions,
  CallOptions,
  DecodeOptions,
  DecodeSyncOptions,
  EncodeOptions,
  EncodeSyncOptions,
  FromCodebooksOptions,
  StageOptions,
} from "./quantizer-options.js";
export type { RefineOptions, RefineProgress } from "./refine.js";
export { ResidualQuantizer } from "./residual-quantizer.js";
export type { Usage } from "./statistics.js";
export type { TrainOptions, TrainProgress } from "./train.js";
export type { BatchSource, BatchTrainOptions, BatchTrainProgress } from "./train-batches.js";
