// k-means: one Lloyd iteration and its phases on every backend, seeding, and whole trainings with and without the search being reduced.
//
//   npm run bench -- kmeans [--backend=cpu,js] [--rounds=5] [--only=iteration,training] [--json=file]

import { framesOfSignals } from "../lib/audio/audio-model.js";
import { readWav, wavToMono } from "../lib/audio/wav.js";
import type { Backend, BackendName, CodeArray } from "../lib/backend.js";
import { newCodeArray } from "../lib/code-array.js";
import { status } from "../lib/index.js";
import { openBackend } from "../lib/open-backend.js";
import { Random } from "../lib/random.js";
import { accumulate, emptyStatistics, gridExponentFor, meanSteps } from "../lib/statistics.js";
import { runInSlices } from "../lib/time-slice.js";
import { type TrainOptions, trainCodebooks } from "../lib/train.js";
import { normal } from "../test/contract/families.js";
import { cpuLevels, occupyProcessors } from "./cpu-forms.js";
import { flag, machine, printTable, saveJson } from "./results.js";

const rounds = Number(flag("rounds") ?? 5);
const only = flag("only") ?? "iteration,training";
const wanted = flag("backend")?.split(",");
const names = status().backends.filter(({ name, available }) => available && (wanted?.includes(name) ?? true));
const contenders = names.flatMap(({ name }) => (name === "js" ? [1] : [1, 2]).map((threads) => ({ name, threads })));

const shape = { count: 262_144, dim: 128, codebookSize: 1024 };
/** The js backend gets fewer rows of the same shape; the times that depend on the rows are scaled up. */
const jsShare = 1 / 32;

/** Gaussian data after three iterations; contenders take turns, and all must give the same means. */
async function benchIterations() {
  const { count, dim, codebookSize } = shape;
  const random = new Random(1);
  const vectors = Float32Array.from({ length: count * dim }, () => normal(random));
  const start = vectors.slice(0, codebookSize * dim);
  const runs = contenders.map(({ name, threads }) => {
    const share = name === "js" ? jsShare : 1;
    const part = vectors.subarray(0, count * share * dim);
    return { name, threads, share, iteration: new Iteration(openBackend(name, threads), part, dim, start) };
  });
  const times = runs.map((): Phases[] => []);
  for (let round = 0; round < rounds + 1; round++) {
    for (const [i, { name, threads, iteration }] of runs.entries()) {
      if (name === "cpu") occupyProcessors(cpuLevels()[0], threads);
      const phases = await iteration.run();
      if (round > 0) times[i].push(phases);
    }
    for (const { name, share, iteration } of runs) {
      const reference = runs.find((run) => run.share === share)?.iteration ?? iteration;
      if (!iteration.codebook.every((x, i) => x === reference.codebook[i])) throw new Error(`${name} differs`);
    }
  }
  const rows = runs.map(({ name, threads, share }, i) => {
    const ms = (of: (phases: Phases) => number) => median(times[i].map(of));
    const prepare = ms((p) => p.prepare);
    const assign = ms((p) => p.assign) / share;
    const accumulated = ms((p) => p.accumulate) / share;
    const means = ms((p) => p.means);
    const total = prepare + assign + accumulated + means;
    return {
      backend: title(name, threads),
      rows: count * share,
      "iteration ms": total,
      "GFLOP/s": (2 * count * dim * codebookSize) / total / 1e6,
      "prepare ms": prepare,
      "assign ms": assign,
      "accumulate ms": accumulated,
      "means ms": means,
    };
  });
  printTable(`A Lloyd iteration, N 262,144 D 128 K 1024, ${machine()}`, rows);
  return rows;
}

