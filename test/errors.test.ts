// Bad input: one typed error each, naming the argument, what was expected and what came.

import { inspect } from "node:util";
import { describe, expect, it } from "vitest";
import {
  allocateStages,
  asTransformStream,
  CodebookTrainer,
  CodeIndex,
  type Codes,
  decodeStream,
  encodeStream,
  frameErrors,
  GroupedQuantizer,
  importCheckpoint,
  packCodes,
  packedSizeBytes,
  quantizerFromCheckpoint,
  ResidualQuantizer,
  RvqError,
  RvqReader,
  rvqBytes,
  Statistics,
  status,
  straightThroughGradient,
  tablesFromBytes,
  tablesToBytes,
  unpackCodes,
  writeSafetensors,
} from "../lib/index.js";
import { detach, resizable } from "./lost-memory.js";

const codebook = Float32Array.of(1, 1, 0, -1, -1, 0);
const rq = ResidualQuantizer.fromCodebooks([codebook, codebook], { dim: 3 });
const codes: Codes = { count: 1, stages: 2, data: Uint16Array.of(0, 1) };

const counted = { ...codes, stageCounts: Uint16Array.of(1) };
const rate = { frameRate: 1, kbps: 1 };

/** The error of a call that must fail, however wrong its types are. */
async function errorOf(call: () => unknown): Promise<RvqError> {
  try {
    await call();
  } catch (error) {
    expect(error).toBeInstanceOf(RvqError);
    return error as RvqError;
  }
  throw new Error("the call did not fail");
}

const wrong = (value: unknown) => value as never;

