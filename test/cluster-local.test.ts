// rvq/cluster without Redis: the bytes of one call, runs that go on, damaged outputs, what is refused, missing peers.

import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Cluster, type ClusterTrainOptions } from "../lib/cluster/index.js";
import { ResidualQuantizer, RvqReader, readNpy } from "../lib/index.js";
import { type CorpusFolders, digestsIn, dim, makeFolders, makeRows } from "./cluster-corpus.js";

const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

async function corpus(vectors: Float32Array, rowsOfFiles: readonly number[]) {
  const made: CorpusFolders = makeFolders(vectors, rowsOfFiles);
  folders.push(made.folder);
  const { inputs, outputs } = made;
  return { ...made, cluster: await Cluster.local({ inputs, outputs }) };
}

describe("training by shards", () => {
  const cases: readonly (Partial<ClusterTrainOptions> & { readonly title: string })[] = [
    { title: "k-means++ from all rows", codebookSize: 60, minClusterSize: 5 },
    { title: "k-means++ from a sample, shrinkage", codebookSize: [40, 30, 20], sampleSize: 1500, shrinkage: 1.5 },
    { title: "weights, random seeds", codebookSize: 150, init: "random", weights: Float32Array.of(1, 0, 3, 0.5, 9) },
    { title: "more codewords than different rows", codebookSize: 800, stages: 1, init: "random", iterations: 3 },
  ];
  for (const { title, ...options } of cases) {
    it(`gives the bytes of one call on all rows: ${title}`, async () => {
      const vectors = makeRows(5000, 3);
      const recipe = { dim, stages: 3, iterations: 7, seed: 7, metadata: { by: "a test" }, ...options };
      const whole = await ResidualQuantizer.train(vectors, recipe);
      for (const [rowsPerShard, rowsOfFiles] of [
        [1024, [1, 999, 3000, 1000]],
        [4096, [5000]],
      ] as const) {
        const { outputs, names, cluster } = await corpus(vectors, rowsOfFiles);
        const trained = await cluster.train(names, { ...recipe, work: "work", rowsPerShard });
        expect(trained.id, `${rowsPerShard} rows a shard`).toBe(whole.id);
        expect(Buffer.compare(trained.toBytes(), whole.toBytes())).toBe(0);
        expect(readdirSync(path.join(outputs, "work"))).toEqual(["state.rvqm"]);
      }
    });
  }

  it("goes on after an end at any iteration, also where residuals of the stage have been lost or damaged", async () => {
    const vectors = makeRows(3000, 4);
    const recipe = { dim, codebookSize: 25, stages: 3, iterations: 3, seed: 2 };
    const whole = await ResidualQuantizer.train(vectors, recipe);
    const { outputs, names, cluster } = await corpus(vectors, [3000]);
    const options = { ...recipe, work: "work", rowsPerShard: 1024 };
    let steps = 0;
    for (let ends = 0; ; ends++) {
      const controller = new AbortController();
      const onProgress = () => {
        steps++;
        controller.abort(new Error("the end"));
      };
      const run = cluster.train(names, { ...options, onProgress, signal: controller.signal });
      const ended = await run.then((trained) => trained.id).catch((error: Error) => error.message);
      if (ended === whole.id) break;
      expect(ended).toBe("the end");
      expect(ends).toBeLessThan(50);
      const residuals = path.join(outputs, "work/stage-2/residuals");
      if (ends % 2 === 0) rmSync(residuals, { recursive: true, force: true });
      else if (statSync(residuals, { throwIfNoEntry: false }))
        writeFileSync(path.join(residuals, "shard-000001.f32"), "?");
    }
    expect(steps).toBeGreaterThanOrEqual(9);

    // The state is all that is needed then: the same call reads no row.
    const again = await cluster.train(names, { ...options, onProgress: () => expect.unreachable() });
    expect(again.id).toBe(whole.id);
    await expect(cluster.train(names, { ...options, seed: 3 })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining("work: expected a folder of this very run"),
    });
  });

  it("refuses what it cannot do, before it writes anything", async () => {
    const { outputs, names, cluster } = await corpus(makeRows(10, 1), [10]);
    const good = { dim, work: "work", codebookSize: 2, stages: 1 };
    for (const [bad, message] of [
      [{ metric: "cosine" }, /metric: expected "l2" \(training on a cluster is/],
      [{ refinements: 2 }, /refinements: expected 0/],
      [{ beam: 2, refinements: 0 }, /beam: expected 1/],
      [{ rowsPerShard: 1000 }, /rowsPerShard: expected an integer from 1024/],
      [{ rowsPerShard: 1500 }, /rowsPerShard: expected a multiple of 1024/],
      [{ work: "../work" }, /work: expected a relative path/],
      [{ work: "" }, /work: expected a relative path/],
      [{ dim: 0 }, /dim: expected/],
    ] as const) {
      await expect(cluster.train(names, { ...good, ...bad })).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
        message: expect.stringMatching(message),
      });
    }
    expect(readdirSync(outputs)).toEqual([]);
    await expect(cluster.train([], good)).rejects.toThrow("inputs: expected at least one file name");
    await expect(cluster.train(["no.npy"], good)).rejects.toMatchObject({ code: "IO" });
  });
});

