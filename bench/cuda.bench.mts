// Residual search on the GPU beside PyTorch, flash-kmeans and Triton on the same card and vectors, in turns, and against what the
// card allows; then copies, latency, decode, statistics and k-means.
//
//   npm run bench -- cuda [--quick] [--shape=EnCodec] [--only=search,calls] [--rounds=5] [--seconds=600] [--json=file] [--save]
//
// The peers run in a Python process (RVQ_PYTHON) with PyTorch; without one there is nothing to compare, and it says so and ends.
// --quick takes two and a half minutes at most: fewer rounds and fewer trials of the Triton kernel. What does not fit into
// --seconds is left out, and named.

import { ResidualQuantizer } from "../lib/index.js";
import { measureCalls } from "./cuda/calls.js";
import { ResidentSearch } from "./cuda/ours.js";
import { type Card, type Copies, PeerProcess } from "./cuda/process.js";
import { type Floors, floorsOf, type Rates, ratesOf } from "./cuda/roofline.js";
import { median } from "./interleave.js";
import { flag, isSet, machine, printNote, printTable, type Row, saveJson } from "./results.js";

interface DataSet {
  readonly name: string;
  readonly dim: number;
  readonly size: number;
  /** Stages that are learnt; `runs` are the numbers that are measured, the codebooks being those of the first stages. */
  readonly stages: number;
  readonly runs: readonly number[];
  readonly rows: number;
  readonly distinct: number;
  readonly compile?: boolean;
  /** Least ratio to a peer, at the first of `runs`. */
  readonly targets?: Readonly<Record<string, number>>;
  /** Least share of the float16 roofline, in percent. */
  readonly tensorTarget?: number;
}

const million = 2 ** 20;
const distinct = 2 ** 16;

/** The most telling first: a run may end before the last. */
const dataSets: readonly DataSet[] = [
  {
    name: "EnCodec D128 K1024",
    ...{ dim: 128, size: 1024, stages: 32, runs: [8, 32], rows: million, distinct, compile: true },
    targets: { "PyTorch cdist": 20, "compiled TF32": 4, "flash-kmeans, assign alone": 1.3 },
    tensorTarget: 60,
  },
  {
    name: "DAC D8 K1024",
    ...{ dim: 8, size: 1024, stages: 9, runs: [9], rows: million, distinct, compile: true },
    targets: { "compiled TF32": 3 },
  },
  { name: "Mimi D256 K2048", dim: 256, size: 2048, stages: 8, runs: [8], rows: million, distinct, tensorTarget: 60 },
  { name: "D768 K1024", dim: 768, size: 1024, stages: 1, runs: [1], rows: million, distinct },
  { name: "D64 K1024", dim: 64, size: 1024, stages: 1, runs: [1], rows: million, distinct },
  { name: "D96 K4096", dim: 96, size: 4096, stages: 1, runs: [1], rows: million, distinct },
  {
    name: "D768 K65536",
    ...{ dim: 768, size: 65_536, stages: 1, runs: [1], rows: distinct, distinct, tensorTarget: 50 },
  },
];

/** Rows whose codes are compared with the definition's, by the processor. */
const sampleRows = 16_384;
const quick = isSet("quick");
const rounds = Number(flag("rounds") ?? (quick ? 3 : 5));
const seconds = Number(flag("seconds") ?? (quick ? 150 : 600));
const only = flag("only")?.split(",") ?? ["search", "calls"];
const started = performance.now();

const rows: Row[] = [];
const notes: string[] = [];
let failures = 0;

const peers = new PeerProcess();
try {
  await measure();
} catch (error) {
  // No card, or no PyTorch.
  note(`skipped: ${(error as Error).message}`);
} finally {
  peers.close();
}
console.log(`bench: ${rows.length} rows, ${failures} failures, ${elapsed().toFixed(0)} s`);
process.exitCode = failures > 0 ? 1 : 0;

async function measure() {
  const card = await peers.card();
  const rates = ratesOf(card);
  const copies = await peers.copies();
  const tflops = await peers.product();
  note(
    `${card.name}; ${card.versions}. Copies: ${copies.device} GB/s on the device (read and written), ` +
      `${copies.toDevice} GB/s to it, ${copies.toHost} GB/s from it, pinned. A float16 product of PyTorch: ${tflops} TFLOP/s` +
      `${rates === null ? "" : `; the roofline is ${rates.tensor.toFixed(0)} at ${rates.clockMhz} MHz`}.`,
  );
  if (only.includes("search")) {
    for (const data of dataSets.filter(({ name }) => name.includes(flag("shape") ?? ""))) {
      if (elapsed() > seconds) note(`${data.name}: left out, the time is up`);
      else await attempt(data.name, () => compare(data, card, copies, rates));
    }
  }
  if (only.includes("calls")) {
    const made = await attempt("calls", () => measureCalls(peers, copies, () => elapsed() < seconds + 15));
    if (made !== undefined) printAll("Calls from Node", made);
  }
  printNote(notes.join("\n\n"));
  saveJson("cuda", rows);
}