const cases: readonly [what: string, call: () => unknown, code: string, message: RegExp][] = [
  [
    "vectors of the wrong type",
    () => rq.encode(wrong([1, 2, 3])),
    "INVALID_ARGUMENT",
    /vectors: expected a Float32Array, got an array of 3/,
  ],
  ["no vectors", () => rq.encode(wrong(undefined)), "INVALID_ARGUMENT", /vectors: .*undefined/],
  ["float64 vectors", () => rq.encode(wrong(new Float64Array(3))), "INVALID_ARGUMENT", /Float64Array\(3\)/],
  [
    "an object that pretends",
    () => rq.encode(wrong({ length: 3, [Symbol.toStringTag]: "Float32Array" })),
    "INVALID_ARGUMENT",
    /vectors/,
  ],
  ["a wrong length", () => rq.encode(new Float32Array(4)), "INVALID_ARGUMENT", /multiple of dim 3, got 4/],
  [
    "shared vectors",
    () => rq.encode(new Float32Array(new SharedArrayBuffer(12))),
    "INVALID_ARGUMENT",
    /SharedArrayBuffer/,
  ],
  ["detached vectors", () => rq.encode(detach(new Float32Array(3))), "INVALID_ARGUMENT", /detached/],
  ["NaN", () => rq.encode(Float32Array.of(0, 0, 0, 0, NaN, 0)), "NOT_FINITE", /vectors: .* got NaN in row 1, column 1/],
  [
    "infinity, at once",
    () => rq.encodeSync(Float32Array.of(0, 0, -Infinity)),
    "NOT_FINITE",
    /-Infinity in row 0, column 2/,
  ],
  [
    "too many stages",
    () => rq.encode(new Float32Array(3), { stages: 3 }),
    "INVALID_ARGUMENT",
    /stages: expected an integer from 1 to 2, got 3/,
  ],
  ["no beam", () => rq.encode(new Float32Array(3), { beam: 0 }), "INVALID_ARGUMENT", /beam: .* from 1 to 256, got 0/],
  ["half a beam", () => rq.encodeSync(new Float32Array(3), { beam: 1.5 }), "INVALID_ARGUMENT", /beam/],
  [
    "a beam with the cosine metric",
    () => ResidualQuantizer.fromCodebooks([codebook], { dim: 3, metric: "cosine" }).encode(codebook, { beam: 2 }),
    "INVALID_ARGUMENT",
    /beam: expected 1 with metric "cosine", got 2/,
  ],
  ["half a stage", () => rq.encodeSync(new Float32Array(3), { stages: 1.5 }), "INVALID_ARGUMENT", /stages/],
  [
    "options that are none",
    () => rq.encode(new Float32Array(3), wrong(5)),
    "INVALID_ARGUMENT",
    /options: expected an object, got 5/,
  ],
  ["a signal that is none", () => rq.encode(new Float32Array(3), { signal: wrong({}) }), "INVALID_ARGUMENT", /signal/],
  [
    "progress that is no function",
    () => rq.encode(new Float32Array(3), { onProgress: wrong(1) }),
    "INVALID_ARGUMENT",
    /onProgress/,
  ],
  ["no codes", () => rq.decode(wrong(null)), "INVALID_ARGUMENT", /codes: .*null/],
  [
    "codes of the wrong type",
    () => rq.decode(wrong({ count: 1, stages: 2, data: [0, 1] })),
    "INVALID_ARGUMENT",
    /codes.data/,
  ],
  [
    "codes of the wrong length",
    () => rq.decode({ ...codes, count: 2 }),
    "INVALID_ARGUMENT",
    /count · stages = 4 elements, got 2/,
  ],
  ["a negative count", () => rq.decode({ ...codes, count: -1 }), "INVALID_ARGUMENT", /codes.count/],
  ["an absurd count", () => rq.decode({ ...codes, count: 2 ** 52 }), "INVALID_ARGUMENT", /codes.data/],
  [
    "more stages than the quantizer",
    () => rq.decode({ count: 1, stages: 3, data: new Uint16Array(3) }),
    "INVALID_ARGUMENT",
    /codes.stages/,
  ],
  [
    "more stages than the codes",
    () => rq.decodeSync({ count: 2, stages: 1, data: Uint16Array.of(0, 1) }, { stages: 2 }),
    "INVALID_ARGUMENT",
    /stages/,
  ],
  [
    "memory of the wrong type to decode into",
    () => rq.decode(codes, { into: wrong(new Float64Array(3)) }),
    "INVALID_ARGUMENT",
    /into: expected a Float32Array, got Float64Array\(3\)/,
  ],
  [
    "memory of the wrong length to decode into",
    () => rq.decode(codes, { into: new Float32Array(6) }),
    "INVALID_ARGUMENT",
    /into: expected codes.count · dim = 3 elements, got 6/,
  ],
  [
    "memory of the wrong length to decode into, at once",
    () => rq.decodeSync(codes, { into: new Float32Array(2) }),
    "INVALID_ARGUMENT",
    /into: expected codes.count · dim = 3 elements, got 2/,
  ],
  [
    "detached memory to decode into",
    () => rq.decodeSync(codes, { into: detach(new Float32Array(3)) }),
    "INVALID_ARGUMENT",
    /into: .*detached/,
  ],
  [
    "shared memory to decode into",
    () => rq.decode(codes, { into: new Float32Array(new SharedArrayBuffer(12)) }),
    "INVALID_ARGUMENT",
    /into: .*SharedArrayBuffer/,
  ],
  [
    "the codes' own memory to decode into",
    () => {
      const memory = new ArrayBuffer(16);
      const data = new Uint16Array(memory, 8, 2);
      return rq.decode({ ...codes, data }, { into: new Float32Array(memory, 0, 3) });
    },
    "INVALID_ARGUMENT",
    /into: expected memory apart from the codes'/,
  ],
  [
    "memory to decode into that a getter of the codes detaches",
    () => {
      const into = new Float32Array(3);
      const getter = {
        count: 1,
        stages: 2,
        get data() {
          detach(into);
          return Uint16Array.of(0, 1);
        },
      };
      return rq.decodeSync(getter, { into });
    },
    "INVALID_ARGUMENT",
    /into: .*detached/,
  ],
  [
    "a code out of range",
    () => rq.decode({ ...codes, data: Uint16Array.of(0, 2) }),
    "CODE_OUT_OF_RANGE",
    /stage 1 below its codebook size 2, got 2 in row 0/,
  ],
  [
    "a code out of range, at once",
    () => rq.decodeSync({ ...codes, data: Uint32Array.of(4e9, 0) }),
    "CODE_OUT_OF_RANGE",
    /stage 0/,
  ],
  [
    "usage of codes out of range",
    () => rq.usage({ ...codes, data: Uint16Array.of(9, 0) }),
    "CODE_OUT_OF_RANGE",
    /codes/,
  ],
  [
    "shared codes",
    () => rq.decode({ ...codes, data: new Uint16Array(new SharedArrayBuffer(4)) }),
    "INVALID_ARGUMENT",
    /SharedArrayBuffer/,
  ],
  [
    "detached codes",
    () => rq.decode({ count: 0, stages: 2, data: detach(new Uint16Array(4)) }),
    "INVALID_ARGUMENT",
    /detached/,
  ],
  [
    "vectors that do not fit the codes",
    () => rq.distortion(new Float32Array(6), codes),
    "INVALID_ARGUMENT",
    /codes.count · dim = 3/,
  ],
  ["distortion of NaN", () => rq.distortion(Float32Array.of(0, NaN, 0), codes), "NOT_FINITE", /row 0, column 1/],
  ["no dim", () => ResidualQuantizer.fromCodebooks([codebook], wrong({})), "INVALID_ARGUMENT", /dim: .*undefined/],
  ["dim 0", () => ResidualQuantizer.fromCodebooks([codebook], { dim: 0 }), "INVALID_ARGUMENT", /dim/],
  [
    "no options",
    () => ResidualQuantizer.fromCodebooks([codebook], wrong(undefined)),
    "INVALID_ARGUMENT",
    /options|dim/,
  ],
  [
    "codebooks with a hole",
    () => ResidualQuantizer.fromCodebooks(Object.assign(new Array(2), { 1: codebook }), { dim: 3 }),
    "INVALID_ARGUMENT",
    /codebooks\[0\]: .*undefined/,
  ],
  ["no codebooks", () => ResidualQuantizer.fromCodebooks([], { dim: 3 }), "INVALID_ARGUMENT", /codebooks/],
  [
    "one codebook instead of a list",
    () => ResidualQuantizer.fromCodebooks(wrong(codebook), { dim: 3 }),
    "INVALID_ARGUMENT",
    /codebooks/,
  ],
  [
    "an empty codebook",
    () => ResidualQuantizer.fromCodebooks([new Float32Array(0)], { dim: 3 }),
    "INVALID_ARGUMENT",
    /codebooks\[0\]/,
  ],
  [
    "a codebook of the wrong length",
    () => ResidualQuantizer.fromCodebooks([codebook, new Float32Array(4)], { dim: 3 }),
    "INVALID_ARGUMENT",
    /codebooks\[1\]: .*got 4/,
  ],
  [
    "a codebook with NaN",
    () => ResidualQuantizer.fromCodebooks([Float32Array.of(0, NaN, 0)], { dim: 3 }),
    "NOT_FINITE",
    /codebooks\[0\]: .*row 0, column 1/,
  ],
  [
    "an unknown metric",
    () => ResidualQuantizer.fromCodebooks([codebook], { dim: 3, metric: wrong("l1") }),
    "INVALID_ARGUMENT",
    /metric: .*"l1"/,
  ],
  [
    "a zero codeword with cosine",
    () => ResidualQuantizer.fromCodebooks([new Float32Array(3)], { dim: 3, metric: "cosine" }),
    "ZERO_VECTOR",
    /codebooks\[0\].*row 0/,
  ],
  [
    "weights of the wrong length",
    () => ResidualQuantizer.fromCodebooks([codebook], { dim: 3, weights: new Float32Array(2) }),
    "INVALID_ARGUMENT",
    /weights: expected dim 3 elements, got 2/,
  ],
  [
    "a negative weight",
    () => ResidualQuantizer.fromCodebooks([codebook], { dim: 3, weights: Float32Array.of(1, -1, 1) }),
    "INVALID_ARGUMENT",
    /weights\[1\]: .*-1/,
  ],
  [
    "weights with cosine",
    () => ResidualQuantizer.fromCodebooks([codebook], { dim: 3, metric: "cosine", weights: new Float32Array(3) }),
    "INVALID_ARGUMENT",
    /weights/,
  ],
  [
    "metadata that is no object",
    () => ResidualQuantizer.fromCodebooks([codebook], { dim: 3, metadata: wrong([1]) }),
    "INVALID_ARGUMENT",
    /metadata/,
  ],
  [
    "metadata that is no JSON",
    () => ResidualQuantizer.fromCodebooks([codebook], { dim: 3, metadata: { n: 1n } }),
    "INVALID_ARGUMENT",
    /metadata/,
  ],
  [
    "an unknown backend",
    () => ResidualQuantizer.fromCodebooks([codebook], { dim: 3, backend: wrong("gpu") }),
    "INVALID_ARGUMENT",
    /backend: .*"gpu"/,
  ],
  [
    "no threads",
    () => ResidualQuantizer.fromCodebooks([codebook], { dim: 3, threads: 0 }),
    "INVALID_ARGUMENT",
    /threads/,
  ],
  [
    "nothing to train on",
    () => ResidualQuantizer.train(new Float32Array(0), { dim: 3 }),
    "INVALID_ARGUMENT",
    /at least one vector/,
  ],
  [
    "training without options",
    () => ResidualQuantizer.train(codebook, wrong(undefined)),
    "INVALID_ARGUMENT",
    /options|dim/,
  ],
  [
    "training on NaN",
    () => ResidualQuantizer.train(Float32Array.of(0, 0, 0, 1, 1, NaN), { dim: 3 }),
    "NOT_FINITE",
    /row 1, column 2/,
  ],
  [
    "training on a zero vector with cosine",
    () => ResidualQuantizer.train(Float32Array.of(1, 0, 0, 0, 0, 0), { dim: 3, metric: "cosine" }),
    "ZERO_VECTOR",
    /row 1/,
  ],
  [
    "a codebook size of 0",
    () => ResidualQuantizer.train(codebook, { dim: 3, codebookSize: 0 }),
    "INVALID_ARGUMENT",
    /codebookSize/,
  ],
  [
    "sizes and stages that disagree",
    () => ResidualQuantizer.train(codebook, { dim: 3, codebookSize: [2, 2], stages: 3 }),
    "INVALID_ARGUMENT",
    /stages/,
  ],
  [
    "an unknown init",
    () => ResidualQuantizer.train(codebook, { dim: 3, init: wrong("farthest") }),
    "INVALID_ARGUMENT",
    /init/,
  ],
  [
    "a negative shrinkage",
    () => ResidualQuantizer.train(codebook, { dim: 3, shrinkage: -1 }),
    "INVALID_ARGUMENT",
    /shrinkage: expected a number from 0 to 2\^53, got -1/,
  ],
  [
    "a shrinkage that would overflow",
    () => ResidualQuantizer.train(codebook, { dim: 3, shrinkage: 1e300 }),
    "INVALID_ARGUMENT",
    /shrinkage: expected a number from 0 to 2\^53, got 1e\+300/,
  ],
  [
    "a minimum cluster size for other stages",
    () => ResidualQuantizer.train(codebook, { dim: 3, stages: 3, minClusterSize: [1, 2] }),
    "INVALID_ARGUMENT",
    /minClusterSize: .*3, as many as stages/,
  ],
  [
    "a shrinkage in words",
    () => ResidualQuantizer.train(codebook, { dim: 3, shrinkage: wrong("5") }),
    "INVALID_ARGUMENT",
    /shrinkage: .*"5"/,
  ],
  [
    "codebooks beyond any memory",
    () => ResidualQuantizer.train(new Float32Array(65_536), { dim: 65_536, codebookSize: [1, 2 ** 20] }),
    "INVALID_ARGUMENT",
    /codebookSize\[1\]/,
  ],
  [
    "codebook sizes with a hole",
    // biome-ignore lint/suspicious/noSparseArray: the hole is the test
    () => ResidualQuantizer.train(codebook, { dim: 3, codebookSize: [, 2] as number[] }),
    "INVALID_ARGUMENT",
    /codebookSize\[0\]: .*undefined/,
  ],
  ["a negative seed", () => ResidualQuantizer.train(codebook, { dim: 3, seed: -1 }), "INVALID_ARGUMENT", /seed/],
  [
    "no iterations",
    () => ResidualQuantizer.train(codebook, { dim: 3, iterations: 0 }),
    "INVALID_ARGUMENT",
    /iterations/,
  ],
  ["a rate that is none", () => rq.describe({ frameRate: 0 }), "INVALID_ARGUMENT", /frameRate/],
  ["bits of no stage", () => rq.bitsPerVector(0), "INVALID_ARGUMENT", /stages/],
  [
    "packing codes out of range",
    () => packCodes(codes, [1, 2]) && packCodes({ ...codes, data: Uint16Array.of(0, 3) }, [2, 2]),
    "CODE_OUT_OF_RANGE",
    /stage 1/,
  ],
  ["unpacking a wrong length", () => unpackCodes(new Uint8Array(2), 1, [2, 2]), "INVALID_ARGUMENT", /expected 1 bytes/],
  ["unpacking codes out of range", () => unpackCodes(Uint8Array.of(3), 1, [3]), "CODE_OUT_OF_RANGE", /size 3, got 3/],
  ["dirty padding", () => unpackCodes(Uint8Array.of(0x80), 1, [4]), "INVALID_STREAM", /padding/],
  ["a model that is none", () => ResidualQuantizer.fromBytes(new Uint8Array(100)), "INVALID_MODEL", /RVQM/],
  ["model bytes of the wrong type", () => ResidualQuantizer.fromBytes(wrong("model")), "INVALID_ARGUMENT", /bytes/],
  ["a model path that is none", () => ResidualQuantizer.load(wrong(Symbol("x"))), "INVALID_ARGUMENT", /path: .*symbol/],
  ["a model without end", () => ResidualQuantizer.load("/dev/zero"), "IO", /not a file/],
  ["a file name that is none", () => rq.save(wrong(7)), "INVALID_ARGUMENT", /path: .*7/],
  [
    "detached model bytes",
    () => ResidualQuantizer.fromBytes(detach(new Uint8Array(9))),
    "INVALID_ARGUMENT",
    /detached/,
  ],
  [
    "a signal that pretends",
    () => rq.encode(new Float32Array(3), { signal: Object.create(AbortSignal.prototype) }),
    "INVALID_ARGUMENT",
    /signal/,
  ],
  [
    "a length that lies",
    () => rq.encode(Object.defineProperty(new Float32Array(4), "length", { value: 3 })),
    "INVALID_ARGUMENT",
    /multiple of dim 3, got 4/,
  ],
  ["more codes than memory", () => unpackCodes(new Uint8Array(0), 2 ** 50, [1]), "OUT_OF_MEMORY", /codes/],
  ["bits of no codebook", () => packedSizeBytes(5, wrong(null)), "INVALID_ARGUMENT", /codebookSizes/],
  ["a rate in words", () => rq.describe({ frameRate: wrong("75") }), "INVALID_ARGUMENT", /frameRate/],
  [
    "no options",
    () => ResidualQuantizer.fromCodebooks([codebook], wrong(undefined)),
    "INVALID_ARGUMENT",
    /got undefined/,
  ],
  [
    "a quantizer that no index takes",
    () => CodeIndex.create(wrong(GroupedQuantizer.fromCodebooks([[codebook]], { dim: 3, groups: 1 })), codes),
    "INVALID_ARGUMENT",
    /quantizer: expected .*, got GroupedQuantizer$/,
  ],
  [
    "codes that come alone where pieces of them are expected",
    () => rvqBytes(wrong(codes), { modelId: rq.id, codebookSizes: [2, 2] }).next(),
    "INVALID_ARGUMENT",
    /codes: expected an iterable of .*, got Object/,
  ],
  ["tables of other sizes", () => tablesFromBytes(new Uint8Array(6), [2, 2]), "INVALID_ARGUMENT", /bytes: expected 4 /],
  ["tables that are none", () => tablesToBytes(wrong({ codebookSizes: [2] })), "INVALID_ARGUMENT", /tables: expected/],
  [
    "training by an option that there is not",
    () => ResidualQuantizer.train(codebook, { dim: 3, ...({ codebook_size: 4 } as object) }),
    "INVALID_ARGUMENT",
    /^options: expected only dim, codebookSize, .*, got "codebook_size"$/,
  ],
  [
    "training from batches by one",
    () => ResidualQuantizer.trainFromBatches(() => [codebook], { dim: 3, ...({ stage: 4 } as object) }),
    "INVALID_ARGUMENT",
    /^options: expected only dim, .*, got "stage"$/,
  ],
  [
    "groups by one",
    () => GroupedQuantizer.train(codebook, { dim: 3, groups: 3, ...({ iteration: 4 } as object) }),
    "INVALID_ARGUMENT",
    /^options: expected only dim, .*, got "iteration"$/,
  ],
  [
    "a trainer by one",
    () => CodebookTrainer.start(codebook, { dim: 3, ...({ decaY: 0.5 } as object) }),
    "INVALID_ARGUMENT",
    /^options: expected only .*decay, .*, got "decaY"$/,
  ],
  [
    "encoding by one",
    () => rq.encode(codebook, wrong({ stage: 1 })),
    "INVALID_ARGUMENT",
    /only stages, .*got "stage"$/,
  ],
  ["decoding by one", () => rq.decodeSync(codes, wrong({ out: 1 })), "INVALID_ARGUMENT", /only stages, .*got "out"$/],
  [
    "a batcher by one",
    () => rq.batcher(wrong({ maxbatch: 1 })),
    "INVALID_ARGUMENT",
    /only maxBatch, .*got "maxbatch"$/,
  ],
  [
    "a batcher's call by one that is the batcher's own",
    () => rq.batcher().encode(codebook, wrong({ beam: 4 })),
    "INVALID_ARGUMENT",
    /only stages, signal, got "beam"$/,
  ],
  ["refinement by one", () => rq.refine(codebook, wrong({ iteration: 9 })), "INVALID_ARGUMENT", /got "iteration"$/],
  [
    "dead codewords by one",
    () => CodebookTrainer.fromCodebooks([codebook], { dim: 3, deadBelow: wrong({ cuont: 5 }) }),
    "INVALID_ARGUMENT",
    /^deadBelow: expected only count, ratio, got "cuont"$/,
  ],
  [
    "memory for counted codes that is lost meanwhile",
    () => {
      const into = new Float32Array(3);
      const decoded = rq.decode(counted, { into });
      detach(into);
      return decoded;
    },
    "INVALID_ARGUMENT",
    /^into: .* left alone/,
  ],
  [
    "memory for counted codes that is theirs",
    () => {
      const memory = new ArrayBuffer(12);
      const data = new Uint16Array(memory, 0, 2);
      return rq.decodeSync({ ...counted, data }, { into: new Float32Array(memory) });
    },
    "INVALID_ARGUMENT",
    /^into: expected memory apart from the codes'/,
  ],
  ["a path for a checkpoint", () => importCheckpoint(wrong("model.safetensors")), "INVALID_ARGUMENT", /^tensors/],
  [
    "no checkpoint",
    () => quantizerFromCheckpoint(wrong(undefined)),
    "INVALID_ARGUMENT",
    /^tensors: expected Safetensors/,
  ],
  [
    "progress of groups that is no function, before any work",
    () => GroupedQuantizer.train(codebook, { dim: 3, groups: 3, codebookSize: 2, stages: 1, onProgress: wrong("x") }),
    "INVALID_ARGUMENT",
    /^onProgress: expected a function/,
  ],
  [
    "no bits of stages",
    () => allocateStages(new Float64Array(6), wrong(undefined), rate),
    "INVALID_ARGUMENT",
    /^bitsPerStage/,
  ],
  [
    "bits whose sum overflows",
    () => allocateStages(new Float64Array(3), [1e308, 1e308], { frameRate: 1, maxError: 0 }),
    "INVALID_ARGUMENT",
    /sum of bitsPerStage/,
  ],
  ["errors that are NaN", () => allocateStages(Float64Array.of(1, NaN), [1], rate), "INVALID_ARGUMENT", /^errors\[1\]/],
  [
    "errors that are lost",
    () => allocateStages(detach(new Float64Array(2)), [1], rate),
    "INVALID_ARGUMENT",
    /detached/,
  ],
  ["errors of no quantizer", () => frameErrors(wrong({}), codebook, codes), "INVALID_ARGUMENT", /^quantizer/],
  [
    "errors of NaN",
    () => frameErrors(rq, Float32Array.of(0, NaN, 0), codes),
    "NOT_FINITE",
    /^vectors: .* row 0, column 1/,
  ],
  ["a stream of no quantizer", () => encodeStream(wrong(undefined)), "INVALID_ARGUMENT", /^quantizer/],
  ["a stream back by no options", () => decodeStream(rq, wrong(null)), "INVALID_ARGUMENT", /^options/],
  [
    "a stream of 5",
    () => encodeStream(rq)(wrong(5)).next(),
    "INVALID_ARGUMENT",
    /^source: expected an iterable, got 5/,
  ],
  ["a step that is none", () => asTransformStream(wrong(() => 1)), "INVALID_ARGUMENT", /^step/],
  [
    "a source of no batches",
    () =>
      ResidualQuantizer.trainFromBatches(
        wrong(() => 5),
        { dim: 3, codebookSize: 2, stages: 1 },
      ),
    "INVALID_ARGUMENT",
    /^what source\(\) returns: expected an iterable, got 5/,
  ],
  [
    "a source of bytes that gives none",
    async () => (await RvqReader.open({ sizeBytes: 1000, read: wrong(async () => undefined) })).read(),
    "INVALID_ARGUMENT",
    /input\.read resolves to: expected a Uint8Array/,
  ],
  [
    "metadata too deep to be written",
    () => ResidualQuantizer.fromCodebooks([codebook], { dim: 3, metadata: nested(600) }),
    "INVALID_ARGUMENT",
    /^metadata: expected at most 500 levels/,
  ],
  ["tensors that are none", () => writeSafetensors(wrong(undefined)), "INVALID_ARGUMENT", /^tensors/],
  [
    "a tensor that readers would take for metadata",
    () => writeSafetensors({ __metadata__: { shape: [1], data: Float32Array.of(1) } }),
    "INVALID_ARGUMENT",
    /no tensor __metadata__/,
  ],
  [
    "metadata that is no string",
    () => writeSafetensors({}, wrong({ x: 5 })),
    "INVALID_ARGUMENT",
    /^metadata.x: expected a string/,
  ],
  [
    "a signal that is half one",
    () => rq.batcher().encode(codebook, { signal: wrong({ aborted: false, throwIfAborted() {} }) }),
    "INVALID_ARGUMENT",
    /^signal: expected an AbortSignal/,
  ],
  [
    "a matrix that a getter of the options shrinks",
    () => {
      const memory = resizable(120);
      const options = {
        dim: 3,
        get mask() {
          memory.resize(24);
          return new Uint8Array(10);
        },
      };
      return straightThroughGradient(new Float32Array(memory), options);
    },
    "INVALID_ARGUMENT",
    /^dQuantized/,
  ],
  ["a missing model file", () => ResidualQuantizer.load("/nonexistent/model.rvqm"), "IO", /nonexistent/],
  ["a folder that does not exist", () => rq.save("/nonexistent/model.rvqm"), "IO", /nonexistent/],
];

