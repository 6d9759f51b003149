// Latency of short calls: 1, 8 and 75 vectors, D 128 K 1024, through the addon, the sync and the async API.
//
//   npm run bench -- latency [--level=avx2] [--threads=1] [--seconds=1] [--json=file] [--save]
//
// Fails where the codes differ, not where a time is long: the targets are those of one kind of processor.

import { cpuLevels, openCore, openForm } from "./cpu-forms.js";
import { gaussian } from "./data.js";
import { timeInTurns } from "./interleave.js";
import { flag, machine, printTable, type Row, saveJson } from "./results.js";

const shape = { name: "D128 K1024", count: 75, dim: 128, codebookSize: 1024, stages: 1 };
/** Vectors of a call, with the µs that a processor with AVX-512 VNNI should need: addon, sync API, async API. */
const sizes = [
  { count: 1, targets: [6, 15, 60] },
  { count: 8, targets: [12, 25, null] },
  { count: 75, targets: [110, 130, null] },
] as const;

const seconds = Number(flag("seconds") ?? 1);
const threads = Number(flag("threads") ?? 1);
const { vectors: all, codebooks } = gaussian(shape);
const rows: Row[] = [];
for (const level of cpuLevels(flag("level") ?? undefined)) {
  const form = { level, screen: undefined };
  const core = openCore(form, codebooks, shape.dim, threads);
  const rq = openForm(form, codebooks, shape.dim, threads);
  for (const { count, targets } of sizes) {
    const vectors = all.subarray(0, count * shape.dim);
    const codes = new Uint16Array(count);
    const contenders = [
      { name: "addon", run: () => core.encodeSync({ vectors, count, stages: 1, codes }) },
      { name: "sync API", run: () => rq.encodeSync(vectors) },
      { name: "async API", run: () => rq.encode(vectors) },
    ];

    core.encodeSync({ vectors, count, stages: 1, codes });
    for (const { data } of [rq.encodeSync(vectors), await rq.encode(vectors)]) {
      if (data.some((code, n) => code !== codes[n])) throw new Error(`${level}, ${count} vectors: the codes differ`);
    }
    const timings = await timeInTurns(contenders, { seconds });
    for (const [i, { name }] of contenders.entries()) {
      rows.push({
        level,
        vectors: count,
        through: name,
        "median µs": 1000 * timings[i].ms,
        "p99 µs": 1000 * timings[i].p99,
        "target µs (VNNI)": targets[i] ?? "",
      });
    }
  }
  core.dispose();
  rq.dispose();
}
printTable(`Latency, ${shape.name}, ${threads === 1 ? "1 thread" : `${threads} threads`}, ${machine()}`, rows);
saveJson("latency", rows);
