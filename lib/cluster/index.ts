// The public API of rvq/cluster: corpora encoded and codebooks trained by many processes, with BullMQ on Redis between them.

export { Cluster, type ClusterOptions, type LocalClusterOptions } from "./cluster.js";
export { ClusterWorker, type ClusterWorkerOptions, type JobEvent } from "./cluster-worker.js";
export type { ClusterEncodeOptions, CodesFormat, CorpusManifest, CorpusPart } from "./encode-corpus.js";
export type { FolderOptions, InputOpener, InputSource } from "./folders.js";
export type { PartCoding } from "./job.js";
export type { ClusterProgress, RunOptions } from "./job-runner.js";
export type { QueueOptions } from "./redis.js";
export type { ClusterTrainOptions, ClusterTrainProgress } from "./train-codebooks.js";