/** Arrays in arrays in an object. */
function nested(levels: number): Record<string, unknown> {
  let inner: unknown[] = [];
  for (let level = 2; level < levels; level++) inner = [inner];
  return { inner };
}

describe("typed errors", () => {
  for (const [what, call, code, message] of cases) {
    it(`refuse ${what}`, async () => {
      const error = await errorOf(call);
      expect(error.code).toBe(code);
      expect(error.message).toMatch(message);
    });
  }
});

describe("what a quantizer says of itself", () => {
  it("cannot be changed from outside", () => {
    const quantizer = ResidualQuantizer.fromCodebooks([codebook, codebook], { dim: 3 });
    const grouped = GroupedQuantizer.fromCodebooks([[codebook]], { dim: 3, groups: 1 });
    expect(() => quantizer.codebookSizes.concat(1) && (quantizer.codebookSizes as number[]).reverse()).toThrow(
      TypeError,
    );
    for (const one of [quantizer, grouped]) {
      expect(() => Object.assign(one, { dim: 1 })).toThrow(TypeError);
      expect(() => Object.assign(one, { codebookSizes: [] })).toThrow(TypeError);
      expect(() => Object.assign(one, { id: "" })).toThrow(TypeError);
      one[Symbol.dispose]();
    }
    expect(() => quantizer.encodeSync(new Float32Array(3))).toThrow(/after dispose/);
  });
});

