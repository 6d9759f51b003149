// Search, residual encode and k-means beside Debian's FAISS and NumPy with OpenBLAS, in turns, with as many threads.
//
//   npm run bench -- faiss --install [--shape=D128] [--only=search,residual,kmeans] [--threads=2] [--rounds=5] [--json=file] [--save]
//
// --install first installs the packages by apt; without them the benchmark says so and ends. FAISS runs in a Python process
// that is handed the same data; it searches by its own threads and by rows split over threads, and the faster one counts.

import { ResidualQuantizer } from "../lib/index.js";
import { cpuLevels, occupyProcessors } from "./cpu-forms.js";
import { flop, gaussian, residualShapes, type SearchData, type Shape, searchShapes } from "./data.js";
import { FaissProcess, installFaiss, openblasCore, whyNoFaiss } from "./faiss/process.js";
import { median } from "./interleave.js";
import { flag, isSet, machine, printNote, printTable, type Row, saveJson } from "./results.js";

/** Multiply-adds of one call of FAISS or NumPy at most: they get fewer rows of the same shape. */
const multiplyAddsPerCall = 1e10;
/** A float32 score may prefer a codeword that is a little farther; in a later stage everything after it then differs too. */
const wrongAtMost = 0.05;
const kmeansShape = { name: "k-means iteration", count: 262_144, dim: 128, codebookSize: 1024, stages: 1 };
const kmeansIterations = 4;
/** Before every turn: OpenBLAS's threads spin for some 20 ms after a call. */
const restMs = 100;

interface Turn {
  readonly name: string;
  readonly method: string;
  readonly rows: number;
  /** ms of one call. */
  readonly time: () => Promise<number>;
}

const threads = Number(flag("threads") ?? 2);
const rounds = Number(flag("rounds") ?? 5);
const only = flag("only")?.split(",") ?? ["search", "residual", "kmeans"];
const wanted = (shape: Shape) => shape.name.includes(flag("shape") ?? "");
if (isSet("install")) installFaiss();
const reason = whyNoFaiss();
if (reason === null) await compare();
else console.log(`skipped: ${reason}`);

async function compare() {
  const faiss = new FaissProcess(threads);
  const rows: Row[] = [];
  let versions = "";
  try {
    const searches = only.includes("search") ? searchShapes.filter(wanted) : [];
    const residuals = only.includes("residual") ? residualShapes.filter(wanted) : [];
    for (const shape of [...searches, ...residuals]) {
      const data = gaussian(shape);
      versions = await faiss.open(data.vectors, data.codebooks, shape.dim);
      rows.push(...(await compareSearch(faiss, shape, data)));
    }
    if (only.includes("kmeans") && wanted(kmeansShape)) {
      const data = gaussian(kmeansShape);
      versions = await faiss.open(data.vectors, data.codebooks, kmeansShape.dim);
      rows.push(...(await compareKmeans(faiss, data)));
    }
  } finally {
    faiss.close();
  }
  printTable(`Beside FAISS, ${threads} threads, Gaussian data, medians of ${rounds} turns, ${machine()}`, rows);
  printNote(`${versions}, OpenBLAS for ${openblasCore() ?? "the processor it finds"}`);
  saveJson("faiss", rows);
}

