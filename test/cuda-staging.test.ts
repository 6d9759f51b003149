// Calls from and to pinned memory, on a machine with a GPU (or in the build that emulates one): the bytes of other calls, whatever
// happens to the arrays meanwhile.

import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { setImmediate as turn } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Worker } from "node:worker_threads";
import { afterEach, describe, expect, it } from "vitest";
import { loadAddon } from "../lib/addon.js";
import type { Backend, CodebookSpec } from "../lib/backend.js";
import type { CudaAddon } from "../lib/cuda/addon.js";
import { roomBytes } from "../lib/cuda/staging.js";
import { openBackend, status } from "../lib/open-backend.js";
import { Random } from "../lib/random.js";
import { ResidualQuantizer } from "../lib/residual-quantizer.js";
import { detach } from "./lost-memory.js";

const available = status().backends.find(({ name }) => name === "cuda")?.available === true;
const { file, addon } = loadAddon();
const native = addon as CudaAddon;

function numbers(length: number, seed: number): Float32Array {
  const random = new Random(seed);
  return Float32Array.from({ length }, () => random.fraction() - 0.5);
}

/** Not toEqual, which looks at millions of elements one by one. */
function expectSameBytes(actual: ArrayBufferView, expected: ArrayBufferView, what: string) {
  const bytesOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView) => Buffer.from(buffer, byteOffset, byteLength);
  expect(Buffer.compare(bytesOf(actual), bytesOf(expected)), what).toBe(0);
}

const rooms = () => native.cudaTestRooms?.() ?? { bytes: 0, found: 0 };

