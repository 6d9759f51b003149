// rvq/cluster with a real Redis: killed workers, a killed Redis, aborted and resumed runs, hostile jobs; always the bytes of one process.

import { type ChildProcess, fork } from "node:child_process";
import { mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { Cluster, type ClusterOptions, ClusterWorker, type JobEvent } from "../lib/cluster/index.js";
import { ResidualQuantizer } from "../lib/index.js";
import { type CorpusFolders, digestsIn, dim, makeFolders, makeRows } from "./cluster-corpus.js";
import { noRedis, RedisServer } from "./redis-server.js";

const root = path.resolve(__dirname, "..");
const lockMs = 1000;
const rows = 12_000;
const vectors = makeRows(rows, 1);
const rowsOfFiles = [5000, 1, 6999];
const rowsPerPart = 1000;

let redis: RedisServer;
let quantizer: ResidualQuantizer;
/** What one process makes of the corpus. */
let expected: Record<string, string>;
const folders: string[] = [];
const closing: { close(): Promise<void> }[] = [];
const children: ChildProcess[] = [];

beforeAll(async () => {
  if (noRedis !== null) return;
  redis = await RedisServer.start();
  quantizer = await ResidualQuantizer.train(vectors, { dim, codebookSize: 40, stages: 4, iterations: 3, seed: 1 });
  const { inputs, outputs, names } = corpus();
  await (await Cluster.local({ inputs, outputs })).encode(quantizer, names, { output: "codes", rowsPerPart });
  expected = digestsIn(path.join(outputs, "codes"));
  expect(Object.keys(expected)).toHaveLength(13 + 2);
});
afterEach(async () => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  for (const each of closing.splice(0)) await each.close();
});
afterAll(async () => {
  await redis?.stop();
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

function corpus(): CorpusFolders {
  const made = makeFolders(vectors, rowsOfFiles);
  folders.push(made.folder);
  return made;
}

/** Each test has a queue of its own. */
let queues = 0;
const newQueue = () => `test-${++queues}`;

async function open(options: Partial<ClusterOptions> & Pick<ClusterOptions, "inputs" | "outputs" | "queue">) {
  const cluster = await Cluster.open({ redis: redis.url, backoffMs: 50, ...options });
  closing.push(cluster);
  return cluster;
}

type WorkerOptions = Partial<Parameters<typeof ClusterWorker.start>[0]> &
  Pick<ClusterOptions, "inputs" | "outputs" | "queue">;

async function startWorker(options: WorkerOptions) {
  const worker = await ClusterWorker.start({ redis: redis.url, lockMs, threads: 1, ...options });
  closing.push(worker);
  return worker;
}

/** A worker process, once it serves the queue. */
function forkWorker(
  options: Omit<WorkerOptions, "onJob">,
  onMessage: (child: ChildProcess, message: Pick<JobEvent, "state" | "output">) => void,
): Promise<ChildProcess> {
  const argument = JSON.stringify({ redis: redis.url, lockMs, threads: 1, ...options });
  const child = fork(path.join(root, "examples/cluster/worker.mjs"), [argument], { execArgv: [] });
  children.push(child);
  return new Promise((resolve, reject) => {
    child.once("exit", (code) => reject(new Error(`the worker ended with code ${code}`)));
    child.on("message", (message: Pick<JobEvent, "output"> & { state: JobEvent["state"] | "ready" }) => {
      if (message.state === "ready") resolve(child);
      else onMessage(child, { ...message, state: message.state });
    });
  });
}

describe.skipIf(noRedis !== null)(`a cluster${noRedis === null ? "" : ` (${noRedis})`}`, () => {
  it("loses nothing when a worker is killed in mid-job: the bytes of one process", async () => {
    const { inputs, outputs, names } = corpus();
    const queue = newQueue();
    const killed: string[] = [];
    const done: string[] = [];
    const kill = (child: ChildProcess, { state, output }: Pick<JobEvent, "state" | "output">) => {
      if (state === "done") done.push(output);
      if (state !== "started" || killed.length > 0) return;
      child.kill("SIGKILL");
      killed.push(output);
    };
    await forkWorker({ inputs, outputs, queue }, kill);
    await forkWorker({ inputs, outputs, queue }, kill);
    // What a writer that was killed in mid-write leaves behind.
    mkdirSync(path.join(outputs, "codes"));
    writeFileSync(path.join(outputs, "codes/.rvq-0123456789abcdef.tmp"), "half a file");

    const progress: number[] = [];
    const onProgress = ({ rowsDone }: { rowsDone: number }) => progress.push(rowsDone);
    const cluster = await open({ inputs, outputs, queue });
    const manifest = await cluster.encode(quantizer, names, { output: "codes", rowsPerPart, onProgress });
    expect(killed).toHaveLength(1);
    expect(done).toContain(killed[0]);
    expect(digestsIn(path.join(outputs, "codes"))).toEqual(expected);
    expect(manifest.parts).toHaveLength(13);
    expect(progress).toHaveLength(13);
    expect(progress.at(-1)).toBe(rows);
  });

  it("gives the bytes of one call when it trains, aborted and resumed, with any number of workers", async () => {
    const recipe = { dim, codebookSize: [70, 30], iterations: 8, minClusterSize: 6, seed: 5 };
    const whole = await ResidualQuantizer.train(vectors, recipe);
    const { inputs, outputs, names } = corpus();
    const queue = newQueue();
    await startWorker({ inputs, outputs, queue });
    const cluster = await open({ inputs, outputs, queue });
    const options = { ...recipe, work: "a/b", rowsPerShard: 2048 };

    // Aborted in the first stage and in the second, between iterations and within one.
    const seen: string[] = [];
    for (const last of ["0.3", "1.2"]) {
      const controller = new AbortController();
      const onProgress = ({ stage, iteration }: { stage: number; iteration: number }) => {
        seen.push(`${stage}.${iteration}`);
        if (seen.at(-1) === last) controller.abort(new Error("enough"));
      };
      const aborted = cluster.train(names, { ...options, onProgress, signal: controller.signal });
      await expect(aborted).rejects.toThrow("enough");
    }
    await startWorker({ inputs, outputs, queue, concurrency: 2, backend: "js" });
    const onProgress = ({ stage, iteration }: { stage: number; iteration: number }) =>
      seen.push(`${stage}.${iteration}`);
    const trained = await cluster.train(names, { ...options, onProgress });
    expect(trained.id).toBe(whole.id);
    expect(seen.filter((each) => each === "0.0")).toHaveLength(1);
    expect(seen.filter((each) => each === "1.0")).toHaveLength(1);
    expect(readdirSync(path.join(outputs, "a/b"))).toEqual(["state.rvqm"]);
  });

  it("goes on with another Redis, empty, when one is killed, and redoes nothing that is finished", async () => {
    const { inputs, outputs, names } = corpus();
    const own = await RedisServer.start();
    closing.push({ close: () => own.stop() });
    const queue = newQueue();
    const done: string[] = [];
    const onJob = ({ state, output }: JobEvent) => state === "done" && done.push(output);
    await startWorker({ inputs, outputs, queue, redis: own.url, onJob });
    const cluster = await open({ inputs, outputs, queue, redis: own.url });
    let restarted: Promise<void> | null = null;
    const onProgress = ({ jobsDone }: { jobsDone: number }) => {
      if (jobsDone === 4) restarted = own.kill().then(() => own.restart());
    };
    await cluster.encode(quantizer, names, { output: "codes", rowsPerPart, onProgress });
    expect(restarted).not.toBeNull();
    await restarted;
    expect(digestsIn(path.join(outputs, "codes"))).toEqual(expected);
    expect(new Set(done).size).toBe(13);
  });

  it("fails with a typed error when Redis stays away, keeps what is finished, and closes", async () => {
    const { inputs, outputs, names } = corpus();
    const own = await RedisServer.start();
    const queue = newQueue();
    const worker = await startWorker({ inputs, outputs, queue, redis: own.url, patienceMs: 1000 });
    const cluster = await open({ inputs, outputs, queue, redis: own.url, patienceMs: 1000 });
    const onProgress = ({ jobsDone }: { jobsDone: number }) => jobsDone === 3 && void own.kill();
    const run = cluster.encode(quantizer, names, { output: "codes", rowsPerPart, onProgress });
    await expect(run).rejects.toMatchObject({ code: "CLUSTER", message: expect.stringContaining("within 1000 ms") });
    const startedMs = performance.now();
    await Promise.all([cluster.close(), worker.close({ abort: true })]);
    expect(performance.now() - startedMs).toBeLessThan(8000);
    await own.stop();
    const parts = readdirSync(path.join(outputs, "codes")).filter((name) => name.endsWith(".rvq"));
    expect(parts.length).toBeGreaterThanOrEqual(3);

    await expect(Cluster.open({ inputs, outputs, redis: own.url, patienceMs: 300 })).rejects.toMatchObject({
      code: "CLUSTER",
    });
    await expect(ClusterWorker.start({ inputs, outputs, redis: own.url, patienceMs: 300 })).rejects.toMatchObject({
      code: "CLUSTER",
    });
  });

  it("takes jobs back when aborted; a worker that is closed gives its job back", async () => {
    const { inputs, outputs, names } = corpus();
    const queue = newQueue();
    const cluster = await open({ inputs, outputs, queue });
    // Nobody serves the queue yet.
    const waiting = cluster.encode(quantizer, names, {
      output: "codes",
      rowsPerPart,
      signal: AbortSignal.timeout(200),
    });
    await expect(waiting).rejects.toMatchObject({ name: "TimeoutError" });

    const states: string[] = [];
    let first: ClusterWorker | null = null;
    let closed: Promise<void> | null = null;
    const onJob = ({ state }: JobEvent) => {
      states.push(state);
      if (state === "started") closed ??= first?.close({ abort: true }) ?? null;
    };
    first = await startWorker({ inputs, outputs, queue, onJob });
    const run = cluster.encode(quantizer, names, { output: "codes", rowsPerPart });
    while (closed === null) await new Promise((resolve) => setTimeout(resolve, 5));
    await closed;
    expect(states).toEqual(["started", "given back"]);
    await startWorker({ inputs, outputs, queue });
    await run;
    expect(digestsIn(path.join(outputs, "codes"))).toEqual(expected);
  });

  it("tries again what may pass, with back-off, and not what cannot", async () => {
    const { outputs } = corpus();
    const queue = newQueue();
    const bytes = new Uint8Array(vectors.slice(0, 3000 * dim).buffer);
    const badBytes = bytes.slice();
    badBytes.fill(255, 40_000, 40_004);
    let failures = 2;
    const inputs = async (name: string) => {
      const source = name.startsWith("bad") ? badBytes : bytes;
      const read = async (offset: number, length: number) => {
        if (name === "flaky" && failures-- > 0) throw new Error("a network");
        return source.subarray(offset, offset + length);
      };
      return { sizeBytes: source.length, version: "1", read };
    };
    const failed: string[] = [];
    const onJob = ({ state, error }: JobEvent) => state === "failed" && failed.push(String(error?.message));
    await startWorker({ inputs, outputs, queue, onJob });
    const cluster = await open({ inputs, outputs, queue });
    const manifest = await cluster.encode(quantizer, ["flaky"], { output: "flaky", format: "npy", rowsPerPart: 5000 });
    expect(manifest.parts).toMatchObject([{ file: "part-000000.npy", input: "flaky", firstRow: 0, rows: 3000 }]);
    expect(failed).toEqual(["a network", "a network"]);

    failures = 3;
    const tooOften = cluster.encode(quantizer, ["flaky"], { output: "again", rowsPerPart: 5000 });
    await expect(tooOften).rejects.toMatchObject({ code: "CLUSTER", message: expect.stringContaining("a network") });
    failed.length = 0;
    await expect(cluster.encode(quantizer, ["bad.f32"], { output: "bad" })).rejects.toMatchObject({
      code: "NOT_FINITE",
      message: expect.stringMatching(/job for bad\/part-000000\.rvq: bad\.f32: .*NaN in row 2000, column 0/),
    });
    expect(failed).toHaveLength(1);
  });

  it("refuses hostile jobs, writes nothing for them, and serves on", async () => {
    const { folder, inputs, outputs, names } = corpus();
    const queue = newQueue();
    const { Queue, QueueEvents } = createRequire(__filename)("bullmq") as typeof import("bullmq");
    const connection = { url: redis.url };
    const raw = new Queue(queue, { connection });
    const events = new QueueEvents(queue, { connection });
    closing.push(raw, events);
    await events.waitUntilReady();
    const worker = await startWorker({ inputs, outputs, queue });
    const cluster = await open({ inputs, outputs, queue });

    mkdirSync(path.join(outputs, "models"));
    await quantizer.save(path.join(outputs, "models/good.rvqm"));
    const elsewhere = path.join(folder, "elsewhere");
    mkdirSync(elsewhere);
    symlinkSync(elsewhere, path.join(outputs, "link"));
    symlinkSync(path.join(folder, "absent"), path.join(outputs, "models/dangling"));
    symlinkSync("/etc", path.join(inputs, "etc"));
    const id = "0".repeat(64);
    const segment = { file: names[0], firstRow: 0, rows: 10 };
    const input = { side: "inputs", dim, segments: [segment] };
    const good = {
      kind: "encode",
      identity: id,
      output: "x/y.rvq",
      input,
      model: { file: "models/good.rvqm", id: quantizer.id },
      stages: 2,
      beam: 1,
      format: "rvq",
      coding: "mixed",
    };
    const from = (file: string, rest: object = {}) => ({
      ...good,
      input: { ...input, segments: [{ ...segment, file, ...rest }] },
    });
    const cases: readonly [job: unknown, reason: RegExp][] = [
      [null, /INVALID_ARGUMENT: job: expected an object/],
      [{}, /INVALID_ARGUMENT: job.identity/],
      [{ ...good, kind: "shell" }, /INVALID_ARGUMENT: job.kind/],
      [{ ...good, output: "../y.rvq" }, /INVALID_ARGUMENT: job.output/],
      [{ ...good, output: "/tmp/y.rvq" }, /INVALID_ARGUMENT: job.output/],
      [{ ...good, output: "a\\..\\y.rvq" }, /INVALID_ARGUMENT: job.output/],
      [{ ...good, output: "link/y.rvq" }, /INVALID_ARGUMENT: name: .*links out of it/],
      [from("../out/models/good.rvqm"), /INVALID_ARGUMENT: job.input.segments\[0\].file/],
      [from("etc/hostname"), /INVALID_ARGUMENT: name: .*links out of it/],
      [from("absent.f32"), /IO: cannot read absent.f32/],
      [from("deep"), /IO: cannot read deep/],
      [from(names[0], { rows: 2 ** 28 }), /INVALID_ARGUMENT: .*segments\[0\].rows/],
      [from(names[0], { firstRow: 4995 }), /INVALID_ARGUMENT: part 0.npy: expected at least 5005 rows, got 5000/],
      [{ ...good, input: { ...input, dim: 4 } }, /INVALID_ARGUMENT: job.input.dim: expected 5, as the model has/],
      [{ ...good, stages: 5 }, /INVALID_ARGUMENT: stages/],
      [{ ...good, beam: 1000 }, /INVALID_ARGUMENT: job.beam/],
      [{ ...good, format: "exe" }, /INVALID_ARGUMENT: job.format/],
      [{ ...good, model: { file: "models/good.rvqm", id } }, /INVALID_MODEL: .*expected the model 0000/],
      [{ ...good, model: { file: "models/dangling", id } }, /IO: /],
      [{ ...good, model: { file: "../in/part 0.npy", id } }, /INVALID_ARGUMENT: job.model.file/],
      [
        { ...good, kind: "statistics", range: { rows: 5, magnitudes: [1], maxWeight: null } },
        /INVALID_ARGUMENT: job.range/,
      ],
      [
        { ...good, kind: "statistics", range: { rows: 10, magnitudes: [1, 1, 1, 1, 1], maxWeight: null } },
        /INVALID_ARGUMENT: job.model: expected one of a single stage/,
      ],
    ];
    for (const [data, reason] of cases) {
      const job = await raw.add("job", data);
      await expect(job.waitUntilFinished(events, 10_000), JSON.stringify(data)).rejects.toThrow(reason);
    }
    expect(readdirSync(elsewhere)).toEqual([]);
    expect(readdirSync(folder).sort()).toEqual(["elsewhere", "in", "out"]);
    expect(readdirSync(outputs).sort()).toEqual(["link", "models", "x"]);
    expect(readdirSync(path.join(outputs, "x"), { recursive: true })).toEqual(["records"]);

    await cluster.encode(quantizer, names, { output: "codes", rowsPerPart });
    expect(digestsIn(path.join(outputs, "codes"))).toEqual(expected);
    await worker.close();
  });
});
