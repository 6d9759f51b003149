// Batcher: the calls of a service's many requests, each for a vector or a few, computed in few large batches.

import type { Metric } from "../backend.js";
import { firstBadInput } from "../bad-input.js";
import { badInput, type Codes, checkCodes, checkInteger, checkNumber, checkOptions, checkVectors } from "../check.js";
import { newCodeArray } from "../code-array.js";
import { invalidArgument, RvqError } from "../errors.js";
import { checkOptionNames, type OptionNames } from "../option-names.js";
import { checkBeam, checkCall, type DecodeOptions, type EncodeOptions } from "../quantizer-options.js";
import { type BatchMetrics, BatchRunner } from "./batch-runner.js";
import { type DecodeInput, decodeOperation } from "./decode-operation.js";
import { type EncodeInput, encodeOperation } from "./encode-operation.js";

export interface BatcherOptions {
  /** Vectors of a batch at most. Default 256: larger ones are hardly quicker, and calls would wait longer for them. */
  readonly maxBatch?: number;
  /**
   * How long a call waits for others to share its batch, in ms. Default 0: only until the event loop has looked at all that has
   * come meanwhile. Calls also collect while earlier batches are computed, so that batches grow with the load by themselves.
   */
  readonly maxDelayMs?: number;
  /**
   * Vectors in the queue at most, for encoding and for decoding each; default 16 batches. A long call counts as a quarter of a batch:
   * it takes turns of that size, and so small calls get past it. An empty queue takes any call.
   */
  readonly maxQueue?: number;
  /** A call that does not fit into the queue waits for room (default), or is refused with the code QUEUE_FULL. */
  readonly whenFull?: "wait" | "reject";
  /** The most stages that calls can ask for, and their default; default all of the quantizer's. */
  readonly stages?: number;
  /** As of `encode`, for all calls; with a beam of 2 and more they all have `stages` stages. */
  readonly beam?: number;
}

const batcherNames: OptionNames<BatcherOptions> = {
  maxBatch: true,
  maxDelayMs: true,
  maxQueue: true,
  whenFull: true,
  stages: true,
  beam: true,
};

export interface BatchedEncodeOptions {
  readonly stages?: number;
  /** Takes the call out of the queue, or drops what its batch computes for it. */
  readonly signal?: AbortSignal;
}

export type BatchedDecodeOptions = BatchedEncodeOptions;

const batchedNames: OptionNames<BatchedEncodeOptions> = { stages: true, signal: true };

export interface BatcherMetrics {
  readonly encode: BatchMetrics;
  readonly decode: BatchMetrics;
}

/** What a batcher needs of a quantizer, whose module imports this one. */
export interface BatchableQuantizer {
  readonly dim: number;
  readonly metric: Metric;
  readonly stages: number;
  /** One a column of the codes; each stage has as many of them. */
  readonly codebookSizes: readonly number[];
  encode(vectors: Float32Array, options: EncodeOptions): Promise<Codes>;
  decode(codes: Codes, options: DecodeOptions): Promise<Float32Array>;
}

/** How the quantizer refuses what one call brings, before a batch has it. */
export interface CallChecks {
  /** The codes, with whole stages but for their range. */
  codes(value: unknown): Codes;
  /** Throws for the first of vectors[rows][dim] that is no input; `firstRow` is their first row in the call. */
  content(vectors: Float32Array, firstRow: number): void;
}

/** Memory of a batch's rows at most. */
const largestBatch = 2 ** 20;

/**
 * `rq.batcher(options)` and `gq.batcher(options)` make one. Results are those of direct calls, bit for bit, and so are errors: they name rows of the
 * call's own input, and other calls of the same batch do not see them.
 */
export class Batcher {
  private readonly encodes: BatchRunner<EncodeInput, unknown, Codes, Codes>;
  private readonly decodes: BatchRunner<DecodeInput, unknown, Float32Array, Float32Array>;
  private readonly stages: number;
  /** Codes of a stage. */
  private readonly columns: number;
  private readonly beam: number;
  private closed = false;

