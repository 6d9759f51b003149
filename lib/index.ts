// The public API of rvq.

export { writeFileAtomic } from "./atomic-file.js";
export type { BackendName, CodeArray, Metric } from "./backend.js";
export type { Codes } from "./check.js";
export type { ChunkOptions } from "./chunks.js";
export { RvqError, type RvqErrorCode } from "./errors.js";
export { type BackendChoice, type BackendStatus, type Status, status } from "./open-backend.js";
export { bitsPerCode, packCodes, packedSizeBytes, unpackCodes } from "./pack-codes.js";
export {
  type BackendChoiceOptions,
  type CallOptions,
  type Description,
  type Distortion,
  type FromCodebooksOptions,
  ResidualQuantizer,
  type StageOptions,
} from "./residual-quantizer.js";
export type { Usage } from "./statistics.js";
export type { TrainOptions, TrainProgress } from "./train.js";
