// Cluster: gives work to many processes, or does it in this one, with the same files and bytes in the end.

import { checkInteger } from "../check.js";
import { openBackend } from "../open-backend.js";
import type { BackendChoiceOptions } from "../quantizer-options.js";
import type { ResidualQuantizer } from "../residual-quantizer.js";
import { type ClusterEncodeOptions, type CorpusManifest, encodeCorpus } from "./encode-corpus.js";
import { type FolderOptions, SharedFolders } from "./folders.js";
import { type JobRunner, LocalRunner } from "./job-runner.js";
import { QueueRunner } from "./queue-runner.js";
import type { QueueOptions } from "./redis.js";
import { type ClusterTrainOptions, trainOnCluster } from "./train-codebooks.js";

export interface LocalClusterOptions extends FolderOptions, BackendChoiceOptions {}

export interface ClusterOptions extends LocalClusterOptions, QueueOptions {
  /** How often a job may fail, by errors that may pass, before the run does. Default 3. */
  readonly attempts?: number;
  /** The wait before the second attempt in ms; it doubles each time. Default 1000. */
  readonly backoffMs?: number;
}

export class Cluster {
  private constructor(
    private readonly folders: SharedFolders,
    private readonly runner: JobRunner,
    private readonly choice: BackendChoiceOptions,
  ) {}

  /**
   * A cluster of the workers that serve a queue (`ClusterWorker.start`), now or later.
   * @throws RvqError PEER_MISSING, INVALID_ARGUMENT, BACKEND_UNAVAILABLE, IO; CLUSTER where there is no Redis
   */
  static async open(options: ClusterOptions): Promise<Cluster> {
    const folders = await SharedFolders.open(options);
    const { backend, threads, attempts = 3, backoffMs = 1000 } = options;
    openBackend(backend, threads);
    checkInteger("attempts", attempts, 1, 1000);
    checkInteger("backoffMs", backoffMs, 0, 2 ** 31 - 1);
    return new Cluster(folders, await QueueRunner.open(options, attempts, backoffMs), { backend, threads });
  }

  /**
   * The same in this process alone, without Redis.
   * @throws RvqError INVALID_ARGUMENT, BACKEND_UNAVAILABLE, IO
   */
  static async local(options: LocalClusterOptions): Promise<Cluster> {
    const folders = await SharedFolders.open(options);
    const { backend, threads } = options;
    openBackend(backend, threads);
    return new Cluster(folders, new LocalRunner(folders, { backend, threads }), { backend, threads });
  }

  /**
   * Encodes the rows of inputs (`.npy` files of float32 [rows][dim], or raw little-endian float32), named relative to the folder of
   * inputs, into files of codes with a manifest. Parts that an earlier run has made, and that are sound, are kept.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, ZERO_VECTOR, IO; CLUSTER; the signal's reason when aborted
   */
  encode(
    quantizer: ResidualQuantizer,
    inputs: readonly string[],
    options: ClusterEncodeOptions,
  ): Promise<CorpusManifest> {
    return encodeCorpus(this.folders, this.runner, quantizer, inputs, options);
  }

  /**
   * Trains codebooks on the rows of inputs: the bytes of `ResidualQuantizer.train` on all of them. A run that was cut off goes on.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, IO; CLUSTER; the signal's reason when aborted
   */
  train(inputs: readonly string[], options: ClusterTrainOptions): Promise<ResidualQuantizer> {
    return trainOnCluster(this.folders, this.runner, this.choice, inputs, options);
  }

  /** Closes the connections; runs under way end with an error. */
  close(): Promise<void> {
    return this.runner.close();
  }
}