  /** @internal */
  constructor(
    private readonly quantizer: BatchableQuantizer,
    options: BatcherOptions,
    private readonly checks: CallChecks = plainChecks(quantizer),
  ) {
    checkOptions("options", options);
    checkOptionNames(options, batcherNames);
    const { dim, metric, codebookSizes } = quantizer;
    this.columns = codebookSizes.length / quantizer.stages;
    const maxBatch = checkInteger("maxBatch", options.maxBatch ?? 256, 1, largestBatch);
    const maxDelayMs = checkNumber("maxDelayMs", options.maxDelayMs ?? 0, 0, "a number of ms, 0 or more");
    if (maxDelayMs > longestTimerMs) throw invalidArgument("maxDelayMs", `at most ${longestTimerMs}`, maxDelayMs);
    const maxQueue = checkInteger("maxQueue", options.maxQueue ?? 16 * maxBatch, 1, Number.MAX_SAFE_INTEGER);
    const whenFull = options.whenFull ?? "wait";
    if (whenFull !== "wait" && whenFull !== "reject") throw invalidArgument("whenFull", '"wait" or "reject"', whenFull);
    this.stages = checkInteger("stages", options.stages ?? quantizer.stages, 1, quantizer.stages);
    const beam = checkBeam(options.beam ?? 1, metric);
    this.beam = beam;

    const limits = { maxBatch, maxDelayMs, maxQueue, whenFull } as const;
    const encode = (vectors: Float32Array, columns: number) =>
      quantizer.encode(vectors, { stages: columns / this.columns, beam });
    const decode = (codes: Codes, columns: number) => quantizer.decode(codes, { stages: columns / this.columns });
    const checkContent = (vectors: Float32Array, firstRow: number) => checks.content(vectors, firstRow);
    this.encodes = new BatchRunner(encodeOperation({ dim, codebookSizes, maxBatch, checkContent, encode }), limits);
    this.decodes = new BatchRunner(decodeOperation({ dim, codebookSizes, maxBatch, decode }), limits);
  }

  /**
   * As `rq.encode`. The vectors are copied when their turn comes: the caller leaves them alone until the promise settles.
   * @throws RvqError INVALID_ARGUMENT, NOT_FINITE, ZERO_VECTOR, QUEUE_FULL, DISPOSED; the signal's reason when aborted
   */
  async encode(vectors: Float32Array, options: BatchedEncodeOptions = {}): Promise<Codes> {
    const { stages, signal } = checkCall(options, this.stages, batchedNames);
    if (this.beam > 1 && stages !== this.stages) {
      throw invalidArgument(
        "stages",
        `${this.stages}, those of the batcher: with a beam all calls have the same`,
        stages,
      );
    }
    const plain = checkVectors("vectors", vectors, this.quantizer.dim);
    this.checkOpen();
    const rows = plain.length / this.quantizer.dim;
    const columns = stages * this.columns;
    if (rows === 0) return { count: 0, stages: columns, data: newCodeArray(0, this.quantizer.codebookSizes) };
    return this.encodes.submit({ rows, vectors: plain, columns }, signal);
  }

  /**
   * As `rq.decode`, of codes that have all of their stages.
   * @throws RvqError INVALID_ARGUMENT, CODE_OUT_OF_RANGE, QUEUE_FULL, DISPOSED; the signal's reason when aborted
   */
  async decode(codes: Codes, options: BatchedDecodeOptions = {}): Promise<Float32Array> {
    const { given, signal } = checkCall(options, this.quantizer.stages, batchedNames);
    const checked = this.checks.codes(codes);
    const codeStages = checked.stages / this.columns;
    const stages = checkInteger("stages", given ?? codeStages, 1, codeStages);
    this.checkOpen();
    if (checked.count === 0) return new Float32Array(0);
    return this.decodes.submit({ rows: checked.count, codes: checked, columns: stages * this.columns }, signal);
  }

  /** What waits, what has been done, how large batches were and how long calls took: for a metrics client. */
  metrics(): BatcherMetrics {
    return { encode: this.encodes.metrics(), decode: this.decodes.metrics() };
  }

  /** Resolves when every call so far has settled. Until then no call waits for others to share its batch. */
  async drain(): Promise<void> {
    await Promise.all([this.encodes.drain(), this.decodes.drain()]);
  }

  /** Refuses later calls and drains. The quantizer stays in use. */
  async close(): Promise<void> {
    this.closed = true;
    await this.drain();
  }

  private checkOpen(): void {
    // Last of all checks: reading an option may run a getter of the caller's.
    if (this.closed) throw new RvqError("DISPOSED", "batcher: expected one in use, got one after close()");
  }
}

/** Node's timers take no more. */
const longestTimerMs = 2 ** 31 - 1;

/** Those of a quantizer with a code a stage. */
function plainChecks({ dim, metric, stages }: BatchableQuantizer): CallChecks {
  return {
    codes: (value) => checkCodes("codes", value, stages),
    content: (vectors, firstRow) => {
      const bad = firstBadInput(vectors, dim, metric === "cosine");
      if (bad !== null) throw badInput("vectors", bad, firstRow, vectors[bad.row * dim + bad.column]);
    },
  };
}
