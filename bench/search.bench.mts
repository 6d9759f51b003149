// Residual encode on every backend, level, screen and thread count: all must give the same codes before any is timed.
//
//   npm run bench -- search [--backend=cpu,js] [--level=avx2,portable] [--data=gaussian] [--shape=D128] [--threads=1,2]
//                           [--automatic] [--seconds=0.5] [--json=file] [--save]
//
// --automatic leaves out the screens that the core would not choose. The peak is that of float32 multiply-adds in registers,
// of the same level on as many threads, measured in every round between the contenders.

import { type Codes, ResidualQuantizer, status } from "../lib/index.js";
import {
  type CpuForm,
  cpuLevels,
  fmaPeak,
  formName,
  formsOf,
  occupyProcessors,
  openForm,
  openShare,
} from "./cpu-forms.js";
import { dataNames, flop, makeSearchData, residualShapes, type SearchData, type Shape, searchShapes } from "./data.js";
import { type Contender, median, timeInTurns } from "./interleave.js";
import { flag, isSet, machine, printTable, type Row, saveJson } from "./results.js";

/** Multiply-adds of one call at most; slow forms get fewer rows of the same shape. */
const largestCall = { best: Infinity, otherForm: 4e9, js: 1e9 };

interface Searcher extends Contender {
  readonly form: CpuForm | null;
  readonly threads: number;
  readonly rows: number;
  readonly run: () => Codes | Promise<Codes>;
  readonly close: () => void;
}

const seconds = Number(flag("seconds") ?? 0.5);
const threadCounts = (flag("threads") ?? "1,2").split(",").map(Number);
const wantedBackends = flag("backend")?.split(",");
const wantedData = flag("data")?.split(",");
const backends = status()
  .backends.filter(({ name, available }) => available && (wantedBackends?.includes(name) ?? true))
  .map(({ name }) => name);
const forms = backends.includes("cpu") ? cpuLevels(flag("level")).flatMap(formsOf) : [];
const usedForms = forms.filter(({ screen }) => !isSet("automatic") || screen === undefined);

const rows: Row[] = [];
for (const shape of [...searchShapes, ...residualShapes].filter(({ name }) => name.includes(flag("shape") ?? ""))) {
  for (const dataName of dataNames.filter((name) => wantedData?.includes(name) ?? true)) {
    const data = await makeSearchData(dataName, shape);
    const searchers = openSearchers(shape, data);
    await check(searchers);

    const peaks = new Map<string, number[]>();
    const measurePeaks = () => {
      for (const { form, threads } of searchers) {
        if (form === null) continue;
        const key = `${form.level} ${threads}`;
        peaks.set(key, [...(peaks.get(key) ?? []), fmaPeak(form.level, threads)]);
      }
    };
    const timings = await timeInTurns(searchers, { seconds, beforeRound: measurePeaks });

    for (const [i, { name, form, threads, rows: count, close }] of searchers.entries()) {
      const { ms, spread } = timings[i];
      const gflops = flop(shape, count) / ms / 1e6;
      const peak = form && median(peaks.get(`${form.level} ${threads}`) ?? []);
      const open = form && openShare(form, data.codebooks, shape.dim, data.vectors);
      rows.push({
        shape: shape.name,
        data: dataName,
        backend: name,
        rows: count,
        "median ms": ms,
        "spread %": Math.round(spread),
        "vectors/s": Math.round((1000 * count) / ms),
        "GFLOP/s": gflops,
        "float32 peak": peak ?? "",
        "% of peak": peak === null ? "" : Math.round((100 * gflops) / peak),
        "re-ranked %": open === null ? "" : 100 * open,
      });
      close();
    }
    console.error(`${shape.name}, ${dataName}: done`);
  }
}
printTable(`Residual encode through the public API (one thread: sync, more: async), ${machine()}`, rows);
saveJson("search", rows);

function openSearchers(shape: Shape, { vectors, codebooks }: SearchData): Searcher[] {
  const { count, dim, codebookSize, stages } = shape;
  const searcher = (
    name: string,
    form: CpuForm | null,
    threads: number,
    rq: ResidualQuantizer,
    most: number,
  ): Searcher => {
    const rows = Math.min(count, Math.max(64, Math.floor(most / (dim * codebookSize * stages))));
    const part = vectors.subarray(0, rows * dim);
    // Asynchronous calls have several chunks under way, each on `threads` threads: one thread means the sync API.
    const run = threads === 1 ? () => rq.encodeSync(part) : () => rq.encode(part);
    const ready = () => form && occupyProcessors(form.level, threads);
    return { name, form, threads, rows, run, ready, close: () => rq.dispose() };
  };
  const native = usedForms.flatMap((form, i) =>
    threadCounts.map((threads) => {
      const rq = openForm(form, codebooks, dim, threads);
      const most = i === 0 ? largestCall.best : largestCall.otherForm;
      return searcher(`cpu, ${formName(form)}, ${inWords(threads)}`, form, threads, rq, most);
    }),
  );
  const others = backends
    .filter((name) => name !== "cpu")
    .map((backend) => {
      const rq = ResidualQuantizer.fromCodebooks(codebooks, { dim, backend, threads: 1 });
      return searcher(backend, null, 1, rq, backend === "js" ? largestCall.js : Infinity);
    });
  return [...native, ...others];
}

function inWords(threads: number): string {
  return threads === 1 ? "1 thread" : `${threads} threads`;
}

/** Every searcher's codes must equal the first one's on the rows they share. */
async function check(searchers: readonly Searcher[]): Promise<void> {
  let first: Codes | undefined;
  for (const { name, run } of searchers) {
    const codes = await run();
    first ??= codes;
    const { data } = first;
    const bad = codes.data.subarray(0, data.length).findIndex((code, j) => code !== data[j]);
    if (bad >= 0) throw new Error(`${name} and ${searchers[0].name} differ at code ${bad}`);
  }
}
