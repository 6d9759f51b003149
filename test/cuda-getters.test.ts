// Requests to the CUDA core of the addon that change under its hands, on a machine with a GPU (or in the build that emulates one).

import { describe, expect, it } from "vitest";
import { loadAddon } from "../lib/addon.js";
import type { CudaAddon } from "../lib/cuda/addon.js";
import { status } from "../lib/open-backend.js";
import { detach, resizable } from "./lost-memory.js";

const available = status().backends.find(({ name }) => name === "cuda")?.available === true;
const native = loadAddon().addon as CudaAddon;
const dim = 4;
const device = { device: 0 };
const codebook = (size = 8) => Float32Array.from({ length: size * dim }, (_, i) => ((i * 7919) % 1009) / 100);
const spec = (codebooks: Float32Array[] = [codebook()]) => ({
  ...{ dim, metric: "l2" as const, weights: null, codebooks },
  ...device,
});
const open = () => new native.CudaCodebooks(spec());

describe.skipIf(!available)("a request to the CUDA core", () => {
  it("has its answer where a getter disposes of what it was asked of", async () => {
    const decoding = { count: 1, stages: 1, codeStages: 1, codes: Uint16Array.of(3) };
    const expected = codebook().slice(3 * dim, 4 * dim);
    for (const run of ["decode", "decodeSync"] as const) {
      const core = open();
      const vectors = new Float32Array(dim);
      const request = {
        ...{ ...decoding, vectors },
        get count() {
          core.dispose();
          return 1;
        },
      };
      await core[run](request);
      expect(vectors).toEqual(expected);
      expect(() => core[run](request)).toThrow("disposed");
    }

    const core = open();
    const target = new Float32Array(8 * dim);
    const reading = {
      target,
      get stage() {
        core.dispose();
        return 0;
      },
    };
    await core.readCodewordsResident(reading);
    expect(target).toEqual(codebook());

    const memory = new native.CudaMemory({ ...device, bytes: 64 });
    const uploading = {
      source: new Float32Array(4),
      get offset() {
        memory.dispose();
        return 0;
      },
    };
    await memory.upload(uploading);
    expect(() => memory.upload(uploading)).toThrow("disposed");
  });

  it("is refused where a getter takes the memory of an array that was read before", () => {
    const left = "expected an array left alone while the request is read";
    const count = 1 << 12;
    const shrinking = resizable(4 * count * dim);
    const encoding = {
      ...{ count, stages: 1, vectors: new Float32Array(shrinking), codes: new Uint16Array(count) },
      get residuals() {
        shrinking.resize(0);
        return undefined;
      },
    };
    expect(() => open().encodeSync(encoding)).toThrow(`vectors: ${left}`);

    const first = codebook();
    const codebooks = Object.defineProperty([first], 1, {
      get() {
        detach(first);
        return codebook();
      },
    });
    expect(() => new native.CudaCodebooks(spec(codebooks))).toThrow(`codebooks: ${left}`);

    const vectors = new native.CudaMemory({ ...device, bytes: 4 * count * dim });
    const codes = new native.CudaMemory({ ...device, bytes: 2 * count });
    const sums = new Float64Array(8 * dim);
    const summing = {
      ...{ vectors, count, dim, wide: false, codeStages: 1, stage: 0, numCodewords: 8 },
      ...{ gridExponents: new Int32Array(dim), counts: new Float64Array(8), sums },
      get codes() {
        detach(sums);
        return codes;
      },
    };
    expect(() => native.cudaAccumulateResident(summing, device)).toThrow(`sums: ${left}`);

    const fractions = new Float64Array(16);
    const drawing = {
      ...{ vectors, count, dim, weights: null, fresh: true, last: 0, draws: 16, fractions, rows: new Uint32Array(16) },
      get distances() {
        detach(fractions);
        return new native.CudaMemory({ ...device, bytes: 8 * count });
      },
    };
    expect(() => native.cudaDrawResident(drawing, device)).toThrow(`fractions: ${left}`);
  });

  it("with numbers that are not finite prepares nothing", () => {
    for (const wrong of [Number.NaN, Infinity]) {
      const bad = codebook();
      bad[5] = wrong;
      expect(() => new native.CudaCodebooks(spec([bad]))).toThrow(new TypeError("codebooks: expected finite numbers"));
      const weights = Float32Array.of(1, 1, 1, wrong);
      const weighted = { ...spec(), weights };
      expect(() => new native.CudaCodebooks(weighted)).toThrow(new TypeError("weights: expected finite numbers"));
    }
  });

  it("has grids that float64 has a number for", () => {
    const message = "gridExponents: expected integers in -149 … 1000";
    const memory = new native.CudaMemory({ ...device, bytes: 64 });
    for (const exponent of [-150, 1001, -(2 ** 31), 2 ** 31 - 1]) {
      const gridExponents = new Int32Array(dim).fill(exponent);
      const sums = { numCodewords: 8, gridExponents, counts: new Float64Array(8), sums: new Float64Array(8 * dim) };
      const rows = { vectors: new Float32Array(dim), count: 1, dim, codes: new Uint16Array(1) };
      expect(() => native.cudaAccumulate({ ...rows, ...sums }, device)).toThrow(message);
      const resident = { vectors: memory, codes: memory, count: 1, dim, wide: false, codeStages: 1, stage: 0 };
      expect(() => native.cudaAccumulateResident({ ...resident, ...sums }, device)).toThrow(message);
    }
  });
});
