// Codebook learning: one EMA step and its phases, and the throughput of `step`, on every backend; and what of learning on a device is
// the JavaScript thread's.
//
//   npm run bench -- trainer [--backend=cpu,js] [--rounds=5] [--only=phases,steps,device] [--json=file]

import type { Backend, BackendName } from "../lib/backend.js";
import { gatherCounting } from "../lib/counting-rows.js";
import { CodebookTrainer, status } from "../lib/index.js";
import { trainCodebook } from "../lib/kmeans.js";
import { LearningRows } from "../lib/learning-rows.js";
import { averageSteps, emptyState, type StageState, standFor } from "../lib/moving-average.js";
import { openBackend } from "../lib/open-backend.js";
import { type PartMemory, stepOnBatch } from "../lib/part-step.js";
import { Random } from "../lib/random.js";
import { checkRows } from "../lib/row-options.js";
import { addRows, emptySums, stageGrids } from "../lib/stage-sums.js";
import { walkStages } from "../lib/stage-walk.js";
import { runInSlices } from "../lib/time-slice.js";
import { checkStep } from "../lib/trainer-options.js";
import { startFromCodebooks } from "../lib/trainer-start.js";
import { gaussian, type Shape } from "./data.js";
import { instantDevice } from "./instant-device.js";
import { flag, machine, printTable, type Row, saveJson } from "./results.js";

const rounds = Number(flag("rounds") ?? 5);
const only = flag("only") ?? "phases,steps,device";
const wanted = flag("backend")?.split(",");
const names = status().backends.filter(({ name, available }) => available && (wanted?.includes(name) ?? true));
const contenders = names.flatMap(({ name }) => (name === "js" ? [1] : [1, 2]).map((threads) => ({ name, threads })));

const emaShape: Shape = { name: "D128 K1024", count: 262_144, dim: 128, codebookSize: 1024, stages: 1 };
const stepShapes: readonly Shape[] = [
  { name: "D128 K1024", count: 65_536, dim: 128, codebookSize: 1024, stages: 1 },
  { name: "D128 K1024 8 stages (EnCodec)", count: 16_384, dim: 128, codebookSize: 1024, stages: 8 },
  { name: "D8 K1024 9 stages (DAC)", count: 65_536, dim: 8, codebookSize: 1024, stages: 9 },
  { name: "D160 K256 32 stages (speech)", count: 8_192, dim: 160, codebookSize: 256, stages: 32 },
];
/** The js backend gets fewer rows of the same shape; times are scaled up. */
const jsShare = 1 / 32;

/** One EMA step of one stage on gaussian data, phase by phase; contenders take turns, and all must give the same codebook. */
async function benchPhases() {
  const { count, dim, codebookSize } = emaShape;
  const { vectors, codebooks } = gaussian(emaShape);
  const runs = contenders.map(({ name, threads }) => {
    const share = name === "js" ? jsShare : 1;
    return { name, threads, share, step: new EmaStep(openBackend(name, threads), codebooks[0], dim) };
  });
  const times = runs.map((): Phases[] => []);
  for (let round = 0; round < rounds + 1; round++) {
    for (const [i, { share, step }] of runs.entries()) {
      const phases = await step.run(vectors.subarray(0, count * share * dim));
      if (round > 0) times[i].push(phases);
    }
    for (const { name, share, step } of runs) {
      const reference = runs.find((run) => run.share === share)?.step ?? step;
      if (!step.codebook.every((x, i) => x === reference.codebook[i])) throw new Error(`${name} differs`);
    }
  }
  const rows = runs.map(({ name, threads, share }, i) => {
    const ms = (of: (phases: Phases) => number) => median(times[i].map(of));
    const gather = ms((p) => p.gather) / share;
    const search = ms((p) => p.search) / share;
    const accumulate = ms((p) => p.accumulate) / share;
    const average = ms((p) => p.average);
    const total = gather + search + accumulate + average;
    return {
      backend: title(name, threads),
      rows: count * share,
      "EMA step ms": total,
      "GFLOP/s": (2 * count * dim * codebookSize) / total / 1e6,
      "copy and range ms": gather,
      "codes and distances ms": search,
      "accumulate ms": accumulate,
      "averages ms": average,
    };
  });
  printTable(`An EMA step, N 262,144 D 128 K 1024, ${machine()}`, rows);
  return rows;
}

interface Phases {
  readonly gather: number;
  readonly search: number;
  readonly accumulate: number;
  readonly average: number;
}

/** What lib/training-step.ts does in a step without re-seeding, with a clock. */
class EmaStep {
  private state: StageState;
  private spare: StageState;

  constructor(
    private readonly backend: Backend,
    codebook: Float32Array,
    private readonly dim: number,
  ) {
    const numCodewords = codebook.length / dim;
    this.state = { ...emptyState(numCodewords, dim), codebook: codebook.slice() };
    this.spare = emptyState(numCodewords, dim);
    const usage = new Float64Array(numCodewords).fill(1);
    for (const _ of standFor(this.state, usage, "encodec"));
  }

  get codebook(): Float32Array {
    return this.state.codebook;
  }

