// Residual search on the GPU beside PyTorch, flash-kmeans and Triton on the same card and vectors, in turns, and against what the
// card allows; then copies, latency, decode, statistics and k-means; then steps of moving averages.
//
//   npm run bench -- cuda [--quick] [--shape=EnCodec] [--only=search,calls,steps] [--rounds=5] [--seconds=600] [--json=file] [--save]
//
// The peers run in a Python process (RVQ_PYTHON) with PyTorch; without one there is nothing to compare, and it says so and ends.
// --quick takes two and a half minutes at most: fewer rounds and fewer trials of the Triton kernel. What does not fit into
// --seconds is left out, and named.

import { type Floors, floorsOf, type Rates, ratesOf } from "../lib/cli/roofline.js";
import { ResidualQuantizer } from "../lib/index.js";
import { measureCalls } from "./cuda/calls.js";
import { type DataSet, dataSets } from "./cuda/data-sets.js";
import { ResidentSearch } from "./cuda/ours.js";
import { type Card, type Copies, PeerProcess } from "./cuda/process.js";
import { measureSteps } from "./cuda/steps.js";
import { median } from "./interleave.js";
import { flag, isSet, machine, printNote, printTable, type Row, saveJson } from "./results.js";

/** Rows whose codes are compared with the definition's, by the processor. */
const sampleRows = 16_384;
const quick = isSet("quick");
const rounds = Number(flag("rounds") ?? (quick ? 3 : 5));
const seconds = Number(flag("seconds") ?? (quick ? 150 : 600));
/** For the calls and the steps, where the search has taken all of it. */
const spareSeconds = 30;
const only = flag("only")?.split(",") ?? ["search", "calls", "steps"];
const started = performance.now();

const rows: Row[] = [];
const short: Row[] = [];
const notes: string[] = [];
let failures = 0;

const peers = new PeerProcess();
const card = await peers
  .card()
  .catch((error: Error) => note(`bench: skipped, no PyTorch or no card: ${error.message}`));
if (card) {
  await attempt("benchmark", () => measure(card));
  console.log(`bench: ${rows.length} rows, ${failures} failures, ${elapsed().toFixed(0)} s`);
}
peers.close();
process.exitCode = failures > 0 ? 1 : 0;

async function measure(card: Card) {
  const { name, capability = "", multiprocessors = 0, maxClockMhz = 0 } = card;
  const rates = ratesOf({ name, computeCapability: capability, multiprocessors, clockMhz: maxClockMhz });
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
    const part = async (name: string, work: () => Promise<void>) => {
      if (elapsed() > seconds + spareSeconds) note(`${name}: left out, the time is up`);
      else await attempt(name, work);
    };
    const made = await attempt("calls", () => measureCalls({ peers, copies, part }));
    if (made !== undefined) printAll("Calls from Node", made);
  }
  if (only.includes("steps")) {
    if (elapsed() > seconds + spareSeconds) note("steps: left out, the time is up");
    else printAll("Steps of moving averages", (await attempt("steps", () => measureSteps(peers, rounds))) ?? []);
  }
  printNote(notes.join("\n\n"));
  printTable("In short: rvq's time, and how many times as long the others take", short);
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
      for (const turn of turns) await takeTurn(turn);
    }
    const floors = rates && floorsOf({ rows: data.rows, dim, size, stages }, rates, copies.device);
    const done = turns.filter(({ times }) => times.length > 0);
    const results = done.map((turn) => resultRow(data, stages, turn, done[0], floors, index === 0));
    if (results.length > 0) short.push(shortRow(`${data.name}, ${stages}`, results));
    printAll(`${data.name}, ${stages} stages, ${data.rows} vectors on ${card.name}`, results);
  }
  ours?.close();
}

/** One of a peer that cannot is no failure of ours. */
async function takeTurn({ name, run, times }: Turn) {
  try {
    times.push(await run());
  } catch (error) {
    if (name === "rvq") failures++;
    note(`${name === "rvq" ? "FAILED " : ""}${name}: ${(error as Error).message}`);
  }
}

/** The rows of one run in one. */
function shortRow(shape: string, results: readonly Row[]): Row {
  const of = (who: string) => results.find((row) => row.who === who);
  const times = (who: string) => of(who)?.["rvq is faster ×"] ?? "";
  return {
    shape,
    "rvq ms": of("rvq")?.ms ?? "",
    "fp16 roofline %": of("rvq")?.["fp16 roofline %"] ?? "",
    "floor %": of("rvq")?.["floor %"] ?? "",
    "× cdist": times("PyTorch cdist"),
    "× TF32": times("compiled TF32"),
    "× bf16": times("compiled bf16"),
    "× flash": times("flash-kmeans"),
    "× flash alone": times("flash-kmeans, assign alone"),
    "× Triton": times("Triton, fused"),
    "× float64": times("PyTorch float64"),
  };
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