describe.skipIf(!available || native?.cudaTestRooms === undefined)("calls from pinned memory", () => {
  const dim = 12;
  const spec: CodebookSpec = {
    dim,
    metric: "l2",
    weights: null,
    codebooks: [numbers(40 * dim, 1), numbers(33 * dim, 2), numbers(2 * dim, 3)],
  };
  const stages = spec.codebooks.length;
  const limit = (limits: { pieceRows?: number; memoryBytes?: number }) =>
    native.cudaTestLimits?.({ pieceRows: 0, memoryBytes: 0, ...limits });
  afterEach(() => limit({}));

  /** What reads or writes vectors, these lying in `place`, which is as long. */
  async function operations(backend: Backend, vectors: Float32Array, place: Float32Array) {
    const count = vectors.length / dim;
    const prepared = backend.prepare(spec);
    const codes = new Uint16Array(count * stages);
    place.set(vectors);
    const bad = await prepared.encode({ vectors: place, count, stages, codes });
    const sync = new Uint16Array(count * stages);
    prepared.encodeSync({ vectors: place, count, stages, codes: sync });
    const residuals = new Float32Array(count * dim);
    await prepared.encode({ vectors: place, count, stages, codes: codes.slice(), residuals });
    const distances = new Float64Array(count * stages);
    const rows = { count, codes, codeStages: stages, stages };
    await prepared.distances({ ...rows, vectors: place, weighted: false, distances });
    expectSameBytes(place, vectors, "the vectors are left alone");
    place.fill(Number.NaN);
    await prepared.decode({ ...rows, vectors: place });
    const decoded = place.slice();
    place.fill(Number.NaN);
    prepared.decodeSync({ ...rows, stages: 1, vectors: place });
    const coarse = place.slice();
    prepared.dispose();
    return { bad, codes, sync, residuals, distances, decoded, coarse };
  }

  it("give the same bytes wherever in it they begin, in pieces of any size", async () => {
    const room = (await native.cudaStagingRoom({ device: 0, bytes: 2 ** 16 })) as ArrayBuffer;
    const all = new Float32Array(room);
    for (const count of [0, 1, 7, 15, 65, 200]) {
      const vectors = numbers(count * dim, count + 10);
      const js = await operations(openBackend("js", undefined), vectors, vectors.slice());
      for (const [offset, pieceRows] of [
        [0, 0],
        [1, 7],
        [77, 64],
        [all.length - vectors.length, 0],
      ]) {
        limit({ pieceRows: count < 65 || pieceRows > 7 ? pieceRows : 0 });
        all.fill(-5);
        const place = all.subarray(offset, offset + vectors.length);
        const before = rooms().found;
        expect(await operations(openBackend("cuda", undefined), vectors, place)).toEqual(js);
        expect(rooms().found - before).toBe(6);
        expect(all.subarray(0, offset).every((value) => value === -5)).toBe(true);
        expect(all.subarray(offset + vectors.length).every((value) => value === -5)).toBe(true);
      }
    }
  });

  it("go on with fewer rows where the device is out of memory, and name bad rows and codes", async () => {
    const count = 3000;
    const room = (await native.cudaStagingRoom({ device: 0, bytes: count * dim * 4 })) as ArrayBuffer;
    const place = new Float32Array(room);
    const vectors = numbers(count * dim, 5);
    const js = await operations(openBackend("js", undefined), vectors, vectors.slice());
    limit({ memoryBytes: 150_000 });
    expect(await operations(openBackend("cuda", undefined), vectors, place)).toEqual(js);
    limit({ memoryBytes: 16 });
    await expect(operations(openBackend("cuda", undefined), vectors, place)).rejects.toMatchObject({
      code: "OUT_OF_MEMORY",
    });
    limit({ pieceRows: 77 });
    const prepared = openBackend("cuda", undefined).prepare(spec);
    place.set(vectors);
    place[2998 * dim + 3] = Number.NaN;
    place[2999 * dim] = Infinity;
    const codes = new Uint16Array(count * stages);
    const bad = { kind: "not finite", row: 2998, column: 3 };
    expect(await prepared.encode({ vectors: place, count, stages, codes })).toEqual(bad);
    codes.fill(0)[2999 * stages + 1] = 33;
    const rows = { codes, count, codeStages: stages, stages };
    await expect(prepared.decode({ ...rows, vectors: place })).rejects.toThrow(RangeError);
    const distances = new Float64Array(count * stages);
    await expect(prepared.distances({ ...rows, vectors: place, weighted: false, distances })).rejects.toThrow(
      RangeError,
    );
  });

  it("keep their memory when nothing else refers to it any more, or when somebody tries to move it", async () => {
    await collect();
    const before = rooms().bytes;
    const count = 2000;
    const vectors = numbers(count * dim, 6);
    const codes = new Uint16Array(count * stages);
    const prepared = openBackend("cuda", undefined).prepare(spec);
    const start = async () => {
      const room = (await native.cudaStagingRoom({ device: 0, bytes: vectors.byteLength })) as ArrayBuffer;
      const place = new Float32Array(room);
      place.set(vectors);
      const running = prepared.encode({ vectors: place, count, stages, codes });
      try {
        structuredClone(room, { transfer: [room] });
      } catch (error) {
        expect(error).toMatchObject({ name: "DataCloneError" });
      }
      return running;
    };
    const running = start();
    await collect();
    expect(await running).toBeNull();
    const expected = new Uint16Array(count * stages);
    openBackend("js", undefined).prepare(spec).encodeSync({ vectors, count, stages, codes: expected });
    expect(codes).toEqual(expected);
    await collect();
    expect(rooms().bytes).toBe(before);
  });

  it("find no more rooms than the process may have", async () => {
    const bytes = 2 ** 25;
    const made: unknown[] = [];
    const makeAll = async () => {
      for (let i = 0; i < 9; i++) made.push(await native.cudaStagingRoom({ device: 0, bytes }));
    };
    await expect(makeAll()).rejects.toMatchObject({ code: "OUT_OF_MEMORY" });
    expect(made.length).toBeGreaterThan(0);
    expect(made.length).toBeLessThan(9);
    expect(rooms().bytes).toBeLessThanOrEqual(2 ** 28);
    made.length = 0;
    await collect();
    expect(rooms().bytes).toBeLessThan(2 ** 27);
    expect(() => native.cudaStagingRoom({ device: 0, bytes: 2 ** 28 + 1 })).toThrow(TypeError);
    expect(() => native.cudaStagingRoom({ device: 0, bytes: 0 })).toThrow(TypeError);
  });

  it("let a worker be terminated in the middle of calls and of making rooms", async () => {
    const source = `
      const { parentPort, workerData } = require("node:worker_threads");
      const { CudaCodebooks, CudaMemory, cudaStagingRoom } = require(workerData.file);
      const codebooks = [new Float32Array(64 * 16).map((_, i) => i % 13)];
      const core = new CudaCodebooks({ dim: 16, metric: "l2", weights: null, codebooks, device: 0 });
      const count = 20000;
      cudaStagingRoom({ device: 0, bytes: 2 * count * 64 }).then((room) => {
        const vectors = new Float32Array(room, 0, count * 16).map((_, i) => i % 7);
        const target = new Float32Array(room, count * 64, count * 16);
        const codes = new Uint16Array(count);
        for (let i = 0; i < 8; i++) {
          core.encode({ vectors: target, count, stages: 1, codes: new Uint16Array(count) });
          core.decode({ codes, count, codeStages: 1, stages: 1, vectors: target });
        }
        new CudaMemory({ device: 0, bytes: target.byteLength }).upload({ source: target, offset: 0 });
        for (let i = 0; i < 3; i++) cudaStagingRoom({ device: 0, bytes: 2 ** 22 });
        parentPort.postMessage("running");
      });
    `;
    await collect();
    const before = rooms().bytes;
    // So that the calls are in their midst when the worker's buffers are finalized, before it waits for them.
    limit({ pieceRows: 500 });
    for (let round = 0; round < 4; round++) {
      const worker = new Worker(source, { eval: true, workerData: { file } });
      await once(worker, "message");
      if (round % 2 === 1) await turn();
      expect(await worker.terminate()).toBe(1);
    }
    expect(rooms().bytes).toBe(before);
  });

  it.each(["encode", "project"])("let a worker be terminated while the processor works on one: %s", (call) => {
    // In a process of its own, which memory that is gone would end.
    const options = { encoding: "utf8", timeout: 100_000 } as const;
    const exits = execFileSync(process.execPath, ["-e", processorSource, file ?? "", call], options);
    expect(JSON.parse(exits)).toEqual([1, 1, 1]);
  });

  describe("of many chunks", () => {
    const wide = 4096;
    const chunkRows = roomBytes / (4 * wide);
    const count = 5 * chunkRows + 3;
    const codebooks = [numbers(2 * wide, 21)];
    const open = (backend: "cuda" | "js") => ResidualQuantizer.fromCodebooks(codebooks, { dim: wide, backend });
    /** Row n is n times as far as the first on the way from one codeword to the other. */
    const vectors = Float32Array.from({ length: count * wide }, (_, i) => {
      const share = ((Math.floor(i / wide) * 7) % 11) / 10;
      return (1 - share) * codebooks[0][i % wide] + share * codebooks[0][wide + (i % wide)];
    });

    /** Calls until the rooms that the first ones asked for are there. */
    async function withRooms(call: () => Promise<unknown>) {
      for (let before = rooms().found, i = 0; rooms().found === before; i++) {
        expect(i).toBeLessThan(20);
        await call();
      }
    }

    it("are the same as by the definition, several at once, and name a bad row of a later chunk", async () => {
      const rq = open("cuda");
      const expected = await open("js").encode(vectors);
      const reconstruction = await open("js").decode(expected);
      const some = vectors.subarray(0, 2 * chunkRows * wide);
      await withRooms(() => rq.encode(some));
      const into = [new Float32Array(vectors.length + 1).subarray(1), new Float32Array(vectors.length)];
      const calls = [
        rq.encode(vectors),
        rq.decode(expected, { into: into[0] }),
        rq.decode(expected, { into: into[1] }),
      ];
      expect(await calls[0]).toEqual(expected);
      for (const [i, call] of calls.slice(1).entries()) expectSameBytes((await call) as Float32Array, into[i], "into");
      for (const decoded of into) expectSameBytes(decoded, reconstruction, "decode into");
      expectSameBytes(await rq.decode(expected), reconstruction, "decode");
      expect(await rq.distortion(vectors, expected)).toEqual(await open("js").distortion(vectors, expected));
      const resident = await rq.device.upload(vectors);
      expectSameBytes(await resident.download(), vectors, "upload");
      resident.dispose();

      const bad = some.slice();
      bad[(chunkRows + 17) * wide + 5] = Number.NaN;
      const message = expect.stringContaining(`in row ${chunkRows + 17}, column 5`);
      await expect(rq.encode(bad)).rejects.toMatchObject({ code: "NOT_FINITE", message });
      rq.dispose();
    });

    it("survive arrays that are detached at any moment, and leave the rooms to the next", async () => {
      const rq = open("cuda");
      const { device } = rq;
      const codes = await open("js").encode(vectors);
      const refused = {
        code: "INVALID_ARGUMENT",
        message: expect.stringMatching(/^(vectors|into): expected an array left alone during the call/),
      };
      await withRooms(() => device.upload(vectors));
      for (let chunks = 0; chunks <= 5; chunks++) {
        const spoilAfter = (array: Float32Array) => {
          let done = 0;
          // At once, or when so many chunks are done.
          if (chunks === 0) queueMicrotask(() => detach(array));
          return { onProgress: () => (++done === chunks ? detach(array) : undefined) };
        };
        const [uploaded, into] = [vectors.slice(), new Float32Array(vectors.length)];
        const results = await Promise.allSettled([
          device.upload(uploaded, spoilAfter(uploaded)),
          rq.decode(codes, { into, ...spoilAfter(into) }),
        ]);
        // What is copied already is not missed: three chunks are under way.
        for (const [i, result] of results.entries()) {
          if (result.status === "rejected") expect(result.reason, `after ${chunks} chunks`).toMatchObject(refused);
          else expect(i === 0 && chunks >= 3, `${i} after ${chunks} chunks`).toBe(true);
        }
      }
      // The rooms that there are serve all of these calls: none has been lost.
      const { bytes, found } = rooms();
      await device.upload(vectors);
      expect(rooms().found).toBeGreaterThanOrEqual(found + 5);
      expect(bytes).toBeLessThanOrEqual(8 * roomBytes);
      rq.dispose();
    });
  });
});

