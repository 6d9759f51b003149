// Worker threads that search parts of large calls: started at the first of them, shared by all quantizers, gone when idle.
//
// Vectors are copied to a worker and codes back; not by transfer, for a buffer that has once been detached has V8 check for
// it at every access to every array of the thread (plain loops: a quarter slower). Codebooks are sent once. An idle worker neither keeps
// the process alive nor stays: its memory is a JavaScript heap and up to 32 MiB of WebAssembly. Whatever goes wrong in a
// worker or in starting one rejects `run` and ends the use of workers: the caller then searches on its own thread.

import { existsSync } from "node:fs";
import path from "node:path";
import { Worker } from "node:worker_threads";
import { packageRoot } from "../addon.js";
import type { BadInput, CodeArray, CodebookSpec, EncodeRequest } from "../backend.js";

/** Idle workers end after this long: a service's next call comes sooner, a script's does not come. */
const idleMs = 10_000;

export type Form = "wasm" | "plain";

export type MessageToWorker =
  | { readonly kind: "prepare"; readonly id: number; readonly spec: CodebookSpec }
  | { readonly kind: "encode"; readonly id: number; readonly job: number; readonly request: EncodeRequest }
  | { readonly kind: "forget"; readonly id: number };

export interface EncodeResult {
  readonly bad: BadInput | null;
  /** codes[count][stages] */
  readonly codes: CodeArray;
  /** residuals[count][D] where the request wants them. */
  readonly residuals: Float32Array | undefined;
}

export interface MessageFromWorker extends EncodeResult {
  readonly job: number;
}

/** Codebooks as the workers know them; `spec` owns its arrays. */
export interface SharedCodebooks {
  readonly id: number;
  readonly spec: CodebookSpec;
}

interface Job {
  readonly resolve: (result: EncodeResult) => void;
  readonly reject: (error: Error) => void;
}

interface Member {
  readonly worker: Worker;
  /** Ids of the codebooks that it has. */
  readonly known: Set<number>;
  readonly jobs: Map<number, Job>;
  idle: NodeJS.Timeout | undefined;
}

const pools = new Map<Form, WorkerPool | null>();

/** This thread's pool; null where the worker's file is missing, as in a bundle away from the package. */
export function workerPool(form: Form): WorkerPool | null {
  let pool = pools.get(form);
  if (pool === undefined) {
    const root = packageRoot();
    const file = root === null ? null : path.join(root, "dist/js/worker.js");
    pool = file !== null && existsSync(file) ? new WorkerPool(file, form) : null;
    pools.set(form, pool);
  }
  return pool;
}

export class WorkerPool {
  private readonly members: (Member | undefined)[] = [];
  private readonly abandoned = new FinalizationRegistry<number>((id) => this.forget(id));
  private nextId = 0;
  private nextJob = 0;
  private failed = false;

  constructor(
    private readonly file: string,
    private readonly form: Form,
  ) {}

  /** False once a worker has failed. */
  get usable(): boolean {
    return !this.failed;
  }

  /** How many workers there are now. */
  get size(): number {
    return this.members.filter((member) => member !== undefined).length;
  }

  /** Workers forget the codebooks when `owner` is gone, disposed or not. */
  share(owner: object, spec: CodebookSpec): SharedCodebooks {
    const id = this.nextId++;
    this.abandoned.register(owner, id);
    return { id, spec };
  }

  forget(id: number): void {
    for (const member of this.members) {
      if (member?.known.delete(id)) send(member, { kind: "forget", id });
    }
  }

  /** Searches a part of a call in the least busy of the first `threads` workers. The arrays of the request are left as they are. */
  run(codebooks: SharedCodebooks, request: EncodeRequest, threads: number): Promise<EncodeResult> {
    const { id, spec } = codebooks;
    const { vectors, count, stages, beam, codes, residuals } = request;
    return new Promise((resolve, reject) => {
      let member: Member;
      try {
        member = this.leastBusy(threads);
      } catch (error) {
        this.failed = true;
        reject(error as Error);
        return;
      }
      if (!member.known.has(id)) send(member, { kind: "prepare", id, spec });
      member.known.add(id);
      const job = this.nextJob++;
      member.jobs.set(job, { resolve, reject });
      clearTimeout(member.idle);
      member.worker.ref();
      // Of a view, all that is behind it would be sent.
      const copy = vectors.slice(0, count * spec.dim);
      const empty = codes instanceof Uint16Array ? new Uint16Array(0) : new Uint32Array(0);
      const wanted = { vectors: copy, count, stages, beam, codes: empty };
      const sent = residuals === undefined ? wanted : { ...wanted, residuals: new Float32Array(0) };
      send(member, { kind: "encode", id, job, request: sent });
    });
  }

  private leastBusy(threads: number): Member {
    let chosen = 0;
    let fewest = Infinity;
    for (let i = 0; i < threads; i++) {
      const jobs = this.members[i]?.jobs.size ?? 0;
      if (jobs >= fewest) continue;
      fewest = jobs;
      chosen = i;
    }
    this.members[chosen] ??= this.start(chosen);
    return this.members[chosen] as Member;
  }

  private start(place: number): Member {
    // Without the flags of this process: they may preload what is not meant for a worker of ours.
    const worker = new Worker(this.file, { workerData: this.form, execArgv: [], name: "rvq" });
    const member: Member = { worker, known: new Set(), jobs: new Map(), idle: undefined };
    const end = (error: Error) => {
      if (this.members[place] === member) this.members[place] = undefined;
      if (member.jobs.size > 0) this.failed = true;
      for (const { reject } of member.jobs.values()) reject(error);
      member.jobs.clear();
    };
    worker.on("message", ({ job, ...result }: MessageFromWorker) => {
      const waiting = member.jobs.get(job);
      member.jobs.delete(job);
      if (member.jobs.size === 0) this.rest(place, member);
      waiting?.resolve(result);
    });
    worker.on("error", end);
    worker.on("messageerror", end);
    worker.on("exit", () => end(new Error("the worker has ended")));
    return member;
  }

  private rest(place: number, member: Member): void {
    member.worker.unref();
    member.idle = setTimeout(() => {
      this.members[place] = undefined;
      void member.worker.terminate();
    }, idleMs).unref();
  }
}

function send(member: Member, message: MessageToWorker): void {
  member.worker.postMessage(message);
}
