// Worker threads that share the rows of a training, each with a backend of its own (lib/row-worker.ts).
//
// They start at the first request, do not keep the process alive between requests, and end when idle, unless they hold rows. Vectors
// go there through shared memory, all else is copied to and fro. Whatever goes wrong in a worker rejects the request and ends them all: the caller then does the work on its own thread.

import { availableParallelism } from "node:os";
import path from "node:path";
import { Worker } from "node:worker_threads";
import type { Assignment } from "./assign-rows.js";
import type { BackendName, BadInput, CodeArray, CodebookSpec } from "./backend.js";
import type { StageGrid, StageSums } from "./stage-sums.js";
import { workerFile } from "./statistics-workers.js";

/** Idle workers end after this long: the next step of a training comes sooner. */
const idleMs = 10_000;

/** What a worker is started with. */
export interface RowWorkerData {
  readonly backend: BackendName;
  readonly threads: number;
}

/** vectors[M][D] for later requests. */
export interface HoldRequest {
  readonly kind: "hold";
  readonly dim: number;
  readonly vectors: Float32Array;
}

/** `assign` of the rows held; `previous` as in lib/backend.ts, the codes being those of the request before. */
export interface HeldAssignRequest {
  readonly kind: "assign";
  readonly spec: CodebookSpec;
  readonly previous: Float32Array | undefined;
}

/** `accumulate` of the rows held, from zero. */
export interface HeldAccumulateRequest {
  readonly kind: "accumulate";
  readonly codes: CodeArray;
  readonly previousCodes: CodeArray | undefined;
  readonly numCodewords: number;
  readonly gridExponents: Int32Array;
}

/** All stages of a step for vectors[M][D]. */
export interface WalkRequest {
  readonly kind: "walk";
  readonly spec: CodebookSpec;
  readonly grids: readonly StageGrid[];
  readonly vectors: Float32Array;
  /** weights[M] or null. */
  readonly weights: Float32Array | null;
  /** stagesOfRow[M] or null. */
  readonly stagesOfRow: Uint16Array | null;
}

export interface WalkedStage extends Assignment {
  readonly counted: CodeArray;
  readonly sums: StageSums;
}

export interface WalkResult {
  /** What the search refuses; the stages are then not whole. */
  readonly bad: BadInput | null;
  readonly stages: readonly WalkedStage[];
}

export type RowRequest = HoldRequest | HeldAssignRequest | HeldAccumulateRequest | WalkRequest;

export interface RowResults {
  readonly hold: null;
  readonly assign: Assignment;
  readonly accumulate: { readonly counts: Float64Array; readonly sums: Float64Array };
  readonly walk: WalkResult;
}

/** A copy of a request's vectors in memory that the worker reads as it is; a copy by message would take two more. */
export function sharedCopy(vectors: Float32Array): Float32Array {
  const copy = new Float32Array(new SharedArrayBuffer(vectors.byteLength));
  copy.set(vectors);
  return copy;
}

export class RowWorkers {
  private members: (Worker | undefined)[] = [];
  private holding = false;
  private idle: NodeJS.Timeout | undefined;
  private failed = false;

  /** @param threads of all of them together; undefined: all processors */
  constructor(
    readonly size: number,
    private readonly backend: BackendName,
    private readonly threads: number | undefined,
  ) {}

  /** False once a worker has failed, and where their file is missing, as in a bundle away from the package. */
  get usable(): boolean {
    return !this.failed && workerFile() !== null;
  }

  /** The first so many of `count` rows, the next, …: at most one part a worker, of about as many rows each. */
  parts(count: number): { readonly first: number; readonly end: number }[] {
    const rows = Math.max(1, Math.ceil(count / this.size));
    return Array.from({ length: Math.max(1, Math.ceil(count / rows)) }, (_, part) => ({
      first: part * rows,
      end: Math.min(count, (part + 1) * rows),
    }));
  }

  /** Results of the requests, each by a worker of its own. An abort ends the workers; later requests start others. */
  async run<Kind extends keyof RowResults>(
    requests: readonly (RowRequest & { readonly kind: Kind })[],
    signal: AbortSignal | undefined,
  ): Promise<RowResults[Kind][]> {
    signal?.throwIfAborted();
    clearTimeout(this.idle);
    if (requests[0].kind === "hold") this.holding = true;
    const end = () => this.end();
    signal?.addEventListener("abort", end);
    try {
      return await Promise.all(requests.map((request, place) => this.ask<RowResults[Kind]>(place, request)));
    } catch (error) {
      this.end();
      signal?.throwIfAborted();
      this.failed = true;
      throw error;
    } finally {
      signal?.removeEventListener("abort", end);
      if (!this.holding) this.idle = setTimeout(end, idleMs).unref();
    }
  }

  /** Ends the workers, and with them what they hold. */
  end(): void {
    clearTimeout(this.idle);
    for (const worker of this.members) void worker?.terminate();
    this.members = [];
    this.holding = false;
  }

  private ask<Result>(place: number, request: RowRequest): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.members[place] ??= this.start(place);
      const worker = this.members[place] as Worker;
      const settle = (done: () => void) => {
        worker.off("message", onMessage).off("error", onError).off("exit", onExit).unref();
        done();
      };
      const onMessage = (result: Result) => settle(() => resolve(result));
      const onError = (error: Error) => settle(() => reject(error));
      const onExit = () => settle(() => reject(new Error("the worker has ended")));
      worker.on("message", onMessage).on("error", onError).on("exit", onExit).ref();
      worker.postMessage(request);
    });
  }

  private start(place: number): Worker {
    const each = Math.max(1, Math.floor((this.threads ?? availableParallelism()) / this.size));
    const workerData: RowWorkerData = { backend: this.backend, threads: each };
    const file = path.join(path.dirname(workerFile() ?? ""), "row-worker.js");
    // Without the flags of this process: they may preload what is not meant for a worker of ours.
    const worker = new Worker(file, { workerData, execArgv: [], name: "rvq" });
    // Between requests nobody else listens.
    worker.on("error", () => {});
    worker.on("exit", () => {
      if (this.members[place] === worker) this.members[place] = undefined;
    });
    return worker;
  }
}