async function compareSearch(faiss: FaissProcess, shape: Shape, data: SearchData): Promise<Row[]> {
  const { count, dim, codebookSize, stages } = shape;
  const rq = ResidualQuantizer.fromCodebooks(data.codebooks, { dim, threads });
  const few = Math.min(count, Math.ceil(multiplyAddsPerCall / (dim * codebookSize * stages)));
  const peer = (name: string, method: string): Turn => ({
    name,
    method,
    rows: few,
    time: async () => 1000 * (await faiss.run(method, few)),
  });
  const peers =
    stages > 1
      ? [peer("FAISS ResidualQuantizer", "residual")]
      : [peer("FAISS", "flat"), peer("FAISS, rows split", "flat by rows"), peer("NumPy matmul, argmax", "matmul")];
  const ours: Turn = {
    name: `rvq (${rq.backend})`,
    method: "",
    rows: count,
    time: () => timed(threads === 1 ? async () => rq.encodeSync(data.vectors) : () => rq.encode(data.vectors)),
  };

  // Checked: the codes of all, by ours.
  const exact = rq.encodeSync(data.vectors).data;
  const wrong = [0];
  for (const { name, method } of peers) {
    const codes = await faiss.codes(method, few);
    const share = codes.reduce((sum, code, i) => sum + (code === exact[i] ? 0 : 1), 0) / codes.length;
    if (share > wrongAtMost || codes.length !== few * stages) {
      throw new Error(`${shape.name}, ${name}: ${100 * share} % of ${codes.length} codes differ`);
    }
    wrong.push(share);
  }

  const times = await takeTurns([ours, ...peers]);
  rq.dispose();
  const speeds = [ours, ...peers].map(({ rows }, i) => flop(shape, rows) / times[i] / 1e6);
  const fastestFaiss = Math.max(...speeds.filter((_, i) => [ours, ...peers][i].name.startsWith("FAISS")));
  return [ours, ...peers].map(({ name, rows }, i) => {
    const target = stages === 1 && speeds[i] === fastestFaiss ? searchTarget(dim) : null;
    return row(
      shape.name,
      name,
      rows,
      times[i],
      speeds[i],
      100 * wrong[i],
      i === 0 ? null : speeds[0] / speeds[i],
      target,
    );
  });
}

/** One Lloyd iteration from the same codebook. Ours is the time between two reports of progress, which come once an iteration. */
async function compareKmeans(faiss: FaissProcess, { vectors, codebooks }: SearchData): Promise<Row[]> {
  const { count, dim, codebookSize } = kmeansShape;
  const ours = async () => {
    const reports: number[] = [];
    const rq = await ResidualQuantizer.train(vectors, {
      dim,
      codebookSize,
      stages: 1,
      init: codebooks,
      minClusterSize: 1,
      iterations: kmeansIterations,
      threads,
      onProgress: () => reports.push(performance.now()),
    });
    rq.dispose();
    return (reports[reports.length - 1] - reports[0]) / (reports.length - 1);
  };
  const turns: Turn[] = [
    { name: "rvq", method: "", rows: count, time: ours },
    { name: "FAISS", method: "", rows: count, time: async () => 1000 * (await faiss.kmeans(count, kmeansIterations)) },
  ];
  const times = await takeTurns(turns);
  const speeds = times.map((ms) => flop(kmeansShape, count) / ms / 1e6);
  return turns.map(({ name }, i) =>
    row(
      kmeansShape.name,
      name,
      count,
      times[i],
      speeds[i],
      "",
      i === 0 ? null : times[i] / times[0],
      i === 0 ? null : 3,
    ),
  );
}

function row(
  shape: string,
  who: string,
  rows: number,
  ms: number,
  gflops: number,
  wrong: number | string,
  times: number | null,
  target: number | null,
): Row {
  return {
    shape,
    who,
    rows,
    "median ms": ms,
    "GFLOP/s": gflops,
    "wrong codes %": wrong,
    "rvq is faster ×": times ?? "",
    target: target === null || times === null ? "" : `≥ ${target}: ${times >= target ? "yes" : "no"}`,
  };
}

/** Against Debian's FAISS; its products are best where the dimension is large. */
function searchTarget(dim: number): number {
  if (dim >= 768) return 3.5;
  return dim >= 64 ? 6 : 20;
}

/** Median ms of each, one call a turn after a first one that does not count. */
async function takeTurns(turns: readonly Turn[]): Promise<number[]> {
  const times = turns.map((): number[] => []);
  for (let round = -1; round < rounds; round++) {
    for (const [i, { time }] of turns.entries()) {
      await new Promise((resolve) => setTimeout(resolve, restMs));
      occupyProcessors(cpuLevels()[0], threads);
      const ms = await time();
      if (round >= 0) times[i].push(ms);
    }
  }
  return times.map(median);
}

async function timed(run: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await run();
  return performance.now() - start;
}