describe("lists", () => {
  /** An array that gives nothing to who iterates over it. */
  const silent = <Item>(list: Item[]) => Object.defineProperty(list, Symbol.iterator, { value: function* () {} });

  it("count by their elements, whatever their iterators say", async () => {
    const options = { dim: 3, backend: "js" } as const;
    expect(ResidualQuantizer.fromCodebooks(silent([codebook]), options).stages).toBe(1);
    const sizes = { ...options, codebookSize: silent([2, 2]), stages: 2 };
    expect((await ResidualQuantizer.train(codebook, sizes)).codebookSizes).toEqual([2, 2]);
    expect(packedSizeBytes(8, silent([16, 4]))).toBe(6);
    const range = { rows: 5, magnitudes: silent([1, 2, 3]), maxWeight: null };
    const statistics = await Statistics.start(rq, range, { backend: "js" });
    expect(statistics.range).toEqual({ ...range, magnitudes: [1, 2, 3] });
    expect(() => Object.assign(statistics.range, { rows: 9 })).toThrow(TypeError);
    expect(() => Object.assign(statistics, { range })).toThrow(TypeError);
  });
});

describe("what console.log shows", () => {
  it("is what an object is, and not what it is made of", () => {
    const options = { dim: 3, backend: "js", metadata: { name: "A" } } as const;
    const shared = "metric: 'l2', stages: 1, codebookSizes: [ 2 ], metadata: { name: 'A' }, backend: 'js' }";
    const line = (object: object) => inspect(object, { breakLength: Infinity });
    expect(line(ResidualQuantizer.fromCodebooks([codebook], options))).toBe(`ResidualQuantizer { dim: 3, ${shared}`);
    const grouped = GroupedQuantizer.fromCodebooks([[codebook]], { ...options, groups: 1 });
    expect(line([grouped])).toBe(
      `[ GroupedQuantizer { dim: 3, ${shared.replace("stages: 1", "stages: 1, groups: [ 3 ]")} ]`,
    );
    expect(line(CodebookTrainer.fromCodebooks([codebook], options))).toMatch(
      /^CodebookTrainer \{ dim: 3, .* steps: 0, backend: 'js' \}$/,
    );
    expect(inspect(ResidualQuantizer.prototype)).not.toMatch(/Error/);
  });
});