describe("an encoded corpus", () => {
  const vectors = makeRows(700, 6);
  let rq: ResidualQuantizer;
  beforeAll(async () => {
    rq = await ResidualQuantizer.train(vectors, { dim, codebookSize: [300, 7], iterations: 2, seed: 1 });
  });

  it("has the codes of one call, as .rvq and as .npy, and a manifest that says where", async () => {
    const { outputs, names, cluster } = await corpus(vectors, [300, 400]);
    const whole = await rq.encode(vectors);
    for (const format of ["rvq", "npy"] as const) {
      const manifest = await cluster.encode(rq, names, { output: `a/${format}`, format, rowsPerPart: 250 });
      const place = path.join(outputs, "a", format);
      expect(JSON.parse(readFileSync(path.join(place, "manifest.json"), "utf8"))).toEqual(manifest);
      expect(manifest).toMatchObject({ modelId: rq.id, rows: 700, stages: 2, codebookSizes: [300, 7] });
      expect(manifest.parts.map(({ input, firstRow, rows }) => [input, firstRow, rows])).toEqual([
        ["part 0.npy", 0, 250],
        ["part 0.npy", 250, 50],
        ["deep/1.f32", 0, 250],
        ["deep/1.f32", 250, 150],
      ]);
      const digests = digestsIn(place);
      const codes: number[] = [];
      for (const { file, rows, sha256 } of manifest.parts) {
        expect(digests[file]).toBe(sha256);
        if (format === "npy") {
          const { shape, data } = readNpy(readFileSync(path.join(place, file)));
          expect(shape).toEqual([rows, 2]);
          codes.push(...data);
        } else {
          const reader = await RvqReader.open(path.join(place, file));
          expect(reader.header.modelId).toBe(rq.id);
          codes.push(...(await reader.read()).data);
          await reader.close();
        }
      }
      expect(codes).toEqual([...whole.data]);
      expect((await ResidualQuantizer.load(path.join(place, manifest.model))).id).toBe(rq.id);
    }
    const beam = await cluster.encode(rq, names, { output: "beam", format: "npy", beam: 3, stages: 2 });
    const { data } = readNpy(readFileSync(path.join(outputs, "beam", beam.parts[0].file)));
    expect([...data]).toEqual([...(await rq.encode(vectors.subarray(0, 300 * dim), { beam: 3 })).data]);
  });

  it("is made again only where it is missing or damaged", async () => {
    const { outputs, names, cluster } = await corpus(vectors, [300, 400]);
    const options = { output: "codes", rowsPerPart: 100 };
    await cluster.encode(rq, names, options);
    const place = path.join(outputs, "codes");
    const before = digestsIn(place);
    const inode = (name: string) => statSync(path.join(place, name)).ino;
    const inodes = Object.fromEntries(Object.keys(before).map((name) => [name, inode(name)]));
    rmSync(path.join(place, "part-000001.rvq"));
    writeFileSync(path.join(place, "part-000003.rvq"), readFileSync(path.join(place, "part-000002.rvq")));
    writeFileSync(path.join(place, "records/part-000004.rvq.json"), "{");
    rmSync(path.join(place, "records/part-000005.rvq.json"));
    await cluster.encode(rq, names, options);
    expect(digestsIn(place)).toEqual(before);
    for (const [i, same] of [true, false, true, false, false, false, true].entries()) {
      const name = `part-00000${i}.rvq`;
      if (same) expect(inode(name), name).toBe(inodes[name]);
    }

    // Another run has no business in the folder.
    for (const other of [{ stages: 1 }, { rowsPerPart: 50 }, { coding: "packed" }] as const) {
      await expect(cluster.encode(rq, names, { ...options, ...other })).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
        message: expect.stringContaining("expected a folder of this very run in codes"),
      });
    }
    expect(digestsIn(place)).toEqual(before);
  });

  it("needs inputs of its dimension, of finite numbers", async () => {
    const { inputs, names, cluster } = await corpus(vectors, [300, 400]);
    const write = (name: string, bytes: string | Uint8Array) => writeFileSync(path.join(inputs, name), bytes);
    const npy = readFileSync(path.join(inputs, names[0]));
    const edited = (from: string, to: string) => Buffer.from(npy.toString("latin1").replace(from, to), "latin1");
    write("odd.f32", "123");
    write("empty.f32", "");
    write("text.npy", "not an array");
    write("short.npy", npy.subarray(0, -4));
    write("double.npy", edited("<f4", "<f8"));
    write("big.npy", edited("<f4", ">f4"));
    write("turned.npy", edited("(300, 5)", "(5, 300)"));
    const infinite = vectors.slice(0, 100 * dim);
    infinite[77 * dim + 2] = Infinity;
    write("infinite.f32", new Uint8Array(infinite.buffer));
    for (const [name, code, message] of [
      ["odd.f32", "INVALID_ARGUMENT", /odd.f32: expected raw float32 rows of 5 numbers, 20 bytes each, got 3/],
      ["empty.f32", "INVALID_ARGUMENT", /rows of the inputs: expected an integer from 1/],
      ["text.npy", "INVALID_ARGUMENT", /text.npy: expected a .npy file of float32 \[rows\]\[5\]/],
      ["short.npy", "INVALID_ARGUMENT", /short.npy/],
      ["double.npy", "INVALID_ARGUMENT", /double.npy/],
      ["big.npy", "INVALID_ARGUMENT", /its numbers are not <f4/],
      ["turned.npy", "INVALID_ARGUMENT", /its shape is \(5, 300\)/],
      ["infinite.f32", "NOT_FINITE", /infinite.f32: .*got Infinity in row 77, column 2/],
      ["deep", "IO", /cannot read deep/],
      ["../in/odd.f32", "INVALID_ARGUMENT", /inputs\[0\]: expected a relative path/],
    ] as const) {
      const run = cluster.encode(rq, [name], { output: `of ${name}`.replaceAll("/", "-"), rowsPerPart: 50 });
      await expect(run, name).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    }
  });
});

