// The Python process that runs the peers on the card: started, asked and ended from here; it cannot hold up the benchmark.

import { type ChildProcessByStdio, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";

/** RVQ_PYTHON names the interpreter that has PyTorch. */
const python = process.env.RVQ_PYTHON ?? "python3";
/** Where a peer compiles or tunes, or PyTorch is read from a cold disk, half a minute; past this the process is ended. */
const patienceMs = 120_000;

export interface Card {
  readonly name: string;
  /** "9.0"; undefined where there is no card. */
  readonly capability?: string;
  readonly multiprocessors?: number;
  readonly maxClockMhz?: number;
  readonly versions: string;
}

/** GB/s. */
export interface Copies {
  /** Within the device, bytes read and written. */
  readonly device: number;
  readonly toDevice: number;
  readonly toHost: number;
}

export interface DataSpec {
  readonly dim: number;
  readonly size: number;
  readonly stages: number;
  /** Vectors in all: copies, in turn, of `distinct` ones. */
  readonly rows: number;
  readonly distinct: number;
  /** Forms of the Triton kernel that are tried. */
  readonly forms: number;
  /** Whether torch.compile takes part. */
  readonly compile: boolean;
}

/** How PyTorch finds the codes, and whether the vectors come from pinned memory of the host each time. */
export type EmaForm = "cdist" | "matmul" | "matmul, vectors from the host";

export interface PeerRun {
  readonly ms: number;
  readonly rows: number;
  /** What the peer chose, or "". */
  readonly note: string;
}

export class PeerProcess {
  private readonly folder = mkdtempSync(path.join(tmpdir(), "rvq-cuda-"));
  private readonly child: ChildProcessByStdio<Writable, Readable, null>;
  private readonly lines: AsyncIterator<string>;
  private ended = false;

  constructor() {
    this.child = spawn(python, ["bench/cuda/server.py"], { stdio: ["pipe", "pipe", "inherit"] });
    this.child.on("error", () => {
      this.ended = true;
    });
    // Writing to a process that has ended is told by the answer that does not come.
    this.child.stdin.on("error", () => {});
    this.lines = createInterface(this.child.stdout)[Symbol.asyncIterator]();
  }

  card(): Promise<Card> {
    return this.ask({ op: "card" });
  }

  copies(): Promise<Copies> {
    return this.ask({ op: "copies" });
  }

  /** TFLOP/s of a float16 matrix product. */
  async product(): Promise<number> {
    return (await this.ask<{ tflops: number }>({ op: "product" })).tflops;
  }

  /** ms of one Lloyd iteration over the vectors that are open. */
  async kmeans(rows: number): Promise<number> {
    return (await this.ask<{ ms: number }>({ op: "kmeans", rows })).ms;
  }

  /** ms of one step of moving averages of `stages` codebooks, over all vectors that are open; the codebooks stay as they are. */
  async ema(form: EmaForm, stages: number): Promise<number> {
    return (await this.ask<{ ms: number }>({ op: "ema", form, stages })).ms;
  }

  /** Makes the data there; hands over vectors[distinct][dim] and codebooks[stages][size][dim], and the peers' names. */
  async open(spec: DataSpec): Promise<{ vectors: Float32Array; codebooks: Float32Array[]; peers: string[] }> {
    const { peers } = await this.ask<{ peers: string[] }>({ op: "open", ...spec, seed: 1, folder: this.folder });
    const all = new Float32Array(this.read("codebooks.f32"));
    const length = spec.size * spec.dim;
    const codebooks = Array.from({ length: spec.stages }, (_, s) => all.slice(s * length, (s + 1) * length));
    return { vectors: new Float32Array(this.read("vectors.f32")), codebooks, peers };
  }

  run(peer: string, stages: number): Promise<PeerRun> {
    return this.ask({ op: "run", peer, stages, codes: null });
  }

  /** The codes[…][stages] of a first run, of some rows; null where the peer has none to show. */
  async codes(peer: string, stages: number): Promise<{ run: PeerRun; codes: Int32Array | null }> {
    const file = path.join(this.folder, "codes.i32");
    rmSync(file, { force: true });
    const run = await this.ask<PeerRun>({ op: "run", peer, stages, codes: file });
    try {
      return { run, codes: new Int32Array(this.read("codes.i32")) };
    } catch {
      return { run, codes: null };
    }
  }

  close(): void {
    this.child.stdin.end();
    this.end();
    rmSync(this.folder, { recursive: true, force: true });
  }

  private end(): void {
    this.ended = true;
    // It may be waiting for the card for good.
    this.child.kill("SIGKILL");
    this.child.unref();
    this.child.stdout.destroy();
  }

  private read(name: string): ArrayBuffer {
    return Uint8Array.from(readFileSync(path.join(this.folder, name))).buffer;
  }

  /** @throws Error with what went wrong there; where no answer came, every later call throws too */
  private async ask<Answer extends object>(request: { op: string; [key: string]: unknown }): Promise<Answer> {
    if (this.ended) throw new Error("the peers' process has ended");
    this.child.stdin.write(`${JSON.stringify(request)}\n`);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<"late">((resolve) => {
      timer = setTimeout(() => resolve("late"), patienceMs);
    });
    const answer = await Promise.race([this.lines.next(), late]);
    clearTimeout(timer);
    if (answer === "late" || answer.done) {
      this.end();
      throw new Error(answer === "late" ? `no answer in ${patienceMs / 1000} s` : "the peers' process has ended");
    }
    const content = JSON.parse(answer.value) as Answer & { error?: string };
    if (content.error !== undefined) throw new Error(content.error);
    return content;
  }
}
