// The Python process that runs FAISS: started, asked and ended from here.

import { type ChildProcessByStdio, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";

/** Debian's interpreter: its FAISS is not seen by others. */
const python = "/usr/bin/python3";
const packages = ["python3-faiss", "python3-numpy", "libopenblas0-pthread"];

/** Installs Debian's packages. @throws Error where that fails */
export function installFaiss(): void {
  const apt = ["apt-get", "install", "-y", "--no-install-recommends", ...packages];
  const words = process.getuid?.() === 0 ? apt : ["sudo", ...apt];
  const { status, error } = spawnSync(words[0], words.slice(1), { stdio: ["ignore", 2, 2] });
  if (status !== 0) throw new Error(`${words.join(" ")}: ${error?.message ?? `exit ${status}`}`);
}

/** Why FAISS cannot run here, or null. */
export function whyNoFaiss(): string | null {
  if (!existsSync(python)) return `${python} is not there`;
  const { status } = spawnSync(python, ["-c", "import faiss, numpy"], { encoding: "utf8" });
  return status === 0 ? null : `${python} cannot import faiss and numpy; --install installs ${packages.join(", ")}`;
}

/** The kernels that OpenBLAS should use: version 0.3.21 does not know newer processors and takes slower ones. */
export function openblasCore(): string | undefined {
  const file = "/proc/cpuinfo";
  const text = existsSync(file) ? readFileSync(file, "utf8") : "";
  if (/\bavx512bw\b/.test(text)) return "SkylakeX";
  if (/\bavx2\b/.test(text)) return text.includes("AuthenticAMD") ? "Zen" : "Haswell";
  return undefined;
}

/** One process with a fixed number of threads; it sleeps between requests. */
export class FaissProcess {
  private readonly folder = mkdtempSync(path.join(tmpdir(), "rvq-faiss-"));
  private readonly child: ChildProcessByStdio<Writable, Readable, null>;
  private readonly lines: AsyncIterator<string>;

  constructor(threads: number) {
    const core = openblasCore();
    const env = {
      ...process.env,
      OPENBLAS_NUM_THREADS: String(threads),
      OMP_NUM_THREADS: String(threads),
      OMP_WAIT_POLICY: "PASSIVE",
      ...(core === undefined ? {} : { OPENBLAS_CORETYPE: core }),
    };
    this.child = spawn(python, ["bench/faiss/server.py"], { env, stdio: ["pipe", "pipe", "inherit"] });
    this.lines = createInterface(this.child.stdout)[Symbol.asyncIterator]();
  }

  /** Hands over vectors[N][dim] and codebooks[S][K][dim]; answers with the versions in use. */
  async open(vectors: Float32Array, codebooks: readonly Float32Array[], dim: number): Promise<string> {
    const files = [vectors, ...codebooks].map((matrix, i) => {
      const file = path.join(this.folder, `${i}.f32`);
      writeFileSync(file, new Uint8Array(matrix.buffer, matrix.byteOffset, matrix.byteLength));
      return file;
    });
    const { versions } = await this.ask<{ versions: string }>({
      op: "open",
      vectors: files[0],
      codebooks: files.slice(1),
      dim,
    });
    return versions;
  }

  /** Seconds of one call of a method of server.py. */
  async run(method: string, rows: number): Promise<number> {
    return (await this.ask<{ seconds: number }>({ op: "run", method, rows, codes: null })).seconds;
  }

  /** codes[N][S] of the same call. */
  async codes(method: string, rows: number): Promise<Int32Array> {
    const file = path.join(this.folder, "codes.i32");
    await this.ask({ op: "run", method, rows, codes: file });
    const { buffer, byteOffset, byteLength } = Uint8Array.from(readFileSync(file));
    return new Int32Array(buffer, byteOffset, byteLength / 4);
  }

  /** Seconds of one Lloyd iteration, over so many. */
  async kmeans(rows: number, iterations: number): Promise<number> {
    return (await this.ask<{ seconds: number }>({ op: "kmeans", rows, iterations })).seconds;
  }

  close(): void {
    this.child.stdin.end();
    rmSync(this.folder, { recursive: true });
  }

  private async ask<Answer>(request: object): Promise<Answer> {
    this.child.stdin.write(`${JSON.stringify(request)}\n`);
    const { value, done } = await this.lines.next();
    if (done) throw new Error(`FAISS ended at ${JSON.stringify(request)}`);
    return JSON.parse(value) as Answer;
  }
}
