// The public API of rvq.

export { writeFileAtomic } from "./atomic-file.js";
export type { BackendName, CodeArray, Metric, Projection } from "./backend.js";
export type { BalancedOptions } from "./balanced-codes.js";
export type { BatchMetrics } from "./batching/batch-runner.js";
export type {
  BatchedDecodeOptions,
  BatchedEncodeOptions,
  Batcher,
  BatcherMetrics,
  BatcherOptions,
} from "./batching/batcher.js";
export type { Histogram } from "./batching/histogram.js";
export { type RvqBytesOptions, rvqBytes } from "./bitstream/byte-pieces.js";
export type { ByteSource } from "./bitstream/byte-source.js";
export type { Frames } from "./bitstream/chunk.js";
export type { Coding } from "./bitstream/code-coder.js";
export { type CodeTables, codeTables, tablesFromBytes, tablesToBytes } from "./bitstream/code-tables.js";
export { compressCodes, expandCodes } from "./bitstream/compress-codes.js";
export type { Damage } from "./bitstream/open-stream.js";
export {
  type ChunkFacts,
  type ReadChunk,
  type ReadOptions,
  type ReadRangeOptions,
  RvqReader,
} from "./bitstream/reader.js";
export type { CodingOptions } from "./bitstream/sections.js";
export type { UnpackOptions } from "./bitstream/stream-decoder.js";
export type { ChunkingOptions, RvqOptions, WritableCodes } from "./bitstream/stream-encoder.js";
export type { StreamHeader } from "./bitstream/stream-header.js";
export { trimRvq } from "./bitstream/trim.js";
export { RvqWriter, rvqToBytes } from "./bitstream/writer.js";
export type { Codes } from "./check.js";
export type { ChunkOptions } from "./chunks.js";
export { CodebookTrainer } from "./codebook-trainer.js";
export type { CountedCodes } from "./counted-codes.js";
export type { CudaDevice } from "./cuda/addon.js";
export type { DeadBelow } from "./dead-codewords.js";
export type { DescribeOptions, Description } from "./description.js";
export { type DeviceArray, DeviceCodes, DeviceVectors } from "./device/device-arrays.js";
export type {
  DeviceEncodeOptions,
  DeviceQuantizer,
  DeviceStatistics,
  DeviceStatisticsOptions,
} from "./device/device-quantizer.js";
export {
  type CallEvent,
  type CodingEvent,
  type FallbackEvent,
  recordPerformance,
  type TrainEvent,
} from "./diagnostics.js";
export type { Distortion } from "./distortion.js";
export { RvqError, type RvqErrorCode } from "./errors.js";
export { frameErrors } from "./frame-errors.js";
export type {
  FromGroupedCodebooksOptions,
  GroupedDescription,
  GroupedTrainOptions,
  GroupedTrainProgress,
  GroupOptions,
} from "./grouped-options.js";
export { GroupedQuantizer } from "./grouped-quantizer.js";
export {
  type ImportedCheckpoint,
  type ImportedQuantizer,
  type ImportOptions,
  importCheckpoint,
} from "./interop/checkpoints.js";
export { type Ecdc, type EcdcModel, type EcdcSegment, readEcdc, writeEcdc } from "./interop/ecdc.js";
export { readNpy, writeNpy } from "./interop/npy.js";
export { type FromCheckpointOptions, quantizerFromCheckpoint } from "./interop/quantizer-from-checkpoint.js";
export { Safetensors, writeSafetensors } from "./interop/safetensors.js";
export type { Tensor } from "./interop/tensor.js";
export { type AnyQuantizer, loadQuantizer, quantizerFromBytes } from "./load-quantizer.js";
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
export {
  type BackendChoice,
  type BackendStatus,
  type CudaStatus,
  type NativeStatus,
  type Status,
  status,
} from "./open-backend.js";
export { packCodes, unpackCodes } from "./pack-codes.js";
export { bitsPerCode, type PackOptions, packedSizeBytes } from "./pack-layout.js";
export type { Arrangement, FromPartsOptions, ProjectedDescription, ProjectedPart } from "./projected-options.js";
export { ProjectedQuantizer } from "./projected-quantizer.js";
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
export { type AllocateOptions, type Allocation, allocateStages, type Plan, type PlanOptions } from "./rate-control.js";
export type { RefineOptions, RefineProgress } from "./refine.js";
export { ResidualQuantizer } from "./residual-quantizer.js";
export type { RowOptions } from "./row-options.js";
export {
  CodeIndex,
  type IndexOptions,
  type Neighbours,
  type SearchMetric,
  type SearchOptions,
} from "./search/code-index.js";
export type { Seeding } from "./seed-codebook.js";
export type { VectorRange } from "./stage-sums.js";
export type { Usage } from "./statistics.js";
export {
  asDuplex,
  asTransformStream,
  decodeStream,
  encodeStream,
  packStream,
  type StreamCallOptions,
  type StreamQuantizer,
  type StreamStep,
  unpackStream,
} from "./streams.js";
export type { TrainOptions, TrainProgress } from "./train.js";
export type { BatchSource, BatchTrainOptions, BatchTrainProgress } from "./train-batches.js";
export type {
  LearningOptions,
  StartProgress,
  StartTrainerOptions,
  StepOptions,
  TrainerFromCodebooksOptions,
  TrainerGroupOptions,
} from "./trainer-options.js";
export type { StageReport, StepResult } from "./training-step.js";
