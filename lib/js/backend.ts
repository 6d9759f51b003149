// The `js` backend: TypeScript, no native code. Its results define what every other backend must return.
//
// The search has two forms with the same results: plain loops, which are the definition, and where the processor and the
// runtime have it a WebAssembly SIMD screen (`wasm/`) that is ten times as fast.

import type {
  AssignRequest,
  Backend,
  BackendOptions,
  BadInput,
  CodebookSpec,
  DecodeRequest,
  DistanceRequest,
  EncodeRequest,
  PreparedCodebooks,
} from "../backend.js";
import { invalidArgument, RvqError } from "../errors.js";
import { runInSlices, runToEnd, type Steps } from "../time-slice.js";
import { beamSteps } from "./beam.js";
import { type JsCodebook, prepareCodebook } from "./codebook.js";
import { JsProjection } from "./project.js";
import { accumulateSteps, decodeSteps, distanceSteps, lowerDistancesSteps } from "./row-loops.js";
import { PlainSearch, type Search } from "./search.js";
import { encodeInParts, partRows } from "./threads.js";
import { type Engine, openEngine } from "./wasm/engine.js";
import { largestDim } from "./wasm/packed-codebook.js";
import { largestRowDim, lowerDistancesSteps as lowerDistancesByWasm } from "./wasm/row-kernels.js";
import { WasmSearch } from "./wasm/search.js";
import { type Form, type SharedCodebooks, type WorkerPool, workerPool } from "./worker-pool.js";

/** Holds the search to one form: "wasm" or "plain". */
const formVariable = "RVQ_JS";

/** A thread's rows of a chunk hold about this many multiply-adds: a tenth of a second, in which progress and abort are not seen. */
const multiplyAddsPerChunk = { plain: 2e8, wasm: 2e9 };

/** Every worker thread has a JavaScript heap and a WebAssembly memory of its own. */
const mostWorkers = 32;

/**
 * @param options with `threads` of two and more, large asynchronous searches run in so many worker threads; by default and
 * all else runs on the calling thread
 * @throws RvqError INVALID_ARGUMENT where RVQ_JS has an unknown value, BACKEND_UNAVAILABLE where it asks for WebAssembly
 * SIMD and there is none
 */
export function openJs(options: BackendOptions = {}): Backend {
  const engine = chooseEngine(process.env[formVariable]);
  const form = engine === null ? "plain" : "wasm";
  const pool = (options.threads ?? 1) > 1 ? workerPool(form) : null;
  const threads = pool === null ? 1 : Math.min(mostWorkers, options.threads ?? 1);
  const chunk = multiplyAddsPerChunk[form] * threads;
  const name = engine === null ? "plain TypeScript" : engine.name;
  return {
    name: "js",
    description: threads === 1 ? `${name}, one thread` : `${name}, ${threads} threads`,
    // Calls that share the one thread would only double the pause between turns of the event loop. Workers find the next
    // one waiting.
    chunksInFlight: threads === 1 ? 1 : 2,
    chunkRows: (dim, codewordsPerVector) =>
      Math.max(1, Math.min(2 ** 20 / dim, chunk / (dim * codewordsPerVector)) | 0),
    prepare: (spec) => new JsCodebooks(spec, engine, pool, threads),
    prepareProjection: (projection) => new JsProjection(projection),
    accumulate: (request) => runInSlices(accumulateSteps(request)),
    lowerDistances: (request) =>
      runInSlices(
        engine === null || request.dim > largestRowDim
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
  private readonly form: Form;
  /** As the workers know them. */
  private readonly shared: SharedCodebooks | null;

  constructor(
    spec: CodebookSpec,
    engine: Engine | null,
    private readonly pool: WorkerPool | null,
    private readonly threads: number,
  ) {
    this.codebooks = spec.codebooks.map((_, stage) => prepareCodebook(spec, stage));
    this.form = engine === null || spec.dim > largestDim ? "plain" : "wasm";
    this.search =
      engine === null || this.form === "plain"
        ? new PlainSearch(this.codebooks)
        : new WasmSearch(engine, this.codebooks);
    const codebooks = this.codebooks.map(({ codewords }) => codewords);
    const weights = spec.weights === null ? null : spec.weights.slice();
    this.shared = pool?.share(this, { dim: spec.dim, metric: spec.metric, weights, codebooks }) ?? null;
  }

  encode(request: EncodeRequest): Promise<BadInput | null> {
    const { pool, shared, threads } = this;
    const encodeHere = (part: EncodeRequest) => runInSlices(this.encodeSteps(part));
    if (pool === null || shared === null || !pool.usable) return encodeHere(request);
    const codewords = this.codebooks.slice(0, request.stages).reduce((sum, { numCodewords }) => sum + numCodewords, 0);
    const multiplyAddsPerRow = (request.beam ?? 1) * codewords * shared.spec.dim;
    const rows = partRows(request.count, multiplyAddsPerRow, threads, this.form);
    if (rows === request.count) return encodeHere(request);
    return encodeInParts(pool, shared, request, rows, threads, encodeHere);
  }

  encodeSync(request: EncodeRequest): BadInput | null {
    return runToEnd(this.encodeSteps(request));
  }

  decode(request: DecodeRequest): Promise<void> {
    return runInSlices(this.decodeSteps(request));
  }

  decodeSync(request: DecodeRequest): void {
    runToEnd(this.decodeSteps(request));
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
    if (this.shared !== null) this.pool?.forget(this.shared.id);
  }

  private encodeSteps(request: EncodeRequest): Steps<BadInput | null> {
    const greedySteps = (greedy: EncodeRequest) => this.search.encodeSteps(greedy);
    const { beam = 1 } = request;
    return beam === 1 ? greedySteps(request) : beamSteps(this.codebooks, request, beam, greedySteps);
  }

  private decodeSteps(request: DecodeRequest): Steps<void> {
    return this.search.decodeSteps(request) ?? decodeSteps(this.codebooks, request);
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
