// The `js` backend: TypeScript, no native code. Its results define what every other backend must return.
//
// The search has two forms with the same results: plain loops, which are the definition, and where the processor and the
// runtime have it a WebAssembly SIMD screen (`wasm/`) that is ten times as fast.

import type {
  AccumulateRequest,
  AssignRequest,
  Backend,
  BackendOptions,
  BadInput,
  CodebookSpec,
  DecodeRequest,
  DistanceRequest,
  EncodeRequest,
  LowerDistancesRequest,
  PreparedCodebooks,
} from "../backend.js";
import { squaredDistance } from "../canonical.js";
import { invalidArgument, RvqError } from "../errors.js";
import { runInSlices, runToEnd, StepMeter, type Steps } from "../time-slice.js";
import { type JsCodebook, prepareCodebook } from "./codebook.js";
import { PlainSearch, type Search } from "./search.js";
import { largestDistanceDim, lowerDistancesSteps as lowerDistancesByWasm } from "./wasm/distances.js";
import { type Engine, openEngine } from "./wasm/engine.js";
import { largestDim } from "./wasm/packed-codebook.js";
import { WasmSearch } from "./wasm/search.js";

/** Holds the search to one form: "wasm" or "plain". */
const formVariable = "RVQ_JS";

/** Rows of a chunk hold about this many multiply-adds: a tenth of a second, in which progress and abort are not seen. */
const multiplyAddsPerChunk = { plain: 2e8, wasm: 2e9 };

/**
 * @throws RvqError INVALID_ARGUMENT where RVQ_JS has an unknown value, BACKEND_UNAVAILABLE where it asks for WebAssembly
 * SIMD and there is none
 */
export function openJs(_options: BackendOptions = {}): Backend {
  const engine = chooseEngine(process.env[formVariable]);
  const chunk = engine === null ? multiplyAddsPerChunk.plain : multiplyAddsPerChunk.wasm;
  return {
    name: "js",
    description: engine === null ? "plain TypeScript, one thread" : `${engine.name}, one thread`,
    // Calls share the one thread: a second one under way would only double the pause between turns of the event loop.
    chunksInFlight: 1,
    chunkRows: (dim, codewordsPerVector) =>
      Math.max(1, Math.min(2 ** 20 / dim, chunk / (dim * codewordsPerVector)) | 0),
    prepare: (spec) => new JsCodebooks(spec, engine),
    accumulate: (request) => runInSlices(accumulateSteps(request)),
    lowerDistances: (request) =>
      runInSlices(
        engine === null || request.dim > largestDistanceDim
          ? lowerDistancesSteps(request)
          : lowerDistancesByWasm(engine, request),
      ),
  };
}

/** null: plain. */
function chooseEngine(wanted: string | undefined): Engine | null {
  switch (wanted) {
    case "plain":
      return null;
    case undefined:
    case "":
      return openEngine();
    case "wasm": {
      const engine = openEngine();
      if (engine !== null) return engine;
      throw new RvqError("BACKEND_UNAVAILABLE", `${formVariable}=wasm, but WebAssembly SIMD is not available here`);
    }
    default:
      throw invalidArgument(`environment variable ${formVariable}`, '"wasm" or "plain"', wanted);
  }
}

class JsCodebooks implements PreparedCodebooks {
  private readonly codebooks: readonly JsCodebook[];
  private readonly search: Search;

  constructor(spec: CodebookSpec, engine: Engine | null) {
    this.codebooks = spec.codebooks.map((_, stage) => prepareCodebook(spec, stage));
    this.search =
      engine === null || spec.dim > largestDim
        ? new PlainSearch(this.codebooks)
        : new WasmSearch(engine, this.codebooks);
  }

  encode(request: EncodeRequest): Promise<BadInput | null> {
    return runInSlices(this.search.encodeSteps(request));
  }

  encodeSync(request: EncodeRequest): BadInput | null {
    return runToEnd(this.search.encodeSteps(request));
  }

  decode(request: DecodeRequest): Promise<void> {
    return runInSlices(decodeSteps(this.codebooks, request));
  }

  decodeSync(request: DecodeRequest): void {
    runToEnd(decodeSteps(this.codebooks, request));
  }

  distances(request: DistanceRequest): Promise<void> {
    return runInSlices(this.distanceSteps(request));
  }

