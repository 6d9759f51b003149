// Trains codebooks and encodes a corpus by three worker processes with a real Redis between them; in each step one worker is killed in
// mid-job. Nothing is lost: the files have the bytes that one process makes.
//
// npm run build && node examples/cluster/run.mjs

import { fork } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { ResidualQuantizer, writeNpy } from "rvq";
import { Cluster } from "rvq/cluster";
import { startRedis } from "./redis-server.mjs";

const dim = 64;
const rowsOfFiles = [30_000, 12_345, 27_655];
const recipe = { dim, codebookSize: 256, stages: 3, iterations: 4, seed: 1 };
const rowsPerPart = 8192;
/** A worker that shows no sign of life for so long is gone. */
const lockMs = 1500;

const folder = await mkdtemp(path.join(os.tmpdir(), "rvq-cluster-"));
const [inputs, outputs, alone] = ["inputs", "outputs", "alone"].map((name) => path.join(folder, name));
for (const made of [inputs, outputs, alone]) await mkdir(made);
const redis = await startRedis();
const workers = new Set();
/** Jobs by worker, and who was killed, in this step. */
const done = new Map();
const killed = [];
let killNext = false;

try {
  const { names, vectors } = await writeCorpus();
  console.log(`${vectors.length / dim} vectors of ${dim} numbers in ${names.length} files; Redis at ${redis.url}`);
  await Promise.all(["A", "B", "C"].map(startWorker));

  const cluster = await Cluster.open({ redis: redis.url, inputs, outputs });
  const one = await Cluster.local({ inputs, outputs: alone });
  const rows = [];

  let started = performance.now();
  killNext = true;
  const model = await cluster.train(names, { ...recipe, work: "training", rowsPerShard: rowsPerPart });
  rows.push(row("train", started, model.id === (await ResidualQuantizer.train(vectors, recipe)).id));

  const encoding = { output: "codes", rowsPerPart };
  await one.encode(model, names, encoding);
  for (const step of ["encode", "encode again"]) {
    started = performance.now();
    killNext = step === "encode";
    await cluster.encode(model, names, encoding);
    rows.push(row(step, started, (await digest(outputs)) === (await digest(alone))));
  }
  await cluster.close();

  console.table(rows);
  if (rows.some((each) => each["same bytes as one process"] !== "yes")) process.exitCode = 1;
} finally {
  await Promise.all([...workers].map(stopWorker));
  await redis.stop();
  await rm(folder, { recursive: true, force: true });
}

/** Clustered vectors; the first file is `.npy`, the others are raw float32. */
async function writeCorpus() {
  let state = 1;
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  const centres = Float32Array.from({ length: 200 * dim }, () => 4 * random());
  const rows = rowsOfFiles.reduce((sum, each) => sum + each, 0);
  const vectors = new Float32Array(rows * dim);
  for (let n = 0; n < rows; n++) {
    const centre = Math.floor(200 * random());
    for (let i = 0; i < dim; i++) vectors[n * dim + i] = centres[centre * dim + i] + random() + random() - 1;
  }
  const names = [];
  let first = 0;
  for (const [i, each] of rowsOfFiles.entries()) {
    const data = vectors.slice(first * dim, (first + each) * dim);
    const name = i === 0 ? "0.npy" : `${i}.f32`;
    await writeFile(
      path.join(inputs, name),
      i === 0 ? writeNpy({ shape: [each, dim], data }) : new Uint8Array(data.buffer),
    );
    names.push(name);
    first += each;
  }
  return { names, vectors };
}

/** Starts a worker process and waits until it serves the queue. The next one that begins a job is killed where that is wanted. */
function startWorker(name) {
  const options = { redis: redis.url, inputs, outputs, lockMs, threads: 1 };
  const worker = fork(new URL("./worker.mjs", import.meta.url), [JSON.stringify(options)]);
  workers.add(worker);
  return new Promise((resolve, reject) => {
    worker.once("exit", (code, signal) => {
      workers.delete(worker);
      if (signal === "SIGKILL") startWorker(`${name}'`).catch(reject);
      else reject(new Error(`worker ${name} ended with code ${code}`));
    });
    worker.on("message", ({ state, output }) => {
      if (state === "ready") resolve();
      if (state === "done") done.set(name, (done.get(name) ?? 0) + 1);
      if (state !== "started" || !killNext) return;
      killNext = false;
      killed.push(`${name} (${output})`);
      worker.kill("SIGKILL");
    });
  });
}

function stopWorker(worker) {
  const ended = new Promise((resolve) => worker.once("exit", resolve));
  worker.kill("SIGTERM");
  return ended;
}

/** A row of the table; counts from here on anew. */
function row(step, startedMs, same) {
  const jobs = [...done].sort().map(([name, count]) => `${name}: ${count}`);
  const result = {
    step,
    "jobs done by": jobs.join(", "),
    "killed in mid-job": killed.join(", ") || "none",
    seconds: Number(((performance.now() - startedMs) / 1000).toFixed(1)),
    "same bytes as one process": same ? "yes" : "NO",
  };
  done.clear();
  killed.length = 0;
  return result;
}

/** Of the names and bytes of all files of codes and their manifest. */
async function digest(root) {
  const hash = createHash("sha256");
  for (const entry of (await readdir(path.join(root, "codes"), { withFileTypes: true })).sort((a, b) =>
    a.name < b.name ? -1 : 1,
  )) {
    if (entry.isFile()) hash.update(entry.name).update(await readFile(path.join(root, "codes", entry.name)));
  }
  return hash.digest("hex");
}