/** All runs of one data set. */
async function compare(data: DataSet, card: Card, copies: Copies, rates: Rates | null) {
  const { dim, size } = data;
  const spec = { ...data, forms: quick ? 3 : 5, compile: data.compile === true };
  const opened = await peers.open(spec);
  const { codebooks } = opened;
  const sample = opened.vectors.subarray(0, Math.min(sampleRows, data.distinct) * dim);
  const ours = await attempt(`${data.name}, rvq`, () =>
    ResidentSearch.open(codebooks, dim, inTurn(opened.vectors, data.rows * dim)),
  );
  for (const [index, stages] of data.runs.entries()) {
    const cpu = ResidualQuantizer.fromCodebooks(codebooks, { dim, backend: "cpu" });
    const exact = (await cpu.encode(sample, { stages })).data;
    cpu.dispose();
    const turns = await checkedTurns(data, stages, opened.peers, ours, exact);
    for (let round = 0; round < rounds; round++) {
      for (const turn of turns) await attempt(turn.name, async () => turn.times.push(await turn.run()));
    }
    const floors = rates && floorsOf({ rows: data.rows, dim, size, stages }, rates, copies.device);
    const done = turns.filter(({ times }) => times.length > 0);
    const results = done.map((turn) => resultRow(data, stages, turn, done[0], floors, index === 0));
    printAll(`${data.name}, ${stages} stages, ${data.rows} vectors on ${card.name}`, results);
  }
  ours?.close();
}

interface Turn {
  readonly name: string;
  readonly wrong: number | null;
  /** ms for all vectors. */
  readonly run: () => Promise<number>;
  readonly times: number[];
}

/** Everyone who can take part, after a first run that is checked and not timed; ours first. */
async function checkedTurns(
  data: DataSet,
  stages: number,
  names: readonly string[],
  ours: ResidentSearch | undefined,
  exact: ArrayLike<number>,
): Promise<Turn[]> {
  const turns: Turn[] = [];
  const title = (name: string) => `${data.name}, ${stages} stages, ${name}`;
  if (ours !== undefined) {
    await attempt(title("rvq"), async () => {
      const wrong = differing(await ours.codes(stages), exact);
      if (wrong > 0) throw new Error(`${100 * wrong} % of the codes are not the definition's`);
      turns.push({ name: "rvq", wrong, run: () => ours.time(stages), times: [] });
    });
  }
  for (const name of names) {
    if (elapsed() > seconds) {
      note(`${title(name)}: left out, the time is up`);
      continue;
    }
    // A peer that cannot is no failure of ours.
    try {
      const before = performance.now();
      const { run, codes } = await peers.codes(name, stages);
      const scale = data.rows / run.rows;
      if (run.note !== "") note(`${title(name)}: ${run.note}`);
      console.log(`${title(name)}: ready in ${((performance.now() - before) / 1000).toFixed(1)} s`);
      const wrong = codes === null ? null : differing(codes, exact);
      turns.push({ name, wrong, run: async () => scale * (await peers.run(name, stages)).ms, times: [] });
    } catch (error) {
      note(`${title(name)}: ${(error as Error).message}`);
    }
  }
  return turns;
}

function resultRow(
  data: DataSet,
  stages: number,
  turn: Turn,
  first: Turn,
  floors: Floors | null,
  judged: boolean,
): Row {
  const ms = median(turn.times);
  const flop = 2 * data.rows * data.size * data.dim * stages;
  const ratio = first.name === "rvq" && turn !== first ? ms / median(first.times) : null;
  const least = judged ? data.targets?.[turn.name] : undefined;
  const tensorShare = floors && (100 * floors.tensor) / ms;
  const floorShare = floors && (100 * Math.max(floors.memory, floors.tensor, floors.epilogue)) / ms;
  const targets = [
    least === undefined || ratio === null ? "" : `≥ ${least} ×: ${ratio >= least ? "yes" : "no"}`,
    turn !== first || tensorShare === null || data.tensorTarget === undefined
      ? ""
      : `≥ ${data.tensorTarget} % fp16: ${tensorShare >= data.tensorTarget ? "yes" : "no"}`,
  ];
  return {
    shape: `${data.name}, ${stages}`,
    who: turn.name,
    ms,
    "spread %": (100 * (Math.max(...turn.times) - Math.min(...turn.times))) / ms,
    "TFLOP/s": flop / ms / 1e9,
    "wrong codes %": turn.wrong === null ? "" : 100 * turn.wrong,
    "rvq is faster ×": ratio ?? "",
    "fp16 roofline %": tensorShare ?? "",
    "floor %": floorShare ?? "",
    target: targets.join(""),
  };
}

/** Share of the codes of the sample that differ. */
function differing(codes: ArrayLike<number>, exact: ArrayLike<number>): number {
  if (codes.length < exact.length) throw new Error(`${codes.length} codes where ${exact.length} are compared`);
  let different = 0;
  for (let i = 0; i < exact.length; i++) if (codes[i] !== exact[i]) different++;
  return different / exact.length;
}

/** The values over and over, up to a length. */
function inTurn(values: Float32Array, length: number): Float32Array {
  const result = new Float32Array(length);
  for (let start = 0; start < length; start += values.length) {
    result.set(values.subarray(0, Math.min(values.length, length - start)), start);
  }
  return result;
}

/** What goes wrong is counted and told, and the rest goes on. */
async function attempt<Result>(name: string, work: () => Promise<Result>): Promise<Result | undefined> {
  try {
    return await work();
  } catch (error) {
    failures++;
    note(`FAILED ${name}: ${(error as Error).message}`);
    return undefined;
  }
}

/** A run that is ended from outside has printed what it had; --json gets it too. */
function printAll(title: string, results: readonly Row[]) {
  printTable(`${title}, medians of ${rounds} turns, ${machine()}`, results);
  rows.push(...results);
  if (flag("json") !== undefined) saveJson("cuda", rows);
}

function note(text: string) {
  console.log(text);
  notes.push(text);
}

function elapsed(): number {
  return (performance.now() - started) / 1000;
}
