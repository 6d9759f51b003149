// Quantizers with projections: what the codecs' own loops give, on every backend, thread count, split and number of stages.

import { describe, expect, it } from "vitest";
import {
  type AnyQuantizer,
  asTransformStream,
  CodeIndex,
  decodeStream,
  encodeStream,
  frameErrors,
  type ProjectedPart,
  ProjectedQuantizer,
  packStream,
  quantizerFromCheckpoint,
  ResidualQuantizer,
  RvqError,
  RvqReader,
  rvqToBytes,
  unpackStream,
} from "../lib/index.js";
import {
  asFile,
  dacReference,
  dacTensors,
  gaussian,
  mimiReference,
  mimiTensors,
  quantize,
  type ReferencePart,
  type ReferenceResult,
  type Tensors,
} from "./codec-checkpoints.js";
import { candidates, expectSame, withForm } from "./contract/backends.js";
import { d64 } from "./contract/reference.js";
import { detach } from "./lost-memory.js";

const dacShape = { dim: 40, codeDim: 8, size: 64, stages: 5 };
const dac = dacTensors(dacShape, "weight_g");
const mimiShape = { dim: 24, codeDim: 12, size: 50, rest: 4 };
const mimi = mimiTensors(mimiShape, "Kyutai");
const vq = vqTensors();

function vqTensors(): Tensors {
  const [dim, codeDim, size, stages] = [10, 6, 30, 3];
  const tensors: Tensors = {};
  for (let s = 0; s < stages; s++) {
    tensors[`layers.${s}._codebook.embed`] = {
      shape: [1, size, codeDim],
      data: gaussian(60 + s, size * codeDim, 0.6 ** s),
    };
  }
  tensors["project_in.weight"] = { shape: [codeDim, dim], data: gaussian(70, codeDim * dim, 0.3) };
  tensors["project_in.bias"] = { shape: [codeDim], data: gaussian(71, codeDim, 0.1) };
  tensors["project_out.weight"] = { shape: [dim, codeDim], data: gaussian(72, codeDim * dim, 0.3) };
  tensors["project_out.bias"] = { shape: [dim], data: gaussian(73, dim, 0.1) };
  return tensors;
}

const vqReference: ReferencePart[] = [
  {
    input: { weight: vq["project_in.weight"].data, bias: vq["project_in.bias"].data },
    codebooks: [0, 1, 2].map((s) => vq[`layers.${s}._codebook.embed`].data),
    output: { weight: vq["project_out.weight"].data, bias: vq["project_out.bias"].data },
  },
];

const cases: {
  name: string;
  tensors: Tensors;
  dim: number;
  metric: "l2" | "cosine";
  residual: boolean;
  parts: ReferencePart[];
}[] = [
  { name: "DAC", tensors: dac, dim: 40, metric: "cosine", residual: true, parts: dacReference(dac, 5) },
  { name: "Mimi", tensors: mimi, dim: 24, metric: "l2", residual: false, parts: mimiReference(mimi, "Kyutai", 4) },
  { name: "vector-quantize-pytorch", tensors: vq, dim: 10, metric: "l2", residual: true, parts: vqReference },
];

function open(tensors: Tensors, options: Parameters<typeof quantizerFromCheckpoint>[1] = {}): ProjectedQuantizer {
  const quantizer: AnyQuantizer = quantizerFromCheckpoint(asFile(tensors), options);
  if (!(quantizer instanceof ProjectedQuantizer)) throw new Error("not a ProjectedQuantizer");
  return quantizer;
}

async function refusal(work: () => unknown): Promise<RvqError> {
  try {
    await work();
  } catch (error) {
    if (error instanceof RvqError) return error;
    throw error;
  }
  throw new Error("was accepted");
}

