// The WebAssembly screen of the `js` backend: certain only of what is true, bounded in memory, and missed by nobody.

import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { afterEach, describe, expect, it, vi } from "vitest";
import type { CodeArray, CodebookSpec } from "../lib/backend.js";
import { newCodeArray } from "../lib/code-array.js";
import { openJs } from "../lib/js/backend.js";
import { prepareCodebook } from "../lib/js/codebook.js";
import { openEngineForm } from "../lib/js/wasm/engine.js";
import { WasmSearch } from "../lib/js/wasm/search.js";
import { Random } from "../lib/random.js";
import { runToEnd } from "../lib/time-slice.js";
import { expectSame, withForm } from "./contract/backends.js";
import { betweenCodewords, familyNames, hardFamilies, makeData, normal, type Shape } from "./contract/families.js";
import { d64, nearest } from "./contract/reference.js";

/** `npm test` runs a sample; RVQ_SCREEN_ROUNDS=1000 runs millions of rows. */
const rounds = Number(process.env.RVQ_SCREEN_ROUNDS ?? 1);
const shapes: readonly Shape[] = [
  { count: 150, dim: 1, numCodewords: 200 },
  { count: 150, dim: 3, numCodewords: 64 },
  { count: 100, dim: 8, numCodewords: 100 },
  { count: 50, dim: 33, numCodewords: 129 },
  { count: 25, dim: 200, numCodewords: 90 },
];
const forms = (["fused", "unfused"] as const).filter((form) => openEngineForm(form) !== null);

describe.each(forms)("the %s WebAssembly screen", (form) => {
  it.each([...familyNames, ...Object.keys(hardFamilies)])("never certifies a wrong winner on %s data", (family) => {
    for (let round = 0; round < rounds; round++) {
      shapes.forEach((shape, index) => {
        const seed = round * shapes.length + index;
        const { vectors, codebook } = makeAnyData(family, shape, seed);
        const random = new Random(seed);
        const weights = Float32Array.from({ length: shape.dim }, () => 2 ** (10 * normal(random)));
        for (const w of [null, weights]) {
          const { codes } = search(form, { dim: shape.dim, metric: "l2", weights: w, codebooks: [codebook] }, vectors);
          const expected = Array.from({ length: shape.count }, (_, n) =>
            nearest(vectors.subarray(n * shape.dim, (n + 1) * shape.dim), codebook, "l2", w),
          );
          expectSame(codes, expected, { form, family, seed, weighted: w !== null, ...shape });
        }
      });
    }
  });

  it.each(["gaussian", "correlated", "clustered", "offset", "tiny", "one outlier codeword"])(
    "leaves few rows open on %s data",
    (family) => {
      const shape = { count: 2000, dim: 64, numCodewords: 300 };
      const { vectors, codebook } = makeData(family, shape, 1);
      const { openRows } = search(form, { dim: 64, metric: "l2", weights: null, codebooks: [codebook] }, vectors);
      expect(openRows / shape.count).toBeLessThan(0.05);
    },
  );

  it("is certain of nothing between two codewords", () => {
    const shape = { count: 100, dim: 16, numCodewords: 20 };
    const { vectors, codebook } = betweenCodewords(shape);
    const { openRows } = search(form, { dim: 16, metric: "l2", weights: null, codebooks: [codebook] }, vectors);
    expect(openRows).toBe(100);
  });
});

