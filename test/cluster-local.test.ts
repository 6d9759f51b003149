// rvq/cluster without Redis: training by shards gives the bytes of one call.

import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { Cluster, type ClusterTrainOptions } from "../lib/cluster/index.js";
import { ResidualQuantizer, writeNpy } from "../lib/index.js";
import { Random } from "../lib/random.js";

const place = mkdtempSync(path.join(tmpdir(), "rvq-cluster-"));
afterAll(() => rmSync(place, { recursive: true, force: true }));

const dim = 5;

/** Rows near few points, many of them equal: clusters run empty, and re-seeding has much to do. */
function makeRows(rows: number, seed: number): Float32Array {
  const random = new Random(seed);
  return Float32Array.from({ length: rows * dim }, () =>
    random.fraction() < 0.4 ? Math.round(random.fraction()) : random.fraction() ** 3 * 8 - 2,
  );
}

/** Folders with the rows cut into files, `.npy` and raw in turn. */
async function makeFolders(vectors: Float32Array, rowsOfFiles: readonly number[]) {
  const folder = mkdtempSync(path.join(place, "case-"));
  const [inputs, outputs] = ["in", "out"].map((name) => path.join(folder, name));
  for (const made of [inputs, path.join(inputs, "deep"), outputs]) mkdirSync(made);
  const names: string[] = [];
  let first = 0;
  for (const [i, rows] of rowsOfFiles.entries()) {
    const data = vectors.slice(first * dim, (first + rows) * dim);
    const name = i % 2 === 0 ? `part ${i}.npy` : `deep/${i}.f32`;
    writeFileSync(
      path.join(inputs, name),
      i % 2 === 0 ? writeNpy({ shape: [rows, dim], data }) : new Uint8Array(data.buffer),
    );
    names.push(name);
    first += rows;
  }
  return { inputs, outputs, names };
}

describe("training by shards", () => {
  const cases: readonly (Partial<ClusterTrainOptions> & { readonly title: string })[] = [
    { title: "k-means++ from all rows", codebookSize: 60, minClusterSize: 5 },
    { title: "k-means++ from a sample, shrinkage", codebookSize: [40, 30, 20], sampleSize: 1500, shrinkage: 1.5 },
    { title: "weights, random seeds", codebookSize: 150, init: "random", weights: Float32Array.of(1, 0, 3, 0.5, 9) },
    { title: "more codewords than rows differ", codebookSize: 700, stages: 2, init: "greedy-k-means++", iterations: 3 },
  ];
  for (const { title, ...options } of cases) {
    it(`gives the bytes of one call on all rows: ${title}`, async () => {
      const vectors = makeRows(5000, 3);
      const recipe = { dim, stages: 3, iterations: 12, seed: 7, metadata: { by: "a test" }, ...options };
      const whole = await ResidualQuantizer.train(vectors, recipe);
      for (const [rowsPerShard, rowsOfFiles] of [
        [1024, [5000]],
        [2048, [1, 999, 3000, 1000]],
        [65_536, [2500, 2500]],
      ] as const) {
        const { inputs, outputs, names } = await makeFolders(vectors, rowsOfFiles);
        const cluster = await Cluster.local({ inputs, outputs });
        const trained = await cluster.train(names, { ...recipe, work: "work", rowsPerShard });
        expect(trained.id, `${rowsPerShard} rows a shard`).toBe(whole.id);
        expect(Buffer.compare(trained.toBytes(), whole.toBytes())).toBe(0);
        expect(readdirSync(path.join(outputs, "work"))).toEqual(["state.rvqm"]);
      }
    });
  }
});