/** Prints how workers have ended that were terminated in the midst of a call of the CPU core from or to pinned memory. */
const processorSource = `
  const { once } = require("node:events");
  const { setTimeout: sleep } = require("node:timers/promises");
  const { Worker } = require("node:worker_threads");
  const [file, call] = process.argv.slice(1);
  require(file);
  const source = \`
    const { parentPort, workerData: { file, call } } = require("node:worker_threads");
    const { cpuInfo, cudaStagingRoom, CpuCodebooks, CpuProjection } = require(file);
    const { instructionSet } = cpuInfo();
    const dim = 256;
    const count = 2 ** 14;
    const some = (rows) => Float32Array.from({ length: rows * dim }, (_, i) => ((i * 7919) % 1009) / 1009);
    const calls = {
      encode(room) {
        const codebooks = [1, 2, 3, 4].map(() => some(1024));
        const core = new CpuCodebooks({ dim, metric: "l2", weights: null, codebooks, threads: 2, instructionSet });
        core.encode({ vectors: room, count, stages: 4, codes: new Uint16Array(4 * count), residuals: room });
      },
      project(room) {
        const linear = { weight: some(dim), bias: null, inDim: dim, outDim: dim, threads: 2, instructionSet };
        const vectors = new Float32Array(count * dim).fill(0.25);
        new CpuProjection(linear).project({ vectors, count, projected: room, into: "replace" });
      },
    };
    // Stays when the call is done.
    parentPort.on("message", () => {});
    cudaStagingRoom({ device: 0, bytes: 4 * count * dim }).then((room) => {
      calls[call](new Float32Array(room).fill(0.25));
      parentPort.postMessage("running");
    });
  \`;
  (async () => {
    const exits = [];
    for (const ms of [0, 10, 30]) {
      const worker = new Worker(source, { eval: true, workerData: { file, call } });
      await once(worker, "message");
      await sleep(ms);
      exits.push(await worker.terminate());
    }
    console.log(JSON.stringify(exits));
  })();
`;

/** Collects garbage, and lets what has been collected be finalized. */
async function collect() {
  setFlagsFromString("--expose-gc");
  const gc = runInNewContext("gc") as () => void;
  for (let i = 0; i < 5; i++) {
    gc();
    await turn();
  }
}