describe.skipIf(forms.length === 0)("the WebAssembly forms", () => {
  it("give the plain codes when calls take turns and codebooks overflow the memory", async () => {
    // Six codebooks of 8 MiB: more than the memory ever holds at once.
    const shape: Shape = { count: 33, dim: 128, numCodewords: 16_384 };
    const quantizers = Array.from({ length: 6 }, (_, seed) => {
      const { vectors, codebook } = makeData("gaussian", { ...shape, dim: shape.dim - seed }, seed);
      return { spec: spec(shape.dim - seed, [codebook]), vectors };
    });
    const encodeAll = (form: string) =>
      Promise.all(
        quantizers.map(async ({ spec, vectors }, i) => {
          const prepared = withForm(form, () => openJs().prepare(spec));
          const codes = new Uint16Array(shape.count);
          const residuals = new Float32Array(vectors.length);
          const request = { vectors, count: shape.count, stages: 1, codes, residuals };
          // A synchronous call comes in between the slices of the others.
          if (i % 3 === 2) prepared.encodeSync(request);
          else await prepared.encode(request);
          return { codes, residuals };
        }),
      );
    const [wasm, plain] = [await encodeAll("wasm"), await encodeAll("plain")];
    quantizers.forEach((_, i) => {
      expectSame(wasm[i].codes, plain[i].codes, { quantizer: i, what: "codes" });
      expectSame(wasm[i].residuals, plain[i].residuals, { quantizer: i, what: "residuals" });
    });
  });

  it("need no memory for quantizers that are gone, disposed or not", () => {
    const { vectors, codebook } = makeData("gaussian", { count: 20, dim: 64, numCodewords: 512 }, 1);
    const codes = new Uint16Array(20);
    const backend = withForm("wasm", () => openJs());
    const make = (times: number) => {
      for (let i = 0; i < times; i++) {
        const prepared = backend.prepare(spec(64, [codebook]));
        prepared.encodeSync({ vectors, count: 20, stages: 1, codes });
        if (i % 2 === 0) prepared.dispose();
      }
      return process.memoryUsage.rss();
    };
    // Enough to fill the shared memory; after that nothing may come on top.
    const before = make(300);
    expect(make(1000) - before).toBeLessThan(64 * 2 ** 20);
  });

  it("search rows of any length, the longest by the plain loops", () => {
    for (const dim of [511, 512, 513, 1023, 4096, 4097]) {
      const shape: Shape = { count: 130, dim, numCodewords: 20 };
      const { vectors, codebook } = makeData("gaussian", shape, dim);
      const codesOf = (form: string) => {
        const codes = new Uint16Array(shape.count * 2);
        const prepared = withForm(form, () =>
          openJs().prepare({ ...spec(dim, [codebook, codebook]), metric: "cosine" }),
        );
        expect(prepared.encodeSync({ vectors, count: shape.count, stages: 2, codes })).toBeNull();
        return codes;
      };
      expectSame(codesOf("wasm"), codesOf("plain"), { ...shape });
    }
  });

  it("let others run while rows are scanned in full", async () => {
    // So far out that hardly a bit tells the codewords apart, and no bound does.
    const shape: Shape = { count: 600, dim: 64, numCodewords: 4096 };
    const data = makeData("gaussian", shape, 1);
    const { codebook } = data;
    const vectors = data.vectors.map((x) => x * 2 ** 53);
    const prepared = withForm("wasm", () => openJs().prepare(spec(64, [codebook])));
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    await prepared.encode({ vectors, count: shape.count, stages: 1, codes: new Uint16Array(shape.count) });
    clearInterval(timer);
    expect(turns).toBeGreaterThan(2);
  });

  it("give the canonical distances for every length of row", async () => {
    const random = new Random(2);
    for (const dim of [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 63, 64, 65, 71, 72, 128, 130, 200, 1000]) {
      const count = 40;
      const [vectors, centres] = [count, 3].map((n) => Float32Array.from({ length: n * dim }, () => normal(random)));
      for (const weights of [null, Float32Array.from({ length: dim }, (_, i) => (i % 5) / 3)]) {
        const backend = withForm("wasm", () => openJs());
        const distances = new Float64Array(count).fill(Infinity);
        const row = (matrix: Float32Array, n: number) => matrix.subarray(n * dim, (n + 1) * dim);
        for (let k = 0; k < 3; k++)
          await backend.lowerDistances({ vectors, count, dim, weights, centre: row(centres, k), distances });
        const smallest = Array.from(distances, (_, n) =>
          Math.min(...[0, 1, 2].map((k) => d64(row(vectors, n), row(centres, k), weights))),
        );
        expectSame(distances, smallest, { dim, weighted: weights !== null });
      }
    }
  });
});