for (const { name, tensors, dim, metric, residual, parts } of cases) {
  const vectors = gaussian(1, 300 * dim);
  const expected: ReferenceResult = quantize(vectors, dim, parts, metric, residual);
  const stages = expected.reconstructions.length;
  const prefixOf = (n: number) => expected.codes.filter((_, i) => i % stages < n);

  describe(`the quantizer of ${name}`, () => {
    for (const candidate of candidates) {
      it.skipIf(!candidate.available)(`gives what the codec's own loop gives, on ${candidate.title}`, async () => {
        for (const threads of [1, 2]) {
          const pq = withForm(candidate.form, () => open(tensors, { backend: candidate.name, threads }));
          const context = { name, backend: candidate.title, threads };
          expect([pq.dim, pq.stages, pq.metric, pq.backend]).toEqual([dim, stages, metric, candidate.name]);
          expect(pq.codebookSizes).toEqual(parts.flatMap(({ codebooks }) => codebooks.map(() => pq.codebookSizes[0])));
          for (let n = 1; n <= stages; n++) {
            const codes = await pq.encode(vectors, { stages: n });
            expectSame(codes.data, prefixOf(n), { ...context, n });
            expect(codes).toMatchObject({ count: 300, stages: n });
            expectSame(pq.encodeSync(vectors, { stages: n }).data, prefixOf(n), { ...context, n, sync: true });
            const whole = await pq.encode(vectors);
            for (const decoded of [
              await pq.decode(codes),
              pq.decodeSync(codes),
              await pq.decode(whole, { stages: n }),
              pq.decodeSync(whole, { stages: n, into: new Float32Array(vectors.length) }),
              await pq.decode(whole, { stages: n, into: new Float32Array(vectors.length).fill(7) }),
            ]) {
              expectSame(decoded, expected.reconstructions[n - 1], { ...context, n });
            }
          }
          pq.dispose();
        }
      });

      it.skipIf(!candidate.available)(`does not depend on how vectors are split, on ${candidate.title}`, async () => {
        const pq = withForm(candidate.form, () => open(tensors, { backend: candidate.name, threads: 2 }));
        const pieces = [0, 1, 17, 18, 150, 299, 300]
          .slice(1)
          .map((to, i, all) => vectors.slice((all[i - 1] ?? 0) * dim, to * dim));
        const codes: number[] = [];
        for await (const piece of encodeStream(pq)(pieces)) codes.push(...piece.data);
        expectSame(codes, expected.codes, { name, backend: candidate.title });
      });
    }

    it("measures its error for every number of stages", async () => {
      const errors = expected.reconstructions.map((reconstruction) =>
        Array.from({ length: 300 }, (_, n) =>
          d64(vectors.subarray(n * dim, (n + 1) * dim), reconstruction.subarray(n * dim, (n + 1) * dim)),
        ),
      );
      for (const backend of ["js", "auto"] as const) {
        const pq = open(tensors, { backend });
        const codes = await pq.encode(vectors);
        const measured = await pq.distortion(vectors, codes);
        const sums = errors.map((distances) => distances.reduce((sum, distance) => sum + distance, 0));
        expect(measured.map(({ distortion }) => distortion)).toEqual(sums.map((sum) => sum / 300));
        expect(measured.map(({ mse }) => mse)).toEqual(sums.map((sum) => sum / (300 * dim)));
        expect(measured.map((one) => one.stages)).toEqual(sums.map((_, s) => s + 1));

        const perFrame = await frameErrors(pq, vectors, codes);
        const decoded = await pq.decode(codes, { stages: 2 });
        let error = 0;
        for (let i = 7 * dim; i < 8 * dim; i++) error += (vectors[i] - decoded[i]) ** 2;
        expect(perFrame[7 * (stages + 1) + 2]).toBe(error);
        expect(perFrame.length).toBe(300 * (stages + 1));
        const lost = vectors.slice();
        const measuring = frameErrors(pq, lost, codes);
        detach(lost);
        await expect(measuring).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
      }
    });

    it("decodes frames of different numbers of stages, each from its own", async () => {
      const pq = open(tensors);
      const codes = await pq.encode(vectors);
      const stageCounts = Uint16Array.from({ length: 300 }, (_, n) => n % (stages + 1));
      const counted = { ...codes, stageCounts };
      for (const decoded of [await pq.decode(counted), pq.decodeSync(counted)]) {
        const own = Float32Array.from(decoded, (_, i) => {
          const n = stageCounts[Math.floor(i / dim)];
          return n === 0 ? 0 : expected.reconstructions[n - 1][i];
        });
        expectSame(decoded, own, { name });
      }
    });

    it("comes back bit for bit from its model, and from its parts", async () => {
      const pq = open(tensors, { metadata: { from: name } });
      const codes = await pq.encode(vectors);
      const { metric: same, arrangement } = pq;
      for (const copy of [
        ProjectedQuantizer.fromBytes(pq.toBytes()),
        ProjectedQuantizer.fromParts(pq.parts(), { dim, metric: same, arrangement, metadata: { from: name } }),
      ]) {
        expect(copy.id).toBe(pq.id);
        expect(copy.toBytes()).toEqual(pq.toBytes());
        expect(copy.metadata).toEqual({ from: name });
        expect((await copy.encode(vectors)).data).toEqual(codes.data);
      }
    });

    it("writes and reads .rvq files through streams, and is searched by an index", async () => {
      const pq = open(tensors);
      const header = { modelId: pq.id, codebookSizes: pq.codebookSizes };
      const stream = new ReadableStream<Float32Array>({
        start(controller) {
          controller.enqueue(vectors.slice());
          controller.close();
        },
      });
      const bytes: Uint8Array[] = [];
      const coded = stream.pipeThrough(asTransformStream(encodeStream(pq)) as never) as unknown as AsyncIterable<never>;
      for await (const piece of packStream(header)(coded)) bytes.push(piece);
      const reader = await RvqReader.open(Buffer.concat(bytes));
      expect(reader.header.modelId).toBe(pq.id);
      const decoded: number[] = [];
      for await (const piece of decodeStream(pq)(unpackStream()(bytes))) decoded.push(...piece);
      expectSame(decoded, expected.reconstructions[stages - 1], { name });

      const codes = await pq.encode(vectors);
      expect(await rvqToBytes(codes, header)).toEqual(new Uint8Array(Buffer.concat(bytes)));
      const index = await CodeIndex.create(pq, codes);
      const plain = ResidualQuantizer.fromCodebooks(await pq.projectedCodebooks(), { dim });
      const found = await index.search(vectors.subarray(0, 3 * dim), { k: 4 });
      expect(found).toEqual(
        await (await CodeIndex.create(plain, codes)).search(vectors.subarray(0, 3 * dim), { k: 4 }),
      );
      for (let i = 0; i < 4; i++) {
        const at = found.ids[i] * dim;
        const reconstruction = expected.reconstructions[stages - 1].subarray(at, at + dim);
        expect(found.scores[i]).toBeCloseTo(d64(vectors.subarray(0, dim), reconstruction), 4);
      }
    });
  });
}

