// Folders with a small corpus, for tests of rvq/cluster.

import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { writeNpy } from "../lib/index.js";
import { Random } from "../lib/random.js";

export const dim = 5;

/** Rows near few points, many of them equal: clusters run empty, and re-seeding has much to do. */
export function makeRows(rows: number, seed: number): Float32Array {
  const random = new Random(seed);
  return Float32Array.from({ length: rows * dim }, () =>
    random.fraction() < 0.4 ? Math.round(random.fraction()) : random.fraction() ** 3 * 8 - 2,
  );
}

export interface CorpusFolders {
  readonly folder: string;
  readonly inputs: string;
  readonly outputs: string;
  readonly names: readonly string[];
}

/** A temporary folder with the rows cut into files, `.npy` and raw in turn. */
export function makeFolders(vectors: Float32Array, rowsOfFiles: readonly number[]): CorpusFolders {
  const folder = mkdtempSync(path.join(tmpdir(), "rvq-cluster-"));
  const [inputs, outputs] = ["in", "out"].map((name) => path.join(folder, name));
  for (const made of [inputs, path.join(inputs, "deep"), outputs]) mkdirSync(made);
  const names: string[] = [];
  let first = 0;
  for (const [i, rows] of rowsOfFiles.entries()) {
    const data = vectors.slice(first * dim, (first + rows) * dim);
    const name = i % 2 === 0 ? `part ${i}.npy` : `deep/${i}.f32`;
    const bytes = i % 2 === 0 ? writeNpy({ shape: [rows, dim], data }) : new Uint8Array(data.buffer);
    writeFileSync(path.join(inputs, name), bytes);
    names.push(name);
    first += rows;
  }
  return { folder, inputs, outputs, names };
}

/** Digests of the files right in a folder, hidden ones among them. */
export function digestsIn(folder: string): Record<string, string> {
  const files = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isFile());
  const digest = (name: string) =>
    createHash("sha256")
      .update(readFileSync(path.join(folder, name)))
      .digest("hex");
  return Object.fromEntries(files.map(({ name }) => [name, digest(name)]).sort());
}