describe("the form of the js backend", () => {
  afterEach(() => {
    vi.unstubAllEnvs();
    vi.unstubAllGlobals();
    vi.resetModules();
  });

  const reopen = async () => (await import("../lib/js/backend.js")).openJs();

  it("is plain where RVQ_JS says so, and the description tells", async () => {
    vi.stubEnv("RVQ_JS", "plain");
    expect((await reopen()).description).toBe("plain TypeScript, one thread");
    vi.stubEnv("RVQ_JS", "");
    const fused = forms[0] === "fused" ? " with fused multiply-add" : "";
    if (forms.length > 0) expect((await reopen()).description).toBe(`WebAssembly SIMD${fused}, one thread`);
  });

  it("is a typed error where RVQ_JS is unknown", () => {
    vi.stubEnv("RVQ_JS", "turbo");
    expect(() => openJs()).toThrow(
      expect.objectContaining({
        code: "INVALID_ARGUMENT",
        message: 'environment variable RVQ_JS: expected "wasm" or "plain", got "turbo"',
      }),
    );
  });

  it.each([
    ["is missing", undefined],
    ["has no SIMD", { Module: invalid }],
  ])("is plain where WebAssembly %s, and asking for it is an error", async (_, replacement) => {
    vi.resetModules();
    vi.stubGlobal("WebAssembly", replacement);
    expect((await reopen()).description).toBe("plain TypeScript, one thread");
    vi.stubEnv("RVQ_JS", "wasm");
    await expect(reopen()).rejects.toMatchObject({ code: "BACKEND_UNAVAILABLE" });
  });

  it.skipIf(!existsSync("dist/index.js"))("is plain under --jitless, which has no WebAssembly", () => {
    const script = `const { ResidualQuantizer, status } = require("./dist/index.js");
      const rq = ResidualQuantizer.fromCodebooks([Float32Array.of(0, 1)], { dim: 1, backend: "js" });
      console.log(status().backends[2].description, [...rq.encodeSync(Float32Array.of(0.9, 0.1)).data]);`;
    const { stdout, stderr } = spawnSync(process.execPath, ["--jitless", "-e", script], { encoding: "utf8" });
    expect(stderr.replaceAll(/.*warning.*\n/gi, "")).toBe("");
    expect(stdout).toBe("plain TypeScript, one thread [ 1, 0 ]\n");
  });
});

/** As where a module with SIMD is not valid. */
class invalid {
  constructor() {
    throw new Error("invalid opcode");
  }
}

function makeAnyData(family: string, shape: Shape, seed: number) {
  return family in hardFamilies ? hardFamilies[family](shape, seed) : makeData(family, shape, seed);
}

function spec(dim: number, codebooks: Float32Array[]): CodebookSpec {
  return { dim, metric: "l2", weights: null, codebooks };
}

function search(
  form: (typeof forms)[number],
  spec: CodebookSpec,
  vectors: Float32Array,
): { codes: CodeArray; openRows: number } {
  const engine = openEngineForm(form);
  if (engine === null) throw new Error(`no engine for ${form}`);
  const codebooks = spec.codebooks.map((_, stage) => prepareCodebook(spec, stage));
  const wasm = new WasmSearch(engine, codebooks);
  const count = vectors.length / spec.dim;
  const codes = newCodeArray(
    count,
    codebooks.map(({ numCodewords }) => numCodewords),
  );
  expect(runToEnd(wasm.encodeSteps({ vectors, count, stages: 1, codes }))).toBeNull();
  return { codes, openRows: wasm.openRows };
}
