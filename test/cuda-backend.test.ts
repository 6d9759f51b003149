// What is special about the cuda backend, on a machine with a GPU (or in the build that emulates one: scripts/test-build.mjs).

import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { afterEach, describe, expect, it } from "vitest";
import { loadAddon } from "../lib/addon.js";
import type { Backend, CodebookSpec } from "../lib/backend.js";
import type { CudaAddon } from "../lib/cuda/addon.js";
import { openBackend, status } from "../lib/open-backend.js";
import { Random } from "../lib/random.js";
import { ResidualQuantizer } from "../lib/residual-quantizer.js";
import { gridExponentFor } from "../lib/statistics.js";

const available = status().backends.find(({ name }) => name === "cuda")?.available === true;
const { file, addon } = loadAddon();
const native = addon as CudaAddon;
const dim = 12;

function numbers(length: number, seed: number): Float32Array {
  const random = new Random(seed);
  return Float32Array.from({ length }, () => random.fraction() - 0.5);
}

const spec: CodebookSpec = {
  dim,
  metric: "l2",
  weights: Float32Array.from({ length: dim }, (_, i) => i / 7),
  codebooks: [numbers(40 * dim, 1), numbers(33 * dim, 2), numbers(2 * dim, 3)],
};
const stages = spec.codebooks.length;

/** Every operation on rows, on one backend. */
async function allOperations(backend: Backend, vectors: Float32Array) {
  const count = vectors.length / dim;
  const prepared = backend.prepare(spec);
  const codes = new Uint16Array(count * stages);
  const residuals = new Float32Array(count * dim);
  const bad = await prepared.encode({ vectors, count, stages, codes, residuals });
  const decoded = new Float32Array(count * dim);
  await prepared.decode({ codes, count, codeStages: stages, stages: 2, vectors: decoded });
  const measured = new Float64Array(count * stages);
  const rows = { vectors, count, codes, codeStages: stages, stages };
  await prepared.distances({ ...rows, weighted: true, distances: measured });
  const assigned = new Uint16Array(count);
  const distances = new Float64Array(count);
  const plainDistances = new Float64Array(count);
  await prepared.assign({ vectors, count, codes: assigned, distances, plainDistances });
  prepared.dispose();

  const lowest = new Float64Array(count).fill(0.4);
  const centre = spec.codebooks[0].subarray(0, dim);
  await backend.lowerDistances({ vectors, count, dim, weights: null, centre, distances: lowest });
  // Few codewords and more than there are rows; each with rows that then move.
  const statistics: { counts: Float64Array; sums: Float64Array }[] = [];
  for (const numCodewords of [40, 5000]) {
    const counts = new Float64Array(numCodewords);
    const sums = new Float64Array(numCodewords * dim);
    const gridExponents = Int32Array.from({ length: dim }, (_, i) => gridExponentFor(0.5, 10 ** i));
    const request = { vectors, count, dim, numCodewords, gridExponents, counts, sums };
    await backend.accumulate({ ...request, codes: assigned });
    const moved = assigned.map((code, n) => (n % 3 === 0 ? (code * 7 + 1) % 40 : code));
    await backend.accumulate({ ...request, codes: moved, previousCodes: assigned });
    statistics.push({ counts, sums });
  }
  return { bad, codes, residuals, decoded, measured, assigned, distances, plainDistances, lowest, statistics };
}

