// The `js` backend: plain TypeScript, no native code. Its results define what every other backend must return.

import type {
  AccumulateRequest,
  Backend,
  BadInput,
  CodebookSpec,
  DecodeRequest,
  DistanceRequest,
  EncodeRequest,
  LowerDistancesRequest,
  PreparedCodebooks,
} from "../backend.js";
import { squaredDistance } from "./canonical.js";
import { type JsCodebook, prepareCodebook } from "./codebook.js";
import { encodeSteps } from "./search.js";
import { runInSlices, runToEnd, StepMeter, type Steps } from "./time-slice.js";

/** Rows of a chunk hold about this many multiply-adds: a tenth of a second, in which progress and abort are not seen. */
const multiplyAddsPerChunk = 2e8;

export function openJs(): Backend {
  return {
    name: "js",
    description: "plain TypeScript, one thread",
    // Calls share the one thread: a second one under way would only double the pause between turns of the event loop.
    chunksInFlight: 1,
    chunkRows: (dim, codewordsPerVector) =>
      Math.max(1, Math.min(2 ** 20 / dim, multiplyAddsPerChunk / (dim * codewordsPerVector)) | 0),
    prepare: (spec) => new JsCodebooks(spec),
    accumulate: (request) => runInSlices(accumulateSteps(request)),
    lowerDistances: (request) => runInSlices(lowerDistancesSteps(request)),
  };
}

class JsCodebooks implements PreparedCodebooks {
  private readonly codebooks: readonly JsCodebook[];

  constructor(spec: CodebookSpec) {
    this.codebooks = spec.codebooks.map((_, stage) => prepareCodebook(spec, stage));
  }

  encode(request: EncodeRequest): Promise<BadInput | null> {
    return runInSlices(encodeSteps(this.codebooks, request));
  }

  encodeSync(request: EncodeRequest): BadInput | null {
    return runToEnd(encodeSteps(this.codebooks, request));
  }

  decode(request: DecodeRequest): Promise<void> {
    return runInSlices(decodeSteps(this.codebooks, request));
  }

  decodeSync(request: DecodeRequest): void {
    runToEnd(decodeSteps(this.codebooks, request));
  }

  distances(request: DistanceRequest): Promise<void> {
    return runInSlices(distanceSteps(this.codebooks, request));
  }

  distancesSync(request: DistanceRequest): void {
    runToEnd(distanceSteps(this.codebooks, request));
  }

  dispose(): void {}
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
  const { vectors, count, dim, codes, gridExponents, counts, sums } = request;
  const meter = new StepMeter();
  // |x / q| ≤ 2^51, so adding and subtracting 1.5·2^52 rounds to the nearest integer, ties to even.
  const scales = Float64Array.from(gridExponents, (exponent) => 2 ** -exponent);
  const rounder = 1.5 * 2 ** 52;
  for (let n = 0; n < count; n++) {
    const code = codes[n];
    counts[code] += 1;
    const row = n * dim;
    const sum = code * dim;
    for (let i = 0; i < dim; i++) sums[sum + i] += vectors[row + i] * scales[i] + rounder - rounder;
    if (meter.add(dim)) yield;
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
