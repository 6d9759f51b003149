// Who runs the jobs of a run: workers behind a queue, or this process.

import type { BackendChoiceOptions } from "../quantizer-options.js";
import type { SharedFolders } from "./folders.js";
import { type ClusterJob, checkJob, checkOutcome, type JobOutcome, rowsOf } from "./job.js";
import { ModelCache } from "./job-outputs.js";
import { runJob } from "./run-job.js";

/** Jobs of a run, or of one of its steps. */
export interface ClusterProgress {
  readonly jobs: number;
  readonly jobsDone: number;
  readonly rows: number;
  readonly rowsDone: number;
}

export interface RunOptions {
  /** Called after every job. */
  readonly onProgress?: (progress: ClusterProgress) => void;
  /** What has begun goes on to its end on the workers and is found by the next run; what waits is taken back. */
  readonly signal?: AbortSignal;
}

/** Runs jobs, in any order; their outcomes are in the order of the jobs. The first failure is thrown. */
export interface JobRunner {
  run(jobs: readonly ClusterJob[], options: RunOptions): Promise<JobOutcome[]>;
  close(): Promise<void>;
}

/** Jobs one after the other in this process. */
export class LocalRunner implements JobRunner {
  private readonly models: ModelCache;

  constructor(
    private readonly folders: SharedFolders,
    private readonly choice: BackendChoiceOptions,
  ) {
    this.models = new ModelCache(folders, choice);
  }

  async run(jobs: readonly ClusterJob[], { onProgress, signal }: RunOptions): Promise<JobOutcome[]> {
    const { folders, models, choice } = this;
    const progress = new ProgressCount(jobs, onProgress);
    const outcomes: JobOutcome[] = [];
    for (const job of jobs) {
      signal?.throwIfAborted();
      const outcome = await runJob(checkJob(job), { folders, models, signal, ...choice });
      outcomes.push(checkOutcome(outcome, job));
      progress.add(job);
    }
    return outcomes;
  }

  async close(): Promise<void> {}
}

export class ProgressCount {
  private readonly rows: number;
  private jobsDone = 0;
  private rowsDone = 0;

  constructor(
    private readonly jobs: readonly ClusterJob[],
    private readonly onProgress: RunOptions["onProgress"],
  ) {
    this.rows = jobs.reduce((sum, job) => sum + rowsOf(job), 0);
  }

  add(job: ClusterJob): void {
    this.jobsDone++;
    this.rowsDone += rowsOf(job);
    const { jobsDone, rows, rowsDone } = this;
    this.onProgress?.({ jobs: this.jobs.length, jobsDone, rows, rowsDone });
  }
}
