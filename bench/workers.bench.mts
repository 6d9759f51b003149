// Worker threads in training: iterations of k-means and steps of a trainer by one thread, by threads of the backend, and by workers.
//
//   npm run bench -- workers [--backend=cpu,js] [--rounds=3] [--json=file]

import { CodebookTrainer, ResidualQuantizer, status } from "../lib/index.js";
import { Random } from "../lib/random.js";
import { normal } from "../test/contract/families.js";
import { flag, machine, printTable, saveJson } from "./results.js";

const rounds = Number(flag("rounds") ?? 3);
const wanted = flag("backend")?.split(",");
const names = status().backends.filter(({ name, available }) => available && (wanted?.includes(name) ?? true));
const ways = [
  { title: "one thread", threads: 1, workers: 1 },
  { title: "2 threads", threads: 2, workers: 1 },
  { title: "2 workers of one thread", threads: 2, workers: 2 },
];

const dim = 128;
const random = new Random(1);
const most = 131_072;
const vectors = Float32Array.from({ length: most * dim }, () => normal(random));
const rows: Record<string, string | number>[] = [];
for (const { name } of names) {
  // The js backend gets fewer rows of the same shape.
  const count = name === "js" ? 8192 : most;
  const part = vectors.subarray(0, count * dim);
  const learnt = await ResidualQuantizer.train(part, { dim, stages: 1, iterations: 1, init: "random", backend: name });
  const kmeansMs: number[][] = ways.map(() => []);
  const stepMs: number[][] = ways.map(() => []);
  const ids = new Set<string>();
  const trainers = ways.map(({ threads }) =>
    CodebookTrainer.fromCodebooks(learnt.codebooks(), { dim, backend: name, threads }),
  );
  for (let round = 0; round < rounds + 1; round++) {
    for (const [i, { threads, workers }] of ways.entries()) {
      // From the first report on there is no copy and no start of workers.
      const times: number[] = [];
      const onProgress = () => times.push(performance.now());
      const options = { dim, init: learnt.codebooks(), iterations: 5, backend: name, threads, workers, onProgress };
      ids.add((await ResidualQuantizer.train(part, options)).id);
      const start = performance.now();
      await trainers[i].step(part, { workers });
      if (round === 0) continue;
      kmeansMs[i].push((times[4] - times[0]) / 4);
      stepMs[i].push(performance.now() - start);
    }
  }
  const bytes = new Set(trainers.map((trainer) => Buffer.from(trainer.toBytes()).toString("base64")));
  if (ids.size !== 1 || bytes.size !== 1) throw new Error(`${name}: other bytes with workers`);
  for (const [i, { title }] of ways.entries()) {
    rows.push({
      backend: name,
      rows: count,
      by: title,
      "k-means iteration ms": median(kmeansMs[i]),
      "×": median(kmeansMs[0]) / median(kmeansMs[i]),
      "step ms": median(stepMs[i]),
      "× ": median(stepMs[0]) / median(stepMs[i]),
    });
  }
}
printTable(`Training by workers, D 128 K 1024, ${machine()}`, rows);
saveJson("workers", rows);

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1];
}