async function benchTrainings() {
  const speech: Float32Array[] = [];
  for (const name of ["train_it_male", "train_ru_female", "dev_librivox"])
    speech.push(wavToMono(await readWav(`data/speech16k/${name}.wav`)));
  const frames = framesOfSignals(speech, 160);
  const random = new Random(2);
  const gaussian = (count: number, dim: number) => Float32Array.from({ length: count * dim }, () => normal(random));
  const trainings: { data: string; vectors: Float32Array; options: TrainOptions }[] = [
    { data: "speech D 160 K 256, 4 stages", vectors: frames, options: { dim: 160, codebookSize: 256, stages: 4 } },
    { data: "speech D 160 K 1024", vectors: frames, options: { dim: 160, codebookSize: 1024, stages: 1 } },
    { data: "Gaussian N 65,536 D 128 K 1024", vectors: gaussian(65_536, 128), options: { dim: 128, stages: 1 } },
    { data: "Gaussian N 65,536 D 8 K 1024", vectors: gaussian(65_536, 8), options: { dim: 8, stages: 1 } },
  ];
  const rows: Record<string, string | number>[] = [];
  for (const { data, vectors, options } of trainings) {
    for (const { name, threads } of contenders.filter(({ name }) => name !== "js")) {
      const backend = openBackend(name, threads);
      const full: Backend = Object.assign(Object.create(backend), { prepare: (spec: never) => backend.prepare(spec) });
      const fullMs: number[] = [];
      const reducedMs: number[] = [];
      const seedMs: number[] = [];
      for (let round = 0; round < Math.min(rounds, 3); round++) {
        const one = await timedTraining(full, vectors, options);
        const other = await timedTraining(backend, vectors, options);
        if (!one.codebooks.every((codebook, s) => codebook.every((x, i) => x === other.codebooks[s][i])))
          throw new Error(`${data}: the reduced search gives another codebook`);
        fullMs.push(one.ms);
        reducedMs.push(other.ms);
        seedMs.push(other.firstMs);
      }
      rows.push({
        data: `${data} (N ${vectors.length / options.dim})`,
        backend: title(name, threads),
        "all searched ms": median(fullMs),
        "reduced ms": median(reducedMs),
        ratio: median(fullMs) / median(reducedMs),
        "seeding and first assignment ms": median(seedMs),
      });
    }
  }
  printTable(`Trainings of 20 iterations a stage, default options, ${machine()}`, rows);
  return rows;
}

async function timedTraining(backend: Backend, vectors: Float32Array, options: TrainOptions) {
  const start = performance.now();
  let first = 0;
  const onProgress = () => {
    if (first === 0) first = performance.now();
  };
  const { codebooks } = await trainCodebooks(backend, vectors, { ...options, onProgress });
  return { codebooks, ms: performance.now() - start, firstMs: first - start };
}

interface Phases {
  readonly prepare: number;
  readonly assign: number;
  readonly accumulate: number;
  readonly means: number;
}

/** What lib/kmeans.ts does in an iteration without re-seeding, with a clock. */
class Iteration {
  codebook: Float32Array;
  private readonly codes: CodeArray;
  private readonly distances: Float64Array;
  private readonly statistics;
  private before: { codebook: Float32Array; codes: CodeArray } | undefined;

  constructor(
    private readonly backend: Backend,
    private readonly vectors: Float32Array,
    private readonly dim: number,
    start: Float32Array,
  ) {
    const count = vectors.length / dim;
    this.codebook = start.slice();
    this.codes = newCodeArray(count, [start.length / dim]);
    this.distances = new Float64Array(count);
    const gridExponents = new Int32Array(dim).fill(gridExponentFor(16, count));
    this.statistics = emptyStatistics(start.length / dim, gridExponents);
  }

  async run(): Promise<Phases> {
    const { backend, vectors, dim, codes, distances, statistics, before } = this;
    const at = [performance.now()];
    const spec = { dim, metric: "l2", weights: null, codebooks: [this.codebook] } as const;
    const prepared = backend.prepare(spec, before?.codebook);
    at.push(performance.now());
    const chunkRows = backend.chunkRows(dim, statistics.counts.length, false);
    for (let first = 0; first < codes.length; first += chunkRows) {
      const end = Math.min(codes.length, first + chunkRows);
      await prepared.assign({
        vectors: vectors.subarray(first * dim, end * dim),
        count: end - first,
        codes: codes.subarray(first, end),
        distances: distances.subarray(first, end),
      });
    }
    prepared.dispose();
    at.push(performance.now());
    await accumulate(backend, statistics, vectors, codes, before?.codes);
    at.push(performance.now());
    this.before = { codebook: this.codebook.slice(), codes: codes.slice() };
    await runInSlices(meanSteps(statistics, this.codebook, 0));
    at.push(performance.now());
    const [prepare, assign, accumulated, means] = at.slice(1).map((time, i) => time - at[i]);
    return { prepare, assign, accumulate: accumulated, means };
  }
}

function title(name: BackendName, threads: number): string {
  return `${name}, ${threads} thread${threads > 1 ? "s" : ""}`;
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1];
}

const iterationRows = only.includes("iteration") ? await benchIterations() : [];
const trainingRows = only.includes("training") ? await benchTrainings() : [];
saveJson("kmeans", [...iterationRows, ...trainingRows]);