describe("rvq/cluster without its peers", () => {
  it("works in this process, and says what to install where Redis is needed", () => {
    const root = path.resolve(__dirname, "..");
    const place = mkdtempSync(path.join(tmpdir(), "rvq-peers-"));
    folders.push(place);
    // Copies: what Node resolves from a link is found where it leads to.
    for (const part of ["dist", "package.json"]) {
      cpSync(path.join(root, part), path.join(place, "node_modules/rvq", part), { recursive: true });
    }
    cpSync(path.join(root, "node_modules/node-gyp-build"), path.join(place, "node_modules/node-gyp-build"), {
      recursive: true,
    });
    const script = `
      const { Cluster, ClusterWorker } = require("rvq/cluster");
      const options = { inputs: ".", outputs: "." };
      (async () => {
        await Cluster.local(options);
        for (const make of [() => Cluster.open(options), () => ClusterWorker.start(options)]) {
          await make().catch(({ name, code, message }) => console.log(name, code, message));
        }
      })();`;
    const said = execFileSync(process.execPath, ["-e", script], { cwd: place, encoding: "utf8" }).trim().split("\n");
    expect(said).toHaveLength(2);
    for (const line of said)
      expect(line).toMatch(/^RvqError PEER_MISSING rvq\/cluster needs .*npm install bullmq ioredis/);
  });
});
