// Arrays that stay on a GPU, on a machine with one (or in the build that emulates one): the results of arrays that do not.

import { describe, expect, it } from "vitest";
import { loadAddon } from "../lib/addon.js";
import type { CudaAddon } from "../lib/cuda/addon.js";
import { RvqError } from "../lib/errors.js";
import { vectorRange } from "../lib/mergeable-statistics.js";
import { openBackend, status } from "../lib/open-backend.js";
import { Random } from "../lib/random.js";
import { ResidualQuantizer } from "../lib/residual-quantizer.js";
import { accumulate, emptyStatistics } from "../lib/statistics.js";

const available = status().backends.find(({ name }) => name === "cuda")?.available === true;
const native = loadAddon().addon as CudaAddon;
const dim = 10;
const count = 1234;

function numbers(length: number, seed: number): Float32Array {
  const random = new Random(seed);
  return Float32Array.from({ length }, () => random.fraction() - 0.5);
}

describe.skipIf(!available)("device arrays", () => {
  const codebooks = [50, 31, 7].map((size, i) => numbers(size * dim, i));
  const open = (backend: "cuda" | "js" = "cuda") => ResidualQuantizer.fromCodebooks(codebooks, { dim, backend });
  const vectors = numbers(count * dim, 9);

  it("hold what was uploaded, of any size", async () => {
    const { device } = open();
    for (const rows of [0, 1, 51, count]) {
      const resident = await device.upload(vectors.subarray(0, rows * dim));
      expect(resident).toMatchObject({ count: rows, dim, device: 0, sizeBytes: rows * dim * 4, kernelMs: 0 });
      expect(await resident.download()).toEqual(vectors.slice(0, rows * dim));
      resident.dispose();
    }
    const codes = await open("js").encode(vectors);
    expect(await (await device.uploadCodes(codes)).download()).toEqual(codes);
  });

  it("hold what was uploaded in several pieces", async () => {
    const { device } = open();
    const rows = Math.floor((40 * 2 ** 20) / (dim * 4));
    const many = Float32Array.from({ length: rows * dim }, (_, i) => i);
    const resident = await device.upload(many);
    // Not toEqual, which looks at ten million elements one by one.
    expect(Buffer.compare(Buffer.from((await resident.download()).buffer), Buffer.from(many.buffer))).toBe(0);
    resident.dispose();
  }, 20_000);

  it("are encoded and decoded to the same bytes", async () => {
    const { device } = open();
    const js = open("js");
    const resident = await device.upload(vectors);
    for (const stages of [1, 2, 3]) {
      const expected = await js.encode(vectors, { stages });
      const codes = await device.encode(resident, { stages });
      expect(await codes.download()).toEqual(expected);
      expect(codes.kernelMs).toBeGreaterThanOrEqual(0);
      expect(codes.residuals).toBeNull();
      expect(await (await device.decode(codes)).download()).toEqual(await js.decode(expected));
      expect(await (await device.decode(codes, { stages: 1 })).download()).toEqual(
        await js.decode(expected, { stages: 1 }),
      );
    }
    expect(await resident.download(), "the vectors are left alone").toEqual(vectors);
  });

  it("give the counts, sums and means of every stage", async () => {
    const { device } = open();
    const resident = await device.upload(vectors);
    const codes = await device.encode(resident);
    const host = await codes.download();
    const range = await vectorRange(vectors, { dim });
    for (const stage of [0, 1, 2]) {
      const rows =
        stage === 0 ? resident : (await device.encode(resident, { stages: stage, residuals: true })).residuals;
      if (rows === null) throw new Error("no residuals");
      const result = await device.accumulate(rows, codes, { range, stage });
      const expected = emptyStatistics(codebooks[stage].length / dim, result.gridExponents);
      const column = Uint16Array.from({ length: count }, (_, n) => host.data[n * 3 + stage]);
      await accumulate(openBackend("js", undefined), expected, await rows.download(), column);
      expect(result.counts).toEqual(expected.counts);
      expect(result.sums).toEqual(expected.sums);
      expect(result.counts.reduce((a, b) => a + b)).toBe(count);
      expect(result.means).toHaveLength(codebooks[stage].length);
    }
  });

  it("report bad vectors as other calls do", async () => {
    const { device } = open();
    const bad = vectors.slice();
    bad[77 * dim + 3] = Infinity;
    await expect(device.encode(await device.upload(bad))).rejects.toMatchObject({
      code: "NOT_FINITE",
      message: expect.stringContaining("row 77, column 3"),
    });
  });

  it("are refused after dispose, of other dimensions, and where they are something else", async () => {
    const { device } = open();
    const resident = await device.upload(vectors);
    const codes = await device.encode(resident);
    const running = device.decode(codes);
    codes.dispose();
    codes.dispose();
    expect(await (await running).download()).toEqual(await open("js").decode(await open("js").encode(vectors)));
    await expect(codes.download()).rejects.toMatchObject({ code: "DISPOSED" });
    await expect(device.decode(codes)).rejects.toMatchObject({ code: "DISPOSED" });
    resident[Symbol.dispose]();
    await expect(device.encode(resident)).rejects.toMatchObject({ code: "DISPOSED" });

    const other = ResidualQuantizer.fromCodebooks([numbers(6, 1)], { dim: 3, backend: "cuda" });
    const narrow = await other.device.upload(numbers(30, 2));
    await expect(device.encode(narrow)).rejects.toThrow("vectors.dim: expected dim 10, got 3");
    for (const wrong of [null, vectors, {}]) {
      await expect(device.encode(wrong as never)).rejects.toBeInstanceOf(RvqError);
      await expect(device.decode(wrong as never)).rejects.toBeInstanceOf(RvqError);
    }
    const tooLarge = await device.encode(await device.upload(vectors));
    const small = ResidualQuantizer.fromCodebooks([numbers(dim, 1), numbers(dim, 1), numbers(dim, 1)], {
      dim,
      backend: "cuda",
    });
    await expect(small.device.decode(tooLarge)).rejects.toMatchObject({ code: "CODE_OUT_OF_RANGE" });
  });

  it("cannot be confused natively: wrong sizes and objects are TypeErrors", () => {
    const memory = new native.CudaMemory({ device: 0, bytes: 64 });
    const core = new native.CudaCodebooks({ dim, metric: "l2", weights: null, codebooks, device: 0 });
    const request = { vectors: memory, count: 100, stages: 1, codes: memory, wide: false };
    expect(() => core.encodeResident(request)).toThrow("vectors: expected CudaMemory of 4000 bytes on device 0");
    expect(() => core.encodeResident({ ...request, count: 1 })).toThrow("codes: expected memory apart");
    for (const wrong of [{}, null, core, new Float32Array(1000)]) {
      expect(() => core.encodeResident({ ...request, vectors: wrong as never })).toThrow(TypeError);
    }
    expect(() => memory.upload({ source: new Float32Array(17), offset: 0 })).toThrow(TypeError);
    expect(() => memory.upload({ source: new Float32Array(1), offset: 61 })).toThrow(TypeError);
    expect(() => memory.download({ target: new Int8Array(8) as never, offset: 0 })).toThrow(TypeError);
    memory.dispose();
    expect(() => memory.upload({ source: new Float32Array(1), offset: 0 })).toThrow("disposed");
  });

  it("are freed with the quantizer still in use, and survive it", async () => {
    const rq = open();
    const { device } = rq;
    const resident = await device.upload(vectors);
    const running = device.encode(resident);
    rq.dispose();
    expect((await (await running).download()).count).toBe(count);
    expect(() => rq.device).toThrow(expect.objectContaining({ code: "DISPOSED" }));
    expect(await resident.download()).toEqual(vectors);
  });
});