describe("calls that are refused again and again", () => {
  const bad = new Float32Array(3).fill(Number.NaN);
  const outOfRange: Codes = { count: 1, stages: 2, data: Uint16Array.of(0, 2) };
  for (const backend of status().backends.filter(({ available }) => available)) {
    const options = { dim: 3, backend: backend.name };
    const quantizer = ResidualQuantizer.fromCodebooks([codebook, codebook], options);
    const grouped = GroupedQuantizer.fromCodebooks([[codebook.slice(0, 2)], [codebook.slice(0, 4)]], {
      ...options,
      groups: [1, 2],
    });
    const calls = {
      encode: () => quantizer.encode(bad),
      decode: () => quantizer.decode(outOfRange),
      distortion: () => quantizer.distortion(bad, codes),
      "encode of groups": () => grouped.encode(bad),
    };
    it.each(Object.entries(calls))(`leave the event loop its turns, %s on ${backend.name}`, async (_, call) => {
      let turned = false;
      setTimeout(() => (turned = true), 1);
      const start = performance.now();
      let refused = 0;
      while (!turned && performance.now() - start < 2_000) {
        await call().catch(({ code }: RvqError) => {
          if (code === "NOT_FINITE" || code === "CODE_OUT_OF_RANGE") refused++;
        });
      }
      expect(turned).toBe(true);
      expect(refused).toBeGreaterThan(0);
    });
  }
});
