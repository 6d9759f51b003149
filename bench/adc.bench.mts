// Search on codes: how many of the true ten nearest it finds by the bytes a vector, and how long a query takes.
//
//   npm run bench -- adc [--count=1000000] [--queries=100] [--fashion=fashion_1000x784_u8.npy] [--json=file] [--save]
//
// Generated vectors, and where the file is there 1000 pictures of Fashion-MNIST (900 coded, 100 as queries). Truth is a search by
// brute force over the originals; scores are compared with distances to the decoded vectors before anything is timed, and what one
// backend finds with what the others do. Ranking again is done by the quantizer's own backend.

import { existsSync, readFileSync } from "node:fs";
import { squaredDistance } from "../lib/canonical.js";
import { CodeIndex, type Codes, ResidualQuantizer, readNpy, type SearchOptions } from "../lib/index.js";
import { Random } from "../lib/random.js";
import { normal } from "../test/contract/families.js";
import { flag, machine, printNote, printTable, type Row, saveJson } from "./results.js";

interface Data {
  readonly name: string;
  readonly dim: number;
  /** vectors[count][dim] */
  readonly vectors: Float32Array;
  /** queries[…][dim] */
  readonly queries: Float32Array;
  readonly iterations: number;
}

const k = 10;
const codebookSize = 256;
const stageCounts = [1, 2, 4, 8, 16];
const reranks = [100, 1000];
const ways = [
  { name: "cpu", backend: "cpu" },
  { name: "cpu, one thread", backend: "cpu", threads: 1 },
  { name: "js", backend: "js" },
] as const;

const rows: Row[] = [];
const fashionPath = flag("fashion") ?? "../shared/data/vectors/fashion_1000x784_u8.npy";
if (existsSync(fashionPath)) rows.push(...(await measure(fashion(fashionPath))));
else printNote(`No ${fashionPath}: Fashion-MNIST is left out.`);
rows.push(...(await measure(generated(Number(flag("count") ?? 1e6), Number(flag("queries") ?? 100)))));
saveJson("adc", rows);

async function measure({ name, dim, vectors, queries, iterations }: Data): Promise<Row[]> {
  const [count, numQueries] = [vectors.length / dim, queries.length / dim];
  const started = performance.now();
  const truth = bruteForce(vectors, queries, dim);
  const bruteMs = (performance.now() - started) / numQueries;
  const sample = vectors.subarray(0, Math.min(count, 2 ** 16) * dim);
  const stages = Math.max(...stageCounts);
  const rq = await ResidualQuantizer.train(sample, { dim, codebookSize, stages, iterations, seed: 1 });
  const codes = await rq.encode(vectors);

  const table: Row[] = [];
  for (const stages of stageCounts) {
    const some = firstStages(codes, stages);
    const row: Row = { "bytes a vector": stages };
    const timed = async (index: CodeIndex, options: SearchOptions) => {
      await index.search(queries.subarray(0, dim), options);
      const start = performance.now();
      const { ids } = await index.search(queries, options);
      const ms = (performance.now() - start) / numQueries;
      return { ids, ms };
    };
    const recall = (ids: Uint32Array) =>
      (100 * ids.filter((id, i) => truth[Math.floor(i / k)].has(id)).length) / ids.length;

    let first: Uint32Array | null = null;
    for (const { name, ...way } of ways) {
      const index = await CodeIndex.create(rq, some, way);
      if (first === null) await check(index, await rq.decode(some), queries.subarray(0, 2 * dim), dim);
      const { ids, ms } = await timed(index, { k });
      if (first !== null && Buffer.compare(Buffer.from(ids.buffer), Buffer.from(first.buffer)) !== 0)
        throw new Error(`${name} found others`);
      first = ids;
      row["codes alone: recall %"] = recall(ids);
      row[`${name}: ms`] = ms;
    }
    const index = await CodeIndex.create(rq, some);
    for (const rerank of reranks) {
      const { ids, ms } = await timed(index, { k, vectors, rerank });
      row[`best ${rerank} again: recall %`] = recall(ids);
      row[`best ${rerank} again: ms`] = ms;
    }
    table.push(row);
  }
  const brute = `brute force over the originals: ${bruteMs.toPrecision(3)} ms`;
  printTable(
    `${name}: ${count} × ${dim}, ${numQueries} queries, top ${k}, K ${codebookSize}; ${machine()}; ${brute}`,
    table,
  );
  return table.map((row) => ({ data: name, ...row, "brute force: ms": bruteMs }));
}

/** The ids of the k nearest of each query, ties by the lower id. */
function bruteForce(vectors: Float32Array, queries: Float32Array, dim: number): Set<number>[] {
  const distance = squaredDistance;
  return Array.from({ length: queries.length / dim }, (_, q) => {
    const best: { id: number; d: number }[] = [];
    for (let id = 0; id < vectors.length / dim; id++) {
      const limit = best.length < k ? Infinity : best[k - 1].d;
      const d = distance(queries, q * dim, vectors, id * dim, dim, null, limit);
      if (!(d < limit)) continue;
      const place = best.findIndex((other) => d < other.d);
      best.splice(place < 0 ? best.length : place, 0, { id, d });
      best.length = Math.min(best.length, k);
    }
    return new Set(best.map(({ id }) => id));
  });
}

/** Throws unless the k best scores are the k smallest distances to the decoded vectors but for rounding. */
async function check(index: CodeIndex, decoded: Float32Array, queries: Float32Array, dim: number): Promise<void> {
  const { scores } = await index.search(queries, { k });
  for (let q = 0; q < queries.length / dim; q++) {
    const all = Float64Array.from({ length: decoded.length / dim }, (_, id) =>
      squaredDistance(queries, q * dim, decoded, id * dim, dim, null, Infinity),
    ).sort();
    for (let i = 0; i < k; i++) {
      const [got, expected] = [scores[q * k + i], all[i]];
      if (!(Math.abs(got - expected) <= 1e-4 * (1 + expected))) throw new Error(`score ${got} instead of ${expected}`);
    }
  }
}

function firstStages({ count, stages, data }: Codes, kept: number): Codes {
  return { count, stages: kept, data: data.filter((_, i) => i % stages < kept) };
}

function fashion(path: string): Data {
  const { shape, data } = readNpy(readFileSync(path));
  const [dim, split] = [shape[1], 900 * shape[1]];
  const name = "Fashion-MNIST";
  return { name, dim, vectors: data.subarray(0, split), queries: data.subarray(split), iterations: 20 };
}

/**
 * Vectors around 4096 centres, half as far from them as those are from each other; the deviation of dimension d falls as d^−½, as it
 * does along the axes of vectors that models make.
 */
function generated(count: number, numQueries: number): Data {
  const dim = 96;
  const numCentres = 4096;
  const random = new Random(7);
  const deviations = Float64Array.from({ length: dim }, (_, d) => (d + 1) ** -0.5);
  const centres = Float64Array.from({ length: numCentres * dim }, (_, i) => deviations[i % dim] * normal(random));
  const draw = (rows: number) => {
    const matrix = new Float32Array(rows * dim);
    for (let start = 0; start < matrix.length; start += dim) {
      const centre = random.below(numCentres) * dim;
      for (let d = 0; d < dim; d++) matrix[start + d] = centres[centre + d] + 0.5 * deviations[d] * normal(random);
    }
    return matrix;
  };
  return { name: "clustered Gaussian", dim, vectors: draw(count), queries: draw(numQueries), iterations: 10 };
}
