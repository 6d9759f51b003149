// Nearest codewords beside onnxruntime-node, TensorFlow.js (WebAssembly) and usearch, in one interleaved run.
//
//   npm run bench -- peers [--shape=D128] [--data=gaussian] [--peer=onnx] [--seconds=1] [--json=file] [--save]
//
// Ours runs through the public API (one thread: sync; more: async), exact; peers score in float32, and the share of their codes that is wrong is shown. They are
// installed into bench/peers at the first run; their threads spin for up to a second after a call, so every turn waits for
// the process to be idle; one that does not load is shown as skipped, with the reason.

import { ResidualQuantizer } from "../lib/index.js";
import { cpuLevels, occupyProcessors } from "./cpu-forms.js";
import { dataNames, flop, makeSearchData, type SearchData, type Shape, searchShapes } from "./data.js";
import { type Contender, timeInTurns } from "./interleave.js";
import { requirePeers } from "./peers/install.js";
import { loadOnnxruntime } from "./peers/onnxruntime.js";
import type { Peer } from "./peers/peer.js";
import { loadTfjsWasm } from "./peers/tfjs-wasm.js";
import { loadUsearch } from "./peers/usearch.js";
import { flag, machine, printNote, printTable, type Row, saveJson } from "./results.js";

/** How many times faster ours should be on as many threads, by peer, and the thread count that is judged. */
const targets: Readonly<Record<string, { times: number; threads: number }>> = {
  "onnxruntime-node": { times: 4, threads: 2 },
  "tfjs-wasm": { times: 20, threads: 1 },
};
/** A float32 score may prefer a codeword that is a little farther; more than this share means that something is broken. */
const wrongAtMost = 0.02;

interface Searcher extends Contender {
  readonly owner: string;
  readonly threads: number;
  readonly rows: number;
  readonly codes: () => Promise<ArrayLike<number>>;
  readonly close: () => void;
}

const loaders: Readonly<Record<string, (require: NodeJS.Require) => Peer | Promise<Peer>>> = {
  "onnxruntime-node": loadOnnxruntime,
  "tfjs-wasm": loadTfjsWasm,
  usearch: loadUsearch,
};

const seconds = Number(flag("seconds") ?? 1);
const skipped: string[] = [];
const peers = await loadPeers();
const rows: Row[] = [];
for (const shape of searchShapes.filter(({ name }) => name.includes(flag("shape") ?? ""))) {
  for (const dataName of dataNames.filter((name) => name === (flag("data") ?? "gaussian"))) {
    const data = await makeSearchData(dataName, shape);
    const searchers = [...openOurs(shape, data), ...(await openPeers(shape, data))];
    const wrong = await wrongShares(shape, searchers);
    const contenders = searchers.map((searcher) => ({
      ...searcher,
      ready: () => occupyProcessors(cpuLevels()[0], searcher.threads),
    }));
    const timings = await timeInTurns(contenders, { seconds, settle: true });
    console.error(`${shape.name}: done`);
    const speeds = searchers.map(({ rows: count }, i) => flop(shape, count) / timings[i].ms / 1e6);
    for (const [i, { name, owner, threads, rows: count, close }] of searchers.entries()) {
      close();
      const times =
        speeds[searchers.findIndex((other) => other.owner === "rvq" && other.threads === threads)] / speeds[i];
      const fastest = searchers.every(
        (other, j) => other.owner !== owner || other.threads !== threads || speeds[j] <= speeds[i],
      );
      const target = targets[owner];
      const judged = target !== undefined && fastest && target.threads === threads;
      rows.push({
        shape: shape.name,
        data: dataName,
        who: name,
        rows: count,
        "median ms": timings[i].ms,
        "GFLOP/s": speeds[i],
        "wrong codes %": 100 * wrong[i],
        "rvq is faster ×": owner === "rvq" ? "" : times,
        target: judged ? `≥ ${target.times}: ${times >= target.times ? "yes" : "no"}` : "",
      });
    }
  }
}
printTable(`Nearest codeword, ${machine()}`, rows);
for (const reason of skipped) printNote(`skipped: ${reason}`);
saveJson("peers", rows);

async function loadPeers(): Promise<Peer[]> {
  const wanted = Object.entries(loaders).filter(([name]) => name.includes(flag("peer") ?? ""));
  const found: Peer[] = [];
  let require: NodeJS.Require;
  try {
    require = requirePeers();
  } catch (error) {
    skipped.push(`all peers, ${firstLine(error)}`);
    return [];
  }
  for (const [name, load] of wanted) {
    try {
      found.push(await load(require));
    } catch (error) {
      skipped.push(`${name}, ${firstLine(error)}`);
    }
  }
  return found;
}

function firstLine(error: unknown): string {
  return String(error instanceof Error ? error.message : error).split("\n")[0];
}

function openOurs({ count, dim }: Shape, { vectors, codebooks }: SearchData): Searcher[] {
  return [1, 2].map((threads) => {
    const rq = ResidualQuantizer.fromCodebooks(codebooks, { dim, threads });
    // Asynchronous calls have several chunks under way, each on `threads` threads: one thread means the sync API.
    const run = threads === 1 ? () => rq.encodeSync(vectors) : () => rq.encode(vectors);
    const codes = async () => (await run()).data;
    return {
      name: `rvq (${rq.backend}), ${inWords(threads)}`,
      owner: "rvq",
      threads,
      rows: count,
      run,
      codes,
      close: () => rq.dispose(),
    };
  });
}

async function openPeers({ count, dim, codebookSize }: Shape, { vectors, codebooks }: SearchData): Promise<Searcher[]> {
  const searchers: Searcher[] = [];
  for (const peer of peers) {
    const rows = Math.min(count, Math.ceil(peer.multiplyAddsPerCall / (dim * codebookSize)));
    const part = vectors.subarray(0, rows * dim);
    for (const threads of peer.threadCounts) {
      for (const setting of peer.settings) {
        const search = await peer.open(codebooks[0], dim, threads, setting);
        const run = () => search.run(part);
        const name = `${peer.name}, ${inWords(threads)}, ${setting.name}`;
        searchers.push({ name, owner: peer.name, threads, rows, run, codes: run, close: search.close });
      }
    }
  }
  return searchers;
}

/** The share of codes that differ from ours, of every searcher. */
async function wrongShares(shape: Shape, searchers: readonly Searcher[]): Promise<number[]> {
  const exact = await searchers[0].codes();
  const shares: number[] = [];
  for (const { name, owner, rows, codes } of searchers) {
    const found = await codes();
    let wrong = 0;
    for (let n = 0; n < rows; n++) wrong += found[n] === exact[n] ? 0 : 1;
    shares.push(wrong / rows);
    if (wrong / rows > (owner === "rvq" ? 0 : wrongAtMost)) {
      throw new Error(`${shape.name}, ${name}: ${wrong} of ${rows} codes are wrong`);
    }
  }
  return shares;
}

function inWords(threads: number): string {
  return threads === 1 ? "1 thread" : `${threads} threads`;
}
