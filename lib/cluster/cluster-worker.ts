// ClusterWorker: a process that takes jobs from the queue and runs them.

import type { Job, Worker } from "bullmq";
import { checkFunction, checkInteger } from "../check.js";
import { openBackend } from "../open-backend.js";
import type { BackendChoiceOptions } from "../quantizer-options.js";
import { loadBullmq } from "./bullmq.js";
import { type FolderOptions, SharedFolders } from "./folders.js";
import { type ClusterJob, checkJob, rowsOf } from "./job.js";
import { ModelCache } from "./job-outputs.js";
import {
  breakOff,
  checkQueueOptions,
  closeGently,
  failureOf,
  farewellMs,
  type QueueConnection,
  type QueueOptions,
  within,
} from "./redis.js";
import { runJob } from "./run-job.js";

export interface ClusterWorkerOptions extends FolderOptions, QueueOptions, BackendChoiceOptions {
  /** Jobs at a time. Default 1: a job uses all `threads`. */
  readonly concurrency?: number;
  /** After this long without a sign of life a worker counts as gone, and others take its jobs, in ms. Default 30,000. */
  readonly lockMs?: number;
  /** Called when a job starts and when it ends. */
  readonly onJob?: (event: JobEvent) => void;
}

export interface JobEvent {
  readonly state: "started" | "done" | "failed" | "given back";
  readonly kind: ClusterJob["kind"];
  /** The file that the job makes. */
  readonly output: string;
  readonly rows: number;
  readonly elapsedMs: number;
  /** Why it failed. */
  readonly error?: Error;
}

/** How often a job may lose its worker: what kills every worker that takes it must end some time. */
const mostStalls = 3;

export class ClusterWorker {
  private readonly stopping = new AbortController();
  private readonly underWay = new Set<Promise<unknown>>();
  private readonly worker: Worker;

  private constructor(
    private readonly connection: QueueConnection,
    private readonly bullmq: ReturnType<typeof loadBullmq>,
    private readonly folders: SharedFolders,
    private readonly models: ModelCache,
    private readonly options: ClusterWorkerOptions,
    concurrency: number,
    lockMs: number,
  ) {
    this.worker = new bullmq.Worker(connection.queue, (job, token) => this.track(this.process(job, token)), {
      connection: connection.connection,
      concurrency,
      lockDuration: lockMs,
      stalledInterval: Math.ceil(lockMs / 2),
      maxStalledCount: mostStalls,
    });
    // A lost connection comes back, and so does the work.
    this.worker.on("error", () => {});
  }

  /** @throws RvqError PEER_MISSING, INVALID_ARGUMENT, BACKEND_UNAVAILABLE, IO; CLUSTER where there is no Redis */
  static async start(options: ClusterWorkerOptions): Promise<ClusterWorker> {
    const connection = checkQueueOptions(options);
    const concurrency = checkInteger("concurrency", options.concurrency ?? 1, 1, 1024);
    const lockMs = checkInteger("lockMs", options.lockMs ?? 30_000, 100, 2 ** 31 - 1);
    checkFunction("onJob", options.onJob);
    openBackend(options.backend, options.threads);
    const bullmq = loadBullmq();
    const folders = await SharedFolders.open(options);
    const models = new ModelCache(folders, options);
    const started = new ClusterWorker(connection, bullmq, folders, models, options, concurrency, lockMs);
    try {
      await within(connection, started.worker.waitUntilReady());
      return started;
    } catch (error) {
      await breakOff(started.worker);
      throw error;
    }
  }

  /** Takes no more jobs and ends when those under way are done; with `abort` they are given back for others to do. */
  async close({ abort = false }: { readonly abort?: boolean } = {}): Promise<void> {
    if (abort) this.stopping.abort(new Error("the worker is closing"));
    const paused = this.worker.pause(true).catch(() => {});
    const idle = Promise.allSettled([...this.underWay]);
    await (abort ? within({ patienceMs: farewellMs }, idle).catch(() => {}) : idle);
    await within({ patienceMs: farewellMs }, paused).catch(() => {});
    await closeGently(this.worker);
  }

  private track(work: Promise<unknown>): Promise<unknown> {
    this.underWay.add(work);
    const forget = () => this.underWay.delete(work);
    work.then(forget, forget);
    return work;
  }

  private async process(job: Job, token: string | undefined): Promise<unknown> {
    const { folders, models, options, bullmq } = this;
    const { backend, threads } = options;
    const { signal } = this.stopping;
    const startedMs = performance.now();
    let checked: ClusterJob | undefined;
    const tell = (state: JobEvent["state"], error?: Error) => {
      if (checked === undefined) return;
      const { kind, output } = checked;
      const elapsedMs = performance.now() - startedMs;
      options.onJob?.({ state, kind, output, rows: rowsOf(checked), elapsedMs, error });
    };
    try {
      checked = checkJob(job.data);
      tell("started");
      const outcome = await runJob(checked, { folders, models, signal, backend, threads });
      tell("done");
      return outcome;
    } catch (error) {
      if (signal.aborted) {
        tell("given back");
        await within(this.connection, job.moveToWait(token));
        throw new bullmq.WaitingError();
      }
      tell("failed", error as Error);
      const { reason, mayPass } = failureOf(error);
      throw mayPass ? new Error(reason) : new bullmq.UnrecoverableError(reason);
    }
  }
}
