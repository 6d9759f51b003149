// Runs the built package on emulated x86-64 processors, with and without AVX2, against its definition in TypeScript.
//
//   node scripts/old-processors.mjs   needs qemu-x86_64 (Debian: qemu-user) and npm run build
//
// Each of them trains, encodes and decodes on the `cpu` backend, at the level that it has to choose by itself.

import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import path from "node:path";

const script = import.meta.filename;
const root = path.resolve(import.meta.dirname, "..");

/** QEMU's names; the first is what x86-64 promises and little more. */
const processors = [
  { name: "qemu64", level: "portable" },
  { name: "Nehalem", level: "portable" },
  { name: "SandyBridge", level: "portable" },
  { name: "Haswell", level: "avx2" },
];

const expectedLevel = process.argv[2];
if (expectedLevel === undefined) runEverywhere();
else await compareBackends(expectedLevel);

function runEverywhere() {
  for (const { name, level } of processors) {
    const started = performance.now();
    const command = ["-cpu", name, process.execPath, script, level];
    const result = spawnSync("qemu-x86_64", command, { cwd: root, encoding: "utf8", timeout: 300_000 });
    if (result.error?.code === "ENOENT") fail("there is no qemu-x86_64 here (Debian: apt-get install qemu-user)");
    // QEMU tells of processor features that it does not emulate; nobody here needs them.
    if (result.status !== 0) fail(`${name}: ${result.signal ?? `exit ${result.status}`}\n${result.stderr}`);
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    console.log(`old-processors: ${name}: ${result.stdout.trim()} (${seconds} s)`);
  }
}

/** On the emulated processor. Shapes for every kernel: single rows, tiles, 16-bit products, odd sizes, two metrics. */
async function compareBackends(level) {
  const { ResidualQuantizer, status } = createRequire(import.meta.url)(path.join(root, "dist/index.js"));
  const cpu = status().backends.find(({ name }) => name === "cpu");
  if (!cpu.available || !cpu.description.startsWith(`${level},`)) {
    throw new Error(`expected the level ${level}, got ${cpu.reason ?? cpu.description}`);
  }
  process.env.RVQ_JS = "plain";
  let vectorsCompared = 0;
  for (const [count, dim, metric] of [
    [200, 1, "l2"],
    [300, 8, "l2"],
    [257, 33, "cosine"],
    [130, 64, "l2"],
  ]) {
    let state = dim;
    const vectors = Float32Array.from({ length: count * dim }, () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state / 2 ** 31 - 1;
    });
    const options = { dim, metric, codebookSize: 19, stages: 3, iterations: 2 };
    const answers = [];
    for (const backend of ["js", "cpu"]) {
      const quantizer = await ResidualQuantizer.train(vectors, { ...options, backend });
      const codes = await quantizer.encode(vectors);
      const single = quantizer.encodeSync(vectors.subarray(0, dim));
      const decoded = await quantizer.decode(codes);
      answers.push([quantizer.toBytes(), codes.data, single.data, decoded].map((array) => Buffer.from(array.buffer)));
    }
    const [expected, actual] = answers;
    const different = expected.findIndex((bytes, i) => !bytes.equals(actual[i]));
    if (different >= 0) {
      const what = ["the model", "the codes", "one vector's codes", "the reconstruction"][different];
      throw new Error(`${level}: ${what} differs from the definition: ${JSON.stringify({ count, ...options })}`);
    }
    vectorsCompared += count;
  }
  console.log(`${level}: models, codes and reconstructions of ${vectorsCompared} vectors as defined`);
}

function fail(message) {
  console.error(`old-processors: ${message}`);
  process.exit(1);
}
