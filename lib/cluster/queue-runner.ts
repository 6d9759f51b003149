// Runs jobs by workers: puts them in the queue, waits for their outcomes, and puts those in again that Redis has lost.
//
// The files of the outputs are what counts; the queue is a means. A job that has vanished (Redis was restarted without its data, or the
// event of its end was missed) is simply put in again: a worker that finds its output made answers at once.

import { randomBytes } from "node:crypto";
import type { Queue, QueueEvents } from "bullmq";
import { RvqError } from "../errors.js";
import { loadBullmq } from "./bullmq.js";
import { type ClusterJob, checkOutcome, type JobOutcome } from "./job.js";
import { type JobRunner, ProgressCount, type RunOptions } from "./job-runner.js";
import {
  breakOff,
  checkQueueOptions,
  closeGently,
  errorOf,
  type QueueConnection,
  type QueueOptions,
  within,
} from "./redis.js";

/** How long nothing must have happened before the queue is asked what became of the jobs. */
const quietMs = 2000;
/** Jobs that are put in or asked after at a time. */
const jobsTogether = 500;
/** Of a failed job, for people to look at. */
const keepFailedSeconds = 24 * 3600;

export class QueueRunner implements JobRunner {
  private constructor(
    private readonly connection: QueueConnection,
    private readonly queue: Queue,
    private readonly events: QueueEvents,
    private readonly attempts: number,
    private readonly backoffMs: number,
  ) {}

  /** @throws RvqError PEER_MISSING, INVALID_ARGUMENT; CLUSTER where there is no Redis */
  static async open(options: QueueOptions, attempts: number, backoffMs: number): Promise<QueueRunner> {
    const connection = checkQueueOptions(options);
    const { Queue, QueueEvents } = loadBullmq();
    const queue = new Queue(connection.queue, { connection: connection.connection });
    const events = new QueueEvents(connection.queue, { connection: connection.connection });
    // Lost connections come back; calls that wait for one too long fail by themselves.
    queue.on("error", () => {});
    events.on("error", () => {});
    const runner = new QueueRunner(connection, queue, events, attempts, backoffMs);
    try {
      await within(connection, Promise.all([queue.waitUntilReady(), events.waitUntilReady()]));
      return runner;
    } catch (error) {
      await Promise.all([breakOff(queue), breakOff(events)]);
      throw error;
    }
  }

  async run(jobs: readonly ClusterJob[], { onProgress, signal }: RunOptions): Promise<JobOutcome[]> {
    signal?.throwIfAborted();
    const { events } = this;
    const outcomes = new Array<JobOutcome>(jobs.length);
    const progress = new ProgressCount(jobs, onProgress);
    const run = randomBytes(8).toString("hex");
    const open = new Map(jobs.map((_, i) => [`${run}-${i}`, i]));
    let lastEventMs = performance.now();
    let running = true;
    let timer: NodeJS.Timeout | undefined;
    let stop = () => {};

    try {
      await new Promise<void>((resolve, reject) => {
        const settle = (id: string, outcome: unknown) => {
          const index = open.get(id);
          if (index === undefined) return;
          try {
            outcomes[index] = checkOutcome(outcome, jobs[index]);
            open.delete(id);
            progress.add(jobs[index]);
          } catch (error) {
            reject(error);
          }
          if (open.size === 0) resolve();
        };
        const fail = (id: string, reason: unknown) => {
          const index = open.get(id);
          if (index !== undefined) reject(errorOf(jobs[index].output, reason));
        };
        const completed = ({ jobId, returnvalue }: { jobId: string; returnvalue: unknown }) => {
          lastEventMs = performance.now();
          settle(jobId, returnvalue);
        };
        const failed = ({ jobId, failedReason }: { jobId: string; failedReason: string }) => fail(jobId, failedReason);
        const aborted = () => reject(signal?.reason as Error);
        stop = () => {
          running = false;
          events.off("completed", completed);
          events.off("failed", failed);
          signal?.removeEventListener("abort", aborted);
          clearTimeout(timer);
        };
        events.on("completed", completed);
        events.on("failed", failed);
        signal?.addEventListener("abort", aborted);

        const missing = new Set<string>();
        const look = async () => {
          if (running && performance.now() - lastEventMs >= quietMs) {
            lastEventMs = performance.now();
            await this.lookAfter(jobs, open, missing, settle, fail, () => running);
          }
          // A look that was under way at the end must not be the first of many.
          if (running) timer = setTimeout(() => look().catch(reject), quietMs / 2);
        };
        this.put(jobs, [...open], () => running)
          .then(look)
          .catch(reject);
        if (jobs.length === 0) resolve();
      });
      return outcomes;
    } catch (error) {
      stop();
      await this.takeBack([...open.keys()]);
      throw error;
    } finally {
      stop();
    }
  }

  close(): Promise<void> {
    return closeGently(this.queue, this.events);
  }

  private async put(
    jobs: readonly ClusterJob[],
    entries: readonly (readonly [id: string, index: number])[],
    wanted: () => boolean,
  ): Promise<void> {
    const { attempts, backoffMs } = this;
    for (let first = 0; first < entries.length && wanted(); first += jobsTogether) {
      const some = entries.slice(first, first + jobsTogether).map(([jobId, index]) => ({
        name: jobs[index].kind,
        data: jobs[index],
        opts: {
          jobId,
          attempts,
          backoff: { type: "exponential", delay: backoffMs },
          removeOnComplete: true,
          removeOnFail: { age: keepFailedSeconds },
        },
      }));
      await within(this.connection, this.queue.addBulk(some));
    }
  }

  /** Asks what became of the jobs. One that is missing twice is put in again: at first its end may be on the way. */
  private async lookAfter(
    jobs: readonly ClusterJob[],
    open: ReadonlyMap<string, number>,
    missing: Set<string>,
    settle: (id: string, outcome: unknown) => void,
    fail: (id: string, reason: unknown) => void,
    wanted: () => boolean,
  ): Promise<void> {
    const entries = [...open];
    const lost: (readonly [string, number])[] = [];
    for (let first = 0; first < entries.length; first += jobsTogether) {
      const some = entries.slice(first, first + jobsTogether);
      const found = await within(this.connection, Promise.all(some.map(([id]) => this.queue.getJob(id))));
      for (const [i, job] of found.entries()) {
        const [id] = some[i];
        if (job === undefined || job === null) {
          if (missing.has(id)) lost.push(some[i]);
          else missing.add(id);
        } else {
          missing.delete(id);
          if (job.finishedOn !== undefined && job.failedReason) fail(id, job.failedReason);
          else if (job.finishedOn !== undefined) settle(id, job.returnvalue);
        }
      }
    }
    const still = lost.filter(([id]) => open.has(id));
    for (const [id] of still) missing.delete(id);
    await this.put(jobs, still, wanted);
  }

  /** Removes what no worker has begun; no matter if Redis is gone. */
  private async takeBack(ids: readonly string[]): Promise<void> {
    try {
      for (let first = 0; first < ids.length; first += jobsTogether) {
        const some = ids.slice(first, first + jobsTogether);
        await within(this.connection, Promise.allSettled(some.map((id) => this.queue.remove(id))));
      }
    } catch (error) {
      if (!(error instanceof RvqError)) throw error;
    }
  }
}