describe("the stages of DAC in the space of its vectors", () => {
  it("add up to its reconstructions exactly", async () => {
    const pq = open(dac);
    const plain = ResidualQuantizer.fromCodebooks(await pq.projectedCodebooks(), { dim: 40 });
    const vectors = gaussian(2, 50 * 40);
    const codes = await pq.encode(vectors);
    expectSame(await plain.decode(codes), await pq.decode(codes), {});
  });
});

describe("a quantizer with projections", () => {
  const options = { dim: 2, backend: "js" } as const;
  const weight = Float32Array.of(1, 0, 0, 1);
  const identity = { weight, bias: null, inDim: 2, outDim: 2 };
  const codebook = Float32Array.of(1, 0, 0, 1, -1, -1);
  const part: ProjectedPart = { dim: 2, codebooks: [codebook], input: null, output: null };

  it("gives code 0 to what has no direction, and goes on with what that leaves over", async () => {
    for (const backend of ["js", "auto"] as const) {
      // Zero is the second vector, and the projection of the third.
      const flat = { weight: Float32Array.of(1, -1, 0, 0), bias: null, inDim: 2, outDim: 2 };
      const vectors = Float32Array.of(3, 1, 0, 0, 2, 2);
      for (const input of [null, flat]) {
        const parts = [{ ...part, codebooks: [codebook, codebook], input }];
        const pq = ProjectedQuantizer.fromParts(parts, { dim: 2, metric: "cosine", backend });
        // (0, 0) − (1, 0) = (−1, 0), to which (−1, −1) is the nearest.
        const { data } = await pq.encode(vectors);
        expect([...data.subarray(2, 4)]).toEqual([0, 2]);
        if (input !== null) expect([...data.subarray(4, 6)]).toEqual([0, 2]);
        expect(pq.encodeSync(vectors).data).toEqual(data);
        expect([...pq.encodeSync(vectors, { stages: 1 }).data]).toEqual([data[0], data[2], data[4]]);
      }
    }
  });

  it("without projections is a plain residual quantizer", async () => {
    const vectors = gaussian(3, 200);
    const rq = ResidualQuantizer.fromCodebooks([codebook, codebook], { dim: 2 });
    const oneAfterTheOther = ProjectedQuantizer.fromParts([part, part], { dim: 2 });
    const together = ProjectedQuantizer.fromParts([{ ...part, codebooks: [codebook, codebook] }], { dim: 2 });
    const codes = await rq.encode(vectors);
    for (const pq of [oneAfterTheOther, together]) {
      expect(await pq.encode(vectors)).toEqual(codes);
      expect(await pq.decode(codes)).toEqual(await rq.decode(codes));
      expect((await pq.distortion(vectors, codes)).map(({ mse }) => mse)).toEqual(
        (await rq.distortion(vectors, codes)).map(({ mse }) => mse),
      );
    }
    expect(oneAfterTheOther.id).not.toBe(together.id);
  });

  it("encodes many chunks as one row after the other, and tells of its progress", async () => {
    const dim = 8192;
    const input = { weight: gaussian(4, 2 * dim), bias: null, inDim: dim, outDim: 2 };
    const output = { weight: gaussian(5, 2 * dim), bias: null, inDim: 2, outDim: dim };
    const parts = [0, 1].map(() => ({ ...part, input, output }));
    for (const backend of ["js", "auto"] as const) {
      const pq = ProjectedQuantizer.fromParts(parts, { dim, metric: "cosine", backend });
      const vectors = gaussian(6, 300 * dim);
      const done: number[] = [];
      const codes = await pq.encode(vectors, { onProgress: (rows) => done.push(rows) });
      expect(done.length).toBeGreaterThan(1);
      expect(done.at(-1)).toBe(300);
      expect(pq.encodeSync(vectors)).toEqual(codes);
      expectSame(await pq.decode(codes), pq.decodeSync(codes), { backend });
      const aborted = new AbortController();
      const stopped = pq.encode(vectors, {
        signal: aborted.signal,
        onProgress: () => aborted.abort(new Error("enough")),
      });
      await expect(stopped).rejects.toThrow("enough");
      await expect(pq.decode(codes, { signal: AbortSignal.abort(new Error("no")) })).rejects.toThrow("no");
    }
  });

  it("leaves the event loop free", async () => {
    const dim = 1024;
    const tensors = dacTensors({ dim, codeDim: 8, size: 256, stages: 4 }, "folded");
    const pq = open(tensors, { backend: "js" });
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    const start = performance.now();
    const codes = await pq.encode(gaussian(8, 1500 * dim));
    await pq.decode(codes);
    const elapsedMs = performance.now() - start;
    clearInterval(timer);
    // Slices of 5 ms and a pause for copying; a busy machine gives fewer turns.
    expect(ticks).toBeGreaterThan(elapsedMs / 60);
  });

  it("names the row of what it refuses, and writes nothing", async () => {
    const big = { weight: Float32Array.of(1e30, 0, 0, 1e30), bias: null, inDim: 2, outDim: 2 };
    for (const backend of ["js", "auto"] as const) {
      const pq = ProjectedQuantizer.fromParts([{ ...part, input: big }], { dim: 2, backend });
      const vectors = Float32Array.of(1, 1, 1, Number.NaN, 1e20, 1);
      for (const work of [() => pq.encode(vectors), () => pq.encodeSync(vectors)]) {
        expect(await refusal(work)).toMatchObject({
          code: "NOT_FINITE",
          message: "vectors: expected finite numbers, got NaN in row 1, column 1",
        });
      }
      vectors[3] = 0;
      for (const work of [() => pq.encode(vectors), () => pq.encodeSync(vectors)]) {
        const { code, message } = await refusal(work);
        expect(code).toBe("NOT_FINITE");
        expect(message).toMatch(/magnitudes whose projections .* float32 can hold, got an overflow in row 2/);
      }
      const huge = { ...part, codebooks: [0, 1].map(() => new Float32Array(6).fill(3e38)), output: identity };
      const overflowing = ProjectedQuantizer.fromParts([huge], { dim: 2, backend });
      const codes = { count: 1, stages: 2, data: new Uint16Array(2) };
      expect(await refusal(() => overflowing.decode(codes))).toMatchObject({ code: "NOT_FINITE" });
      expect(await refusal(() => pq.decode({ count: 1, stages: 1, data: Uint16Array.of(3) }))).toMatchObject({
        code: "CODE_OUT_OF_RANGE",
        message: "codes: expected codes of stage 0 below its codebook size 3, got 3 in row 0",
      });
    }
  });

  it("describes itself, and what a bit rate allows", () => {
    const pq = open(dac);
    const { arrangement, parts, codebookBytes, projectionBytes, log2Capacity } = pq.describe({ frameRate: 86 });
    expect({ arrangement, parts: parts[4], codebookBytes, projectionBytes, log2Capacity }).toEqual({
      arrangement: "residual",
      parts: { dim: 8, stages: 1 },
      codebookBytes: 5 * 64 * 8 * 4,
      projectionBytes: 5 * (2 * 8 * 40 + 8 + 40) * 4,
      log2Capacity: 30,
    });
    expect(pq.bitsPerVector(2)).toBe(12);
    expect(pq.plan({ frameRate: 100, kbps: 2.4 }).stages).toBe(4);
    const codes = pq.encodeSync(gaussian(9, 40 * 100));
    expect(pq.usage(codes).map(({ counts }) => counts.reduce((a, b) => a + b, 0))).toEqual([100, 100, 100, 100, 100]);
  });

  it.each<[string, unknown, object, string, RegExp]>([
    ["no list", null, {}, "INVALID_ARGUMENT", /^parts: expected an array, got null/],
    ["no parts", [], {}, "INVALID_ARGUMENT", /^parts\.length: expected an integer from 1/],
    ["another arrangement", [part], { arrangement: "row" }, "INVALID_ARGUMENT", /^arrangement: expected "residual" or/],
    ["a projection missing", [{ ...part, dim: 1 }], {}, "INVALID_ARGUMENT", /input: expected a projection from 2 to 1/],
    [
      "a projection of other vectors",
      [{ ...part, input: { ...identity, inDim: 3 } }],
      {},
      "INVALID_ARGUMENT",
      /^parts\[0\]\.input\.inDim: expected 2, .*got 3/,
    ],
    [
      "a projection to other vectors",
      [{ ...part, output: { ...identity, outDim: 1 } }],
      {},
      "INVALID_ARGUMENT",
      /^parts\[0\]\.output\.outDim: expected 2, .*got 1/,
    ],
    [
      "too few weights",
      [{ ...part, input: { ...identity, weight: new Float32Array(3) } }],
      {},
      "INVALID_ARGUMENT",
      /^parts\[0\]\.input\.weight: expected 4 elements, got 3/,
    ],
    [
      "a bias that is not finite",
      [{ ...part, output: { ...identity, bias: Float32Array.of(0, Infinity) } }],
      {},
      "NOT_FINITE",
      /^parts\[0\]\.output\.bias: expected finite numbers, got Infinity in row 0, column 1/,
    ],
    [
      "a codeword without direction",
      [{ ...part, codebooks: [new Float32Array(4)] }],
      { metric: "cosine" },
      "ZERO_VECTOR",
      /^parts\[0\]\.codebooks\[0\]: expected vectors that are not zero/,
    ],
  ])("is refused with %s", async (_, parts, more, code, message) => {
    const error = await refusal(() => ProjectedQuantizer.fromParts(parts as ProjectedPart[], { ...options, ...more }));
    expect([error.code, error.message]).toEqual([code, expect.stringMatching(message)]);
  });

  it("refuses a beam, and every call after dispose()", async () => {
    const pq = ProjectedQuantizer.fromParts([part], options);
    const beam = { beam: 2 } as object;
    expect(await refusal(() => pq.encode(new Float32Array(2), beam))).toMatchObject({
      message: "beam: expected 1 with projections, got 2",
    });
    const running = pq.encode(gaussian(1, 2000));
    pq.dispose();
    expect((await running).count).toBe(1000);
    const codes = { count: 0, stages: 1, data: new Uint16Array(0) };
    for (const work of [() => pq.encode(new Float32Array(0)), () => pq.decode(codes), () => pq.projectedCodebooks()]) {
      expect(await refusal(work)).toMatchObject({ code: "DISPOSED" });
    }
  });

  it("takes no vectors for no codes", async () => {
    const pq = open(dac);
    const none = await pq.encode(new Float32Array(0));
    expect(none).toMatchObject({ count: 0, stages: 5 });
    expect(pq.encodeSync(new Float32Array(0))).toEqual(none);
    expect((await pq.decode(none)).length).toBe(0);
    expect(pq.decodeSync(none).length).toBe(0);
  });
});
