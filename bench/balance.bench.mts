// Balanced k-means: what even clusters cost in error and in time.
//
//   npm run bench -- balance [--backend=cpu] [--threads=1] [--json=file]

import { framesOfSignals } from "../lib/audio/audio-model.js";
import { readWav, wavToMono } from "../lib/audio/wav.js";
import { ResidualQuantizer } from "../lib/index.js";
import { Random } from "../lib/random.js";
import { normal } from "../test/contract/families.js";
import { flag, machine, printTable, saveJson } from "./results.js";

const backend = (flag("backend") ?? "auto") as "auto";
const threads = Number(flag("threads") ?? 1);

/** Clumps of very different sizes and widths, as embeddings of a catalogue have them. */
function clumps(count: number, dim: number): Float32Array {
  const random = new Random(1);
  const numClumps = 300;
  const centres = Float32Array.from({ length: numClumps * dim }, () => 2 * normal(random));
  const widths = Float32Array.from({ length: numClumps }, () => 0.2 + random.fraction());
  const vectors = new Float32Array(count * dim);
  for (let n = 0; n < count; n++) {
    // Zipf's law, nearly: the first of 300 clumps has one vector in six.
    const clump = Math.floor(numClumps ** random.fraction()) - 1;
    for (let i = 0; i < dim; i++) vectors[n * dim + i] = centres[clump * dim + i] + widths[clump] * normal(random);
  }
  return vectors;
}

const speech = await Promise.all(
  ["train_it_male", "train_ru_female"].map(async (name) => wavToMono(await readWav(`data/speech16k/${name}.wav`))),
);
const cases = [
  { data: "speech", vectors: framesOfSignals(speech, 160), dim: 160, codebookSize: 256, iterations: 20 },
  { data: "clumps", vectors: clumps(65_536, 32), dim: 32, codebookSize: 1024, iterations: 20 },
  { data: "clumps", vectors: clumps(1_000_000, 64), dim: 64, codebookSize: 1024, iterations: 5 },
];

const rows: Record<string, string | number>[] = [];
for (const { data, vectors, dim, codebookSize, iterations } of cases) {
  let plainMse = 0;
  for (const capacity of [Infinity, 2, 1.2, 1]) {
    // From the first report on there is no seeding.
    let firstMs = 0;
    let lastMs = 0;
    let reports = 0;
    const onProgress = () => {
      lastMs = performance.now();
      if (reports++ === 0) firstMs = lastMs;
    };
    const options = { dim, codebookSize, stages: 1, iterations, seed: 1, backend, threads, capacity, onProgress };
    const rq = await ResidualQuantizer.train(vectors, options);
    const codes = await rq.encodeBalanced(vectors, { capacity });
    const [{ mse }] = await rq.distortion(vectors, codes);
    const { counts } = rq.usage(codes)[0];
    if (capacity === Infinity) plainMse = mse;
    rows.push({
      data: `${data} N ${vectors.length / dim} D ${dim} K ${codebookSize}`,
      capacity: String(capacity),
      "error, ×": mse / plainMse,
      largest: Math.max(...counts),
      smallest: Math.min(...counts),
      "iteration ms": (lastMs - firstMs) / (reports - 1),
    });
  }
}
printTable(`Balanced k-means, ${backend}, ${threads} threads, ${machine()}`, rows);
saveJson("balance", rows);
