// A small request to every entry of the native addon that needs no device, with what calls it.

import type { AccumulateRequest } from "../lib/backend.js";
import type { Addon, CpuOptions } from "../lib/cpu/addon.js";

/** `run` throws, answers or promises. */
export interface CpuOperation<Request = object> {
  readonly name: string;
  readonly request: Request;
  readonly run: (request: never) => unknown;
  /** The native object whose method it calls. */
  readonly owner: { dispose(): void } | null;
}

const dim = 16;

/** With arrays and native objects of their own. */
export function cpuOperations(addon: Addon, options: CpuOptions): CpuOperation[] {
  return [...codebookOperations(addon, options), ...otherOperations(addon, options)];
}

export function accumulateOperation(addon: Addon, options: CpuOptions): CpuOperation<AccumulateRequest> {
  const request = {
    ...{ vectors: new Float32Array(4 * dim), count: 4, dim, codes: new Uint16Array(4), numCodewords: 50 },
    ...{ gridExponents: new Int32Array(dim), counts: new Float64Array(50), sums: new Float64Array(50 * dim) },
  };
  return { name: "accumulate", request, run: (given) => addon.accumulate(given, options), owner: null };
}

function codebookOperations(addon: Addon, options: CpuOptions): CpuOperation[] {
  const codebook = Float32Array.from({ length: 50 * dim }, (_, i) => ((i * 7919) % 1009) / 100);
  const owner = new addon.CpuCodebooks({ dim, metric: "l2", weights: null, codebooks: [codebook], ...options });
  const vectors = () => new Float32Array(4 * dim);
  const encode = () => ({ vectors: vectors(), count: 4, stages: 1, codes: new Uint16Array(4) });
  const decode = () => ({ ...encode(), codeStages: 1 });
  const distances = () => ({ ...decode(), weighted: false, distances: new Float64Array(4) });
  const assign = () => ({ vectors: vectors(), count: 4, codes: new Uint16Array(4), distances: new Float64Array(4) });
  const operations: [name: string, request: object, run: (request: never) => unknown][] = [
    ["encodeSync", encode(), (request) => owner.encodeSync(request)],
    ["encode", encode(), (request) => owner.encode(request)],
    ["encode, beam", { ...encode(), beam: 2, residuals: vectors() }, (request) => owner.encode(request)],
    ["decodeSync", decode(), (request) => owner.decodeSync(request)],
    ["decode", decode(), (request) => owner.decode(request)],
    ["distancesSync", distances(), (request) => owner.distancesSync(request)],
    ["distances", distances(), (request) => owner.distances(request)],
    ["assign", assign(), (request) => owner.assign(request)],
    ["assign, weights", { ...assign(), plainDistances: new Float64Array(4) }, (request) => owner.assign(request)],
  ];
  return operations.map(([name, request, run]) => ({ name, request, run, owner }));
}

function otherOperations(addon: Addon, options: CpuOptions): CpuOperation[] {
  const accumulate = accumulateOperation(addon, options);
  const lower = {
    ...{ vectors: new Float32Array(4 * dim), count: 4, dim, weights: new Float32Array(dim) },
    ...{ centre: new Float32Array(dim), distances: new Float64Array(4) },
  };
  const spec = () => ({ dim, metric: "l2", weights: null, codebooks: [new Float32Array(dim)], ...options });
  const scan = () => ({
    ...{ vectors: 3, stages: 5, numWords: 1, words: Int32Array.of(0x01020304, -1, 0), singles: new Uint8Array(3) },
    ...{ norms: new Float64Array(3), dim: 2, count: 2, queries: new Float64Array(4), factor: -2, candidates: 2 },
    ...{ codebooks: Array.from({ length: 5 }, () => new Float32Array(6)) },
    ...{ keys: new Float64Array(4), ids: new Uint32Array(4) },
  });
  const pack = {
    ...{ codes: Uint16Array.of(4, 0, 3, 1, 2, 0, 1, 1), count: 4, stages: 2, codebookSizes: Int32Array.of(5, 2) },
    ...{ groupLengths: Int32Array.of(2), groups: 1, stageMajor: false, bytes: new Uint8Array(2), sizeBytes: 2 },
  };
  const unpack = {
    ...{ codes: new Uint16Array(8), count: 4, stages: 2, codebookSizes: Int32Array.of(5, 2) },
    ...{ groupLengths: Int32Array.of(3, 52), groups: 2, stageMajor: true, bytes: new Uint8Array(3), sizeBytes: 3 },
  };
  const projection = () => ({
    ...{ weight: new Float32Array(3 * dim), bias: new Float32Array(3), inDim: dim, outDim: 3 },
    ...options,
  });
  const owner = new addon.CpuProjection(projection());
  const project = () => ({
    ...{ vectors: new Float32Array(4 * dim), count: 4, projected: new Float32Array(12), into: "replace" },
  });
  const operations: [string, object, (request: never) => unknown, CpuOperation["owner"]?][] = [
    [
      "accumulate, moving",
      { ...accumulateOperation(addon, options).request, previousCodes: new Uint16Array(4) },
      accumulate.run,
    ],
    ["lowerDistances", lower, (request) => addon.lowerDistances(request, options)],
    [
      "new CpuCodebooks, previous",
      { ...spec(), weights: new Float32Array(dim), previous: new Float32Array(dim) },
      (request) => new addon.CpuCodebooks(request),
    ],
    ["new CpuCodebooks", spec(), (request) => new addon.CpuCodebooks(request)],
    ["scanCodes", scan(), (request) => addon.scanCodes(request, options)],
    [
      "scanCodes, wide",
      { ...scan(), norms: null, singles: new Uint16Array(3) },
      (request) => addon.scanCodes(request, options),
    ],
    ["packCodes", pack, (request) => addon.packCodes(request)],
    ["unpackCodes", unpack, (request) => addon.unpackCodes(request)],
    ["new CpuProjection", projection(), (request) => new addon.CpuProjection(request)],
    ["project", project(), (request) => owner.project(request), owner],
    ["projectSync", project(), (request) => owner.projectSync(request), owner],
  ];
  return [accumulate, ...operations.map(([name, request, run, of = null]) => ({ name, request, run, owner: of }))];
}