  distancesSync(request: DistanceRequest): void {
    runToEnd(this.distanceSteps(request));
  }

  assign(request: AssignRequest): Promise<void> {
    return runInSlices(this.assignSteps(request));
  }

  dispose(): void {
    this.search.dispose();
  }

  // Searching everything again is the definition; a previous codebook is of no use to it.
  private *assignSteps({ vectors, count, codes, distances, plainDistances }: AssignRequest): Steps<void> {
    yield* this.search.encodeSteps({ vectors, count, stages: 1, codes });
    const measured = { vectors, count, codes, codeStages: 1, stages: 1 };
    yield* this.distanceSteps({ ...measured, weighted: true, distances });
    if (plainDistances === undefined) return;
    yield* this.distanceSteps({ ...measured, weighted: false, distances: plainDistances });
  }

  private distanceSteps(request: DistanceRequest): Steps<void> {
    return this.search.distanceSteps(request) ?? distanceSteps(this.codebooks, request);
  }
}

function* decodeSteps(codebooks: readonly JsCodebook[], request: DecodeRequest): Steps<void> {
  const { codes, count, codeStages, stages, vectors } = request;
  const { dim } = codebooks[0];
  const meter = new StepMeter();
  for (let n = 0; n < count; n++) {
    const out = n * dim;
    vectors.fill(0, out, out + dim);
    for (let stage = 0; stage < stages; stage++) {
      addCodeword(codebooks[stage], codes[n * codeStages + stage], vectors, out);
    }
    if (meter.add(stages * dim)) yield;
  }
}

/** out[offset … +D] += the codeword, rounded to float32 by the store. */
function addCodeword(codebook: JsCodebook, code: number, out: Float32Array, offset: number): void {
  const { codewords, dim } = codebook;
  const c = code * dim;
  for (let i = 0; i < dim; i++) out[offset + i] += codewords[c + i];
}

function* distanceSteps(codebooks: readonly JsCodebook[], request: DistanceRequest): Steps<void> {
  const { vectors, count, codes, codeStages, stages, distances } = request;
  const { dim } = codebooks[0];
  const weights = request.weighted ? codebooks[0].weights : null;
  const reconstruction = new Float32Array(dim);
  const meter = new StepMeter();
  for (let n = 0; n < count; n++) {
    reconstruction.fill(0);
    for (let stage = 0; stage < stages; stage++) {
      addCodeword(codebooks[stage], codes[n * codeStages + stage], reconstruction, 0);
      distances[n * stages + stage] = squaredDistance(vectors, n * dim, reconstruction, 0, dim, weights, Infinity);
    }
    if (meter.add(2 * stages * dim)) yield;
  }
}

function* accumulateSteps(request: AccumulateRequest): Steps<void> {
  const { vectors, count, dim, codes, previousCodes, gridExponents, counts, sums } = request;
  const meter = new StepMeter();
  // |x / q| ≤ 2^51, so adding and subtracting 1.5·2^52 rounds to the nearest integer, ties to even.
  const scales = Float64Array.from(gridExponents, (exponent) => 2 ** -exponent);
  const rounder = 1.5 * 2 ** 52;
  for (let n = 0; n < count; n++) {
    const code = codes[n];
    const row = n * dim;
    if (meter.add(dim)) yield;
    if (previousCodes !== undefined) {
      const before = previousCodes[n];
      if (before === code) continue;
      counts[before] -= 1;
      const sum = before * dim;
      for (let i = 0; i < dim; i++) sums[sum + i] -= vectors[row + i] * scales[i] + rounder - rounder;
    }
    counts[code] += 1;
    const sum = code * dim;
    for (let i = 0; i < dim; i++) sums[sum + i] += vectors[row + i] * scales[i] + rounder - rounder;
  }
}

function* lowerDistancesSteps(request: LowerDistancesRequest): Steps<void> {
  const { vectors, count, dim, weights, centre, distances } = request;
  const meter = new StepMeter();
  for (let n = 0; n < count; n++) {
    const distance = squaredDistance(vectors, n * dim, centre, 0, dim, weights, distances[n]);
    if (distance < distances[n]) distances[n] = distance;
    if (meter.add(2 * dim)) yield;
  }
}
