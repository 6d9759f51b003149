// Hostile data beside Gaussian data of the same shape: no family may make a search more than three times slower.
//
//   npm run bench -- cliffs [--backend=cpu,js] [--level=avx2] [--shape=D8] [--family=offset] [--seconds=0.2] [--json=file] [--save]
//
// Fails where a family is slower than that. The families of the second table have no such promise.

import { type BackendName, ResidualQuantizer, status } from "../lib/index.js";
import { hardFamilies, makeData, type Shape } from "../test/contract/families.js";
import { nearest } from "../test/contract/reference.js";
import { cpuLevels, formName, formsOf, openForm } from "./cpu-forms.js";
import { timeInTurns } from "./interleave.js";
import { flag, machine, printNote, printTable, type Row, saveJson } from "./results.js";

type Matrices = { readonly vectors: Float32Array; readonly codebook: Float32Array };

/** Slowdown that a promised family may have. */
const limit = 3;

const byName = (name: string) => (shape: Shape) => makeData(name, shape, 1);
const promised: Readonly<Record<string, (shape: Shape) => Matrices>> = {
  "all codewords identical": byName("all codewords identical"),
  "one outlier codeword of 1e6": byName("one outlier codeword"),
  "one outlier dimension": byName("one outlier dimension"),
  "values of 1e-25": byName("tiny"),
  "mean offset 1e3": (shape) => withOffset(shape, 1e3),
  "mean offset 1e4": (shape) => withOffset(shape, 1e4),
  "integer grid": byName("integer grid"),
  "duplicate codewords": byName("duplicate codewords"),
  midpoints: byName("midpoints"),
  "one-ulp neighbours": byName("one-ulp neighbours"),
};
const others: Readonly<Record<string, (shape: Shape) => Matrices>> = {
  correlated: byName("correlated"),
  clustered: byName("clustered"),
  subnormal: byName("subnormal"),
  "signed zeros": byName("signed zeros"),
  "near overflow": byName("near overflow"),
  "huge vectors, small codewords": byName("huge vectors, small codewords"),
  "midpoints of neighbours": (shape) => hardFamilies["midpoints of neighbours"](shape, 1),
  "far away": (shape) => hardFamilies["far away"](shape, 1),
};

const shapes = [
  { name: "D128 K1024", count: 4096, dim: 128, numCodewords: 1024 },
  { name: "D8 K1024", count: 16_384, dim: 8, numCodewords: 1024 },
];
/** Plain TypeScript gets a part of the rows. */
const plainPart = 16;

interface Searcher {
  readonly name: string;
  readonly part: number;
  readonly open: (codebook: Float32Array, dim: number) => ResidualQuantizer;
}

const seconds = Number(flag("seconds") ?? 0.2);
const wantedBackends = flag("backend")?.split(",");
const slowdowns: Record<"promised" | "others", Row[]> = { promised: [], others: [] };
const cliffs: string[] = [];
for (const shape of shapes.filter(({ name }) => name.includes(flag("shape") ?? ""))) {
  for (const searcher of searchers()) {
    const part = { ...shape, count: shape.count / searcher.part };
    const families = { gaussian: byName("gaussian"), ...promised, ...others };
    const wanted = Object.entries(families).filter(
      ([name]) => name === "gaussian" || name.includes(flag("family") ?? ""),
    );
    const contenders = wanted.map(([name, make]) => {
      const { vectors, codebook } = make(part);
      const rq = searcher.open(codebook, part.dim);
      check(vectors, codebook, part, rq.encodeSync(vectors).data, `${searcher.name}, ${name}`);
      return { name, run: () => rq.encodeSync(vectors), close: () => rq.dispose() };
    });
    const timings = await timeInTurns(contenders, { seconds });
    for (const [i, { name, close }] of contenders.entries()) {
      close();
      if (i === 0) continue;
      const kind = name in promised ? "promised" : "others";
      const table = slowdowns[kind];
      const slowdown = timings[i].ms / timings[0].ms;
      const column = `${searcher.name}, ${shape.name}`;
      const row = table.find(({ family }) => family === name);
      if (row === undefined) table.push({ family: name, [column]: slowdown });
      else row[column] = slowdown;
      if (kind === "promised" && slowdown > limit) cliffs.push(`${column}: ${name} × ${slowdown.toFixed(2)}`);
    }
  }
}
const title = `Time beside that of Gaussian data of the same shape, sync API, 1 thread, ${machine()}`;
printTable(title, slowdowns.promised);
printTable("Families without a promise", slowdowns.others);
printNote(
  cliffs.length === 0
    ? `No promised family is more than ${limit} times slower.`
    : `Over ${limit} times slower:\n${cliffs.join("\n")}`,
);
saveJson("cliffs", [...slowdowns.promised, ...slowdowns.others]);
if (cliffs.length > 0) process.exitCode = 1;

/** Every level and screen of the CPU core, and both forms of the js backend. */
function searchers(): Searcher[] {
  const has = (name: BackendName) =>
    status().backends.some((backend) => backend.name === name && backend.available) &&
    (wantedBackends?.includes(name) ?? true);
  // By force the uniform screen is no promise: it is only ever used while it pays.
  const forms = has("cpu") ? cpuLevels(flag("level")).flatMap(formsOf) : [];
  const native = forms.filter(({ screen }) => screen !== "uniform");
  const js = has("js") ? ["wasm", "plain"] : [];
  return [
    ...native.map((form) => ({
      name: formName(form),
      part: 1,
      open: (codebook: Float32Array, dim: number) => openForm(form, [codebook], dim, 1),
    })),
    ...js.map((form) => ({
      name: `js ${form}`,
      part: form === "plain" ? plainPart : 1,
      open: (codebook: Float32Array, dim: number) => {
        process.env.RVQ_JS = form;
        return ResidualQuantizer.fromCodebooks([codebook], { dim, backend: "js", threads: 1 });
      },
    })),
  ];
}

/** Gaussian data around `offset` in every dimension. */
function withOffset(shape: Shape, offset: number): Matrices {
  const { vectors, codebook } = makeData("gaussian", shape, 1);
  return { vectors: vectors.map((x) => x + offset), codebook: codebook.map((c) => c + offset) };
}

/** The codes of some rows by the definition. */
function check(
  vectors: Float32Array,
  codebook: Float32Array,
  { count, dim }: Shape,
  codes: ArrayLike<number>,
  what: string,
) {
  const rows = 16;
  for (let i = 0; i < rows; i++) {
    const n = Math.floor((i * count) / rows);
    const expected = nearest(vectors.subarray(n * dim, (n + 1) * dim), codebook, "l2", null);
    if (codes[n] !== expected) throw new Error(`${what}: row ${n} has code ${codes[n]}, not ${expected}`);
  }
}
