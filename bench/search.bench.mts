// Residual encode on every backend and shape: all must give the same codes before any is timed, in one interleaved run.
//
//   npm run bench -- search [--backend=cpu,js] [--shape=D128] [--seconds=1] [--json=file]

import { Bench } from "tinybench";
import { type BackendName, type Codes, ResidualQuantizer, status } from "../lib/index.js";
import { Random } from "../lib/random.js";
import { normal } from "../test/contract/families.js";
import { flag, machine, printTable, saveJson } from "./results.js";

interface Shape {
  readonly name: string;
  readonly count: number;
  readonly dim: number;
  readonly codebookSize: number;
  readonly stages: number;
}

const shapes: readonly Shape[] = [
  { name: "D128 K1024", count: 65_536, dim: 128, codebookSize: 1024, stages: 1 },
  { name: "D8 K1024", count: 65_536, dim: 8, codebookSize: 1024, stages: 1 },
  { name: "D256 K2048", count: 65_536, dim: 256, codebookSize: 2048, stages: 1 },
  { name: "D64 K4096", count: 65_536, dim: 64, codebookSize: 4096, stages: 1 },
  { name: "D768 K1024", count: 16_384, dim: 768, codebookSize: 1024, stages: 1 },
  { name: "D96 K65536", count: 8_192, dim: 96, codebookSize: 65_536, stages: 1 },
  { name: "D160 K256 32 stages (speech)", count: 16_000, dim: 160, codebookSize: 256, stages: 32 },
  { name: "D128 K1024 8 stages (EnCodec)", count: 16_384, dim: 128, codebookSize: 1024, stages: 8 },
  { name: "D8 K1024 9 stages (DAC)", count: 65_536, dim: 8, codebookSize: 1024, stages: 9 },
];

/** Multiply-adds that the js backend may spend on one call here: it gets fewer rows of the same shape. */
const jsMultiplyAdds = 1e9;

interface Contender {
  readonly title: string;
  readonly rows: number;
  readonly run: () => Promise<Codes>;
}

const seconds = Number(flag("seconds") ?? 1);
const wanted = flag("backend")?.split(",");
const backends = status().backends.filter(({ name, available }) => available && (wanted?.includes(name) ?? true));
const rows: Record<string, string | number>[] = [];

for (const shape of shapes.filter(({ name }) => name.includes(flag("shape") ?? ""))) {
  const { vectors, codebooks } = makeData(shape);
  const contenders: Contender[] = [];
  for (const { name } of backends) {
    for (const threads of name === "js" ? [1] : [1, 2])
      contenders.push(contender(shape, name, threads, vectors, codebooks));
  }
  await check(contenders);

  // Tasks of one tinybench run one after the other; rounds interleave them against drift.
  const samples = new Map<string, number[]>(contenders.map(({ title }) => [title, []]));
  const rounds = 5;
  for (let round = 0; round < rounds; round++) {
    const bench = new Bench({ time: (1000 * seconds) / rounds, iterations: 2, warmup: round === 0 });
    for (const { title, run } of contenders) bench.add(title, () => run());
    await bench.run();
    for (const task of bench.tasks) {
      const { result } = task;
      if (result.state !== "completed") throw new Error(`${task.name} did not complete`);
      samples.get(task.name)?.push(result.latency.p50);
    }
  }
  for (const { title, rows: count } of contenders) {
    const times = (samples.get(title) ?? []).sort((a, b) => a - b);
    const ms = times[times.length >> 1];
    const flop = 2 * count * shape.dim * shape.codebookSize * shape.stages;
    rows.push({
      shape: shape.name,
      backend: title,
      rows: count,
      "median ms": ms,
      "spread %": (100 * (times[times.length - 1] - times[0])) / ms,
      "vectors/s": Math.round((1000 * count) / ms),
      "GFLOP/s": flop / ms / 1e6,
    });
  }
}
printTable(`Residual encode through the async API, ${machine()}`, rows);
saveJson("search", rows);

/** Gaussian vectors; gaussian codebooks whose size shrinks from stage to stage like residuals do. */
function makeData({ count, dim, codebookSize, stages }: Shape): { vectors: Float32Array; codebooks: Float32Array[] } {
  const random = new Random(1);
  const vectors = Float32Array.from({ length: count * dim }, () => normal(random));
  const codebooks = Array.from({ length: stages }, (_, stage) => {
    const scale = dim <= 16 ? 0.55 ** stage : 0.45 * 0.93 ** stage;
    return Float32Array.from({ length: codebookSize * dim }, () => scale * normal(random));
  });
  return { vectors, codebooks };
}

function contender(
  { count, dim, codebookSize, stages }: Shape,
  backend: BackendName,
  threads: number,
  vectors: Float32Array,
  codebooks: Float32Array[],
): Contender {
  const perRow = dim * codebookSize * stages;
  const rows = backend === "js" ? Math.min(count, Math.max(64, Math.floor(jsMultiplyAdds / perRow))) : count;
  const rq = ResidualQuantizer.fromCodebooks(codebooks, { dim, backend, threads });
  const part = vectors.subarray(0, rows * dim);
  return { title: `${backend}, ${threads} thread${threads > 1 ? "s" : ""}`, rows, run: () => rq.encode(part) };
}

/** Every contender's codes must equal the first ones' on the rows they share. */
async function check(contenders: readonly Contender[]): Promise<void> {
  const results: Codes[] = [];
  for (const { run } of contenders) results.push(await run());
  const shared = Math.min(...results.map(({ data }) => data.length));
  for (const [i, { data }] of results.entries()) {
    const bad = data.subarray(0, shared).findIndex((code, j) => code !== results[0].data[j]);
    if (bad >= 0) throw new Error(`${contenders[i].title} and ${contenders[0].title} differ at code ${bad}`);
  }
}