  async run(batch: Float32Array): Promise<Phases> {
    const { backend, dim, state, spare } = this;
    const at = [performance.now()];
    const rows = await gatherCounting("batch", batch, dim, checkRows({}, batch.length / dim));
    at.push(performance.now());
    const spec = { dim, metric: "l2", weights: null, codebooks: [state.codebook] } as const;
    const [grid] = await stageGrids("batch", rows.range, spec);
    const options = { stagesOfRow: null, measure: true, signal: undefined, refuse: rows.refuse };
    await walkStages(backend, spec, rows.vectors, options, async ({ residuals, counted }) => {
      at.push(performance.now());
      const sums = emptySums(state.usage.length, grid, false);
      await addRows(backend, sums, residuals, counted, null);
      at.push(performance.now());
      const rule = { form: "encodec", epsilon: 1e-5, metric: "l2" } as const;
      await runInSlices(averageSteps(state, sums, 0.99, rule, spare));
    });
    at.push(performance.now());
    [this.state, this.spare] = [spare, state];
    const [gather, search, accumulate, average] = at.slice(1).map((time, i) => time - at[i]);
    return { gather, search, accumulate, average };
  }
}

/** `step` as users call it, re-seeding included; all contenders must have the same checkpoint at the end. */
async function benchSteps() {
  const rows: Row[] = [];
  for (const shape of stepShapes) {
    const { count, dim, codebookSize, stages } = shape;
    const { vectors, codebooks } = gaussian(shape);
    const runs = contenders.map(({ name, threads }) => ({
      name,
      threads,
      share: name === "js" ? jsShare : 1,
      trainer: CodebookTrainer.fromCodebooks(codebooks, { dim, backend: name, threads }),
      times: [] as number[],
    }));
    for (let round = 0; round < rounds + 1; round++) {
      for (const { share, trainer, times } of runs) {
        const batch = vectors.subarray(0, count * share * dim);
        const start = performance.now();
        await trainer.step(batch);
        if (round > 0) times.push(performance.now() - start);
      }
    }
    for (const { name, share, trainer } of runs) {
      const reference = runs.find((run) => run.share === share)?.trainer ?? trainer;
      if (Buffer.compare(trainer.toBytes(), reference.toBytes()) !== 0)
        throw new Error(`${shape.name}: ${name} differs`);
    }
    for (const { name, threads, share, times } of runs) {
      const ms = median(times);
      rows.push({
        shape: shape.name,
        backend: title(name, threads),
        "batch rows": count * share,
        "step ms": ms,
        "vectors/s": Math.round((count * share * 1000) / ms),
        "GFLOP/s": (2 * count * share * dim * codebookSize * stages) / ms / 1e6,
      });
    }
  }
  printTable(`Throughput of step, gaussian data, ${machine()}`, rows);
  return rows;
}

/** Steps on vectors of a device that takes no time, and iterations of k-means there. */
async function benchDeviceSteps() {
  const backend = instantDevice();
  const rows: Row[] = [];
  for (const stages of [1, 8]) {
    const { count, dim, codebookSize } = emaShape;
    const { codebooks } = gaussian({ ...emaShape, count: 1, stages });
    const { checkpoint } = startFromCodebooks(codebooks, { dim });
    const memory = backend.prepare({ dim, metric: "l2", weights: null, codebooks }).resident?.().allocate(0);
    if (memory === undefined) throw new Error("no device");
    const batch = { memory, device: 0, count, dim, giveBack: () => {} };
    const shared = { backend, workers: null, checkedRows: checkRows({}, count), step: checkStep({}) };
    const spare = codebooks.map((codebook) => emptyState(codebook.length / dim, dim));
    const partMemory: PartMemory = { spare, device: null };
    const times: number[] = [];
    // Every time from the same state; the first times the code is not compiled yet.
    for (let round = 0; round < 4 * (rounds + 1); round++) {
      const start = performance.now();
      await stepOnBatch(shared, checkpoint.parts[0], partMemory, batch);
      if (round >= 4) times.push(performance.now() - start);
    }
    const what = "step of moving averages";
    rows.push({ what, rows: count, dim, codewords: codebookSize, stages, "JavaScript thread ms": median(times) });
  }
  rows.push(await benchDeviceIterations(backend));
  printTable(`Learning on a device that takes no time, ${machine()}`, rows);
  return rows;
}

async function benchDeviceIterations(backend: Backend): Promise<Row> {
  const { count, dim, codebookSize } = emaShape;
  const { vectors, codebooks } = gaussian({ ...emaShape, stages: 1 });
  const times: number[] = [];
  let start = 0;
  await trainCodebook(
    backend,
    new LearningRows(backend, vectors, dim, { runsAhead: true, signal: undefined }),
    new Random(1),
    {
      ...{ dim, metric: "l2", weights: null, numCodewords: codebookSize, shrinkage: 0, room: Infinity },
      ...{ init: codebooks[0], sampleSize: 1, iterations: 4 * (rounds + 2), minClusterSize: 1 },
      onIteration: ({ iteration }) => {
        const end = performance.now();
        if (iteration > 4) times.push(end - start);
        start = end;
      },
    },
  );
  const shape = { what: "iteration of k-means", rows: count, dim, codewords: codebookSize, stages: 1 };
  return { ...shape, "JavaScript thread ms": median(times) };
}

function title(name: BackendName, threads: number): string {
  return `${name}, ${threads} thread${threads > 1 ? "s" : ""}`;
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1];
}

const phaseRows = only.includes("phases") ? await benchPhases() : [];
const stepRows = only.includes("steps") ? await benchSteps() : [];
const deviceRows = only.includes("device") ? await benchDeviceSteps() : [];
saveJson("trainer", [...phaseRows, ...stepRows, ...deviceRows]);