describe.skipIf(!available)("the cuda backend", () => {
  const backend = () => openBackend("cuda", undefined);
  const limit = (limits: { pieceRows?: number; memoryBytes?: number }) =>
    native.cudaTestLimits?.({ pieceRows: 0, memoryBytes: 0, ...limits });
  afterEach(() => limit({}));

  it("describes its device", () => {
    const { name, computeCapability } = native.cudaInfo().devices[0];
    const { description } = openBackend("cuda", 3, 0);
    expect(description).toContain(`${name}, sm_${computeCapability.replace(".", "")}, `);
    expect(description).toContain(", device 0, ");
    expect(() => openBackend("cuda", undefined, 999)).toThrow(/device: expected one that exists: 0 \(.*\), got 999/);
  });

  it("gives the same bytes for pieces just below, at and above the number of rows", async () => {
    for (const count of [0, 1, 6, 7, 8, 13, 14, 15, 64, 65, 200]) {
      const vectors = numbers(count * dim, count + 10);
      const expected = await allOperations(openBackend("js", undefined), vectors);
      for (const pieceRows of count < 15 ? [1, 7, 0] : [7, 64, 0]) {
        limit({ pieceRows });
        expect(await allOperations(backend(), vectors), `${count} rows, pieces of ${pieceRows}`).toEqual(expected);
      }
    }
  });

  it("names the first bad element of all pieces", async () => {
    limit({ pieceRows: 7 });
    const prepared = backend().prepare(spec);
    for (const [row, column] of [
      [0, 0],
      [6, 11],
      [7, 0],
      [40, 5],
      [99, 11],
    ]) {
      const vectors = numbers(100 * dim, 4);
      vectors[row * dim + column] = Number.NaN;
      if (column < 11) vectors[row * dim + 11] = Infinity;
      if (row < 99) vectors[99 * dim] = Number.NaN;
      const request = { vectors, count: 100, stages, codes: new Uint16Array(300) };
      expect(await prepared.encode(request)).toEqual({ kind: "not finite", row, column });
      expect(prepared.encodeSync(request)).toEqual({ kind: "not finite", row, column });
    }
    const cosine = backend().prepare({ ...spec, metric: "cosine", weights: null });
    const zero = numbers(100 * dim, 4).fill(0, 33 * dim, 35 * dim);
    const request = { vectors: zero, count: 100, stages, codes: new Uint16Array(300) };
    expect(await cosine.encode(request)).toEqual({ kind: "zero", row: 33, column: 0 });
  });

  it("goes on with fewer rows where the device is out of memory, and says so where one row does not fit", async () => {
    const vectors = numbers(5000 * dim, 5);
    const expected = await allOperations(openBackend("js", undefined), vectors);
    limit({ memoryBytes: 150_000 });
    expect(await allOperations(backend(), vectors)).toEqual(expected);
    limit({ memoryBytes: 16 });
    await expect(allOperations(backend(), vectors)).rejects.toMatchObject({
      code: "OUT_OF_MEMORY",
      message: expect.stringMatching(/the device is out of memory \(.*for a single row\): free memory/),
    });
    limit({});
    expect(await allOperations(backend(), vectors)).toEqual(expected);
  });

  it("refuses codes without a codeword, and lives", async () => {
    const prepared = backend().prepare(spec);
    for (const wide of [false, true]) {
      const count = 300;
      const codes = wide ? new Uint32Array(count * stages) : new Uint16Array(count * stages);
      codes[299 * stages + 1] = wide ? 2 ** 32 - 1 : 33;
      const rows = { codes, count, codeStages: stages, stages };
      const vectors = numbers(count * dim, 6);
      await expect(prepared.decode({ ...rows, vectors: vectors.slice() })).rejects.toThrow(RangeError);
      const distances = new Float64Array(count * stages);
      await expect(prepared.distances({ ...rows, vectors, weighted: false, distances })).rejects.toThrow(RangeError);
      const statistics = { counts: new Float64Array(33), sums: new Float64Array(33 * dim) };
      const grid = { numCodewords: 33, gridExponents: new Int32Array(dim) };
      await expect(backend().accumulate({ ...rows, vectors, dim, ...grid, ...statistics })).resolves.toBeUndefined();
      codes[7] = 33;
      await expect(backend().accumulate({ ...rows, vectors, dim, ...grid, ...statistics })).rejects.toThrow(RangeError);
      codes.fill(0);
      await prepared.decode({ ...rows, vectors });
      expect(vectors.subarray(0, dim)).toEqual(vectors.subarray(299 * dim));
    }
  });

  it("works for several quantizers and calls at a time", async () => {
    limit({ pieceRows: 100 });
    const inputs = Array.from({ length: 12 }, (_, i) => numbers((100 + 97 * i) * dim, 20 + i));
    const results = await Promise.all(inputs.map((vectors) => allOperations(backend(), vectors)));
    for (const [i, vectors] of inputs.entries()) {
      expect(results[i]).toEqual(await allOperations(openBackend("js", undefined), vectors));
    }
  });

  it("finishes calls of what is disposed of meanwhile", async () => {
    const prepared = backend().prepare(spec);
    const count = 20_000;
    const vectors = numbers(count * dim, 7);
    const codes = new Uint16Array(count * stages);
    const running = prepared.encode({ vectors, count, stages, codes });
    prepared.dispose();
    expect(await running).toBeNull();
    const expected = new Uint16Array(count * stages);
    openBackend("js", undefined).prepare(spec).encodeSync({ vectors, count, stages, codes: expected });
    expect(codes).toEqual(expected);
    await expect(prepared.encode({ vectors, count, stages, codes })).rejects.toMatchObject({ code: "DISPOSED" });
  });

  it("lets a worker be terminated in the middle of a call", async () => {
    const source = `
      const { parentPort, workerData } = require("node:worker_threads");
      const { CudaCodebooks, CudaMemory } = require(workerData.file);
      const codebooks = [new Float32Array(64 * 16).map((_, i) => i % 13)];
      const core = new CudaCodebooks({ dim: 16, metric: "l2", weights: null, codebooks, device: 0 });
      const vectors = new Float32Array(50000 * 16).map((_, i) => i % 7);
      for (let i = 0; i < 20; i++) core.encode({ vectors, count: 50000, stages: 1, codes: new Uint16Array(50000) });
      new CudaMemory({ device: 0, bytes: vectors.byteLength }).upload({ source: vectors, offset: 0 });
      parentPort.postMessage("running");
    `;
    // What is on the device already is waited for.
    limit({ pieceRows: 2000 });
    for (let round = 0; round < 3; round++) {
      const worker = new Worker(source, { eval: true, workerData: { file } });
      await once(worker, "message");
      expect(await worker.terminate()).toBe(1);
    }
    expect((await allOperations(backend(), numbers(9 * dim, 8))).bad).toBeNull();
  });

  it("trains the same model from rows that it holds, whole and in pieces", async () => {
    const vectors = numbers(1500 * dim, 12);
    const train = (name: "js" | "cuda", metric: "l2" | "cosine") =>
      ResidualQuantizer.train(vectors, { dim, metric, codebookSize: [64, 20], iterations: 5, backend: name });
    for (const metric of ["l2", "cosine"] as const) {
      const expected = (await train("js", metric)).toBytes();
      for (const pieceRows of [0, 333]) {
        limit({ pieceRows });
        expect((await train("cuda", metric)).toBytes()).toEqual(expected);
      }
    }
  });

  it("takes held rows from where a request's rows begin, and refuses those that are not there", async () => {
    const count = 50;
    const vectors = numbers(count * dim, 13);
    const held = await backend().hold?.(vectors, dim);
    const prepared = backend().prepare(spec);
    const assign = async (from: number, to: number, rows: Float32Array) => {
      const request = { vectors: rows.subarray(from * dim, to * dim), count: to - from, held };
      const codes = new Uint16Array(to - from);
      await prepared.assign({ ...request, codes, distances: new Float64Array(to - from) });
      return codes;
    };
    const all = await assign(0, count, vectors);
    expect(await assign(17, 29, vectors)).toEqual(all.subarray(17, 29));
    expect(await assign(49, 50, vectors)).toEqual(all.subarray(49));
    expect(await assign(0, 50, vectors.slice())).toEqual(all);
    const beyond = new Float32Array(vectors.buffer, 0, count * dim);
    const part = await backend().hold?.(beyond.subarray(10 * dim), dim);
    const outside = { vectors: beyond.subarray(0, dim), count: 1, held: part };
    await expect(
      prepared.assign({ ...outside, codes: new Uint16Array(1), distances: new Float64Array(1) }),
    ).rejects.toThrow("firstRow: expected an integer");
    held?.dispose();
    part?.dispose();
    await expect(assign(0, 1, vectors)).rejects.toThrow("resident: expected CudaMemory");
  });

  it("gives the public API's answers by name and with auto", async () => {
    const vectors = numbers(3000 * dim, 9);
    const open = (name: "js" | "cuda" | "auto") =>
      ResidualQuantizer.fromCodebooks([...spec.codebooks], { dim, backend: name });
    const expected = await open("js").encode(vectors);
    for (const name of ["cuda", "auto"] as const) {
      expect(await open(name).encode(vectors)).toEqual(expected);
      expect(open(name).encodeSync(vectors.subarray(0, dim)).data).toEqual(expected.data.subarray(0, stages));
      expect(await open(name).encode(vectors, { beam: 3 })).toEqual(await open("js").encode(vectors, { beam: 3 }));
    }
  });
});
