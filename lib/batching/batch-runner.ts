// Makes few large batches of many small calls: collects, computes, gives every call its rows back, and counts.

import { RvqError } from "../errors.js";
import { nextSlice } from "../time-slice.js";
import { CallQueue } from "./call-queue.js";
import { type Histogram, HistogramCounts, latencyBoundsMs, sizeBounds } from "./histogram.js";
import { type Outcome, PendingCall } from "./pending-call.js";

/** What happens to the rows of calls with inputs of one kind. */
export interface BatchOperation<Input, Batch, Result, Output> {
  /** Room for a batch of `maxBatch` rows, empty. @throws RvqError OUT_OF_MEMORY */
  open(): Batch;
  /**
   * Copies rows first … first + rows of an input to rows at … of the batch.
   * @throws what is wrong with this input, which other calls need not know; the rows then count as not written
   */
  put(batch: Batch, at: number, input: Input, first: number, rows: number): void;
  /** Computes the batch's first rows and leaves it empty, to be used again. */
  compute(batch: Batch, rows: number): Promise<Result>;
  /** The call's output with rows first … first + rows of it from rows at … of the result; `output` is null for the first ones. */
  take(result: Result, at: number, input: Input, output: Output | null, first: number, rows: number): Output;
}

export interface BatchLimits {
  /** Rows of a batch at most. */
  readonly maxBatch: number;
  /** How long a call waits for others to share its batch. */
  readonly maxDelayMs: number;
  /** Rows in the queue at most, of long calls only those of their next turn. */
  readonly maxQueue: number;
  /** What happens to a call that does not fit into the queue. */
  readonly whenFull: "wait" | "reject";
}

/** What a batcher has done and is doing, in plain numbers; the counters only grow. */
export interface BatchMetrics {
  /** Calls and vectors in the queue, which no batch has taken yet. */
  readonly queuedCalls: number;
  readonly queuedVectors: number;
  /** Calls that wait for room in the queue. */
  readonly waitingCalls: number;
  readonly batchesInFlight: number;
  /** Calls that were accepted; each ends in one of the next three. */
  readonly calls: number;
  readonly completed: number;
  readonly failed: number;
  readonly aborted: number;
  /** Calls refused with QUEUE_FULL. */
  readonly refused: number;
  /** Vectors that were computed, in so many batches. */
  readonly vectors: number;
  readonly batches: number;
  /** Vectors of each batch. */
  readonly batchSize: Histogram;
  /** From the call to its result, for calls that were completed, in ms. */
  readonly latencyMs: Histogram;
}

/** Rows of one call in a batch. */
interface Piece<Input extends { readonly rows: number }, Output> {
  readonly call: PendingCall<Input, Output>;
  readonly at: number;
  readonly first: number;
  readonly rows: number;
}

/** While one is computed the next one collects calls: two at once would be two smaller ones. */
const mostBatchesInFlight = 1;
/** An HTTP service sends so many answers in two or three milliseconds. */
const callsPerTurn = 32;
/** A long call may fill this part of a batch while others wait. */
const turnsPerBatch = 4;

export class BatchRunner<Input extends { readonly rows: number }, Batch, Result, Output> {
  private readonly queue: CallQueue<PendingCall<Input, Output>>;
  private readonly spareBatches: Batch[] = [];
  private batchesInFlight = 0;
  private timer: NodeJS.Timeout | undefined;
  private immediate: NodeJS.Immediate | undefined;
  private readonly pending = new Set<PendingCall<Input, Output>>();
  private drains = 0;

  private readonly counters = { calls: 0, completed: 0, failed: 0, aborted: 0, refused: 0, vectors: 0, batches: 0 };
  private readonly batchSize: HistogramCounts;
  private readonly latencyMs = new HistogramCounts(latencyBoundsMs);

  constructor(
    private readonly operation: BatchOperation<Input, Batch, Result, Output>,
    private readonly limits: BatchLimits,
  ) {
    this.queue = new CallQueue(limits.maxQueue, Math.ceil(limits.maxBatch / turnsPerBatch));
    this.batchSize = new HistogramCounts(sizeBounds(limits.maxBatch));
  }

  /**
   * The output of an input of one row and more. The input is left alone until then.
   * @throws RvqError QUEUE_FULL, OUT_OF_MEMORY; the promise with what `put` and `compute` throw, or the signal's reason when aborted
   */
  submit(input: Input, signal: AbortSignal | undefined): Promise<Output> {
    if (this.limits.whenFull === "reject" && !this.queue.hasRoom(input.rows)) {
      this.counters.refused++;
      const free = Math.max(0, this.limits.maxQueue - this.queue.turns);
      const remedy = 'call again later, or have calls wait by whenFull: "wait"';
      const message = `batcher: expected at most ${free} more vectors in the queue, got ${input.rows} (${remedy})`;
      throw new RvqError("QUEUE_FULL", message);
    }
    if (this.spareBatches.length === 0 && this.batchesInFlight < mostBatchesInFlight) {
      this.spareBatches.push(this.operation.open());
    }
    const call = new PendingCall(input, signal, this.onSettled);
    this.counters.calls++;
    this.pending.add(call);
    this.queue.add(call);
    this.schedule();
    return call.promise;
  }

  metrics(): BatchMetrics {
    return {
      queuedCalls: this.queue.calls,
      queuedVectors: this.queue.rows,
      waitingCalls: this.queue.waiting,
      batchesInFlight: this.batchesInFlight,
      ...this.counters,
      batchSize: this.batchSize.snapshot(),
      latencyMs: this.latencyMs.snapshot(),
    };
  }

  /** Resolves when every call so far has settled; until then none waits for others to come. */
  async drain(): Promise<void> {
    this.drains++;
    this.wake();
    await Promise.allSettled(Array.from(this.pending, ({ promise }) => promise));
    this.drains--;
  }

  /** Sees to it that a batch starts as soon as it is full or its first call has waited long enough. */
  private schedule(): void {
    while (this.mayStart() && this.queue.rows >= this.limits.maxBatch) this.startBatch();
    if (!this.mayStart() || this.immediate !== undefined || this.timer !== undefined) return;
    const waitMs = this.firstWaitsMs();
    if (waitMs > 0) this.timer = setTimeout(() => this.wake(), waitMs);
    // Even without a delay: what other callbacks of this turn of the event loop ask for goes with it.
    else this.immediate = setImmediate(() => this.wake());
  }

  private mayStart(): boolean {
    return this.spareBatches.length > 0 && this.queue.rows > 0;
  }

  /** How long the call whose turn is next goes on waiting for others. */
  private firstWaitsMs(): number {
    if (this.drains > 0 || this.queue.first === undefined) return 0;
    return this.queue.first.startedMs + this.limits.maxDelayMs - performance.now();
  }

  private wake(): void {
    clearTimeout(this.timer);
    clearImmediate(this.immediate);
    this.timer = undefined;
    this.immediate = undefined;
    // The first one may be another by now; and timers are no more exact than this.
    if (this.mayStart() && this.firstWaitsMs() < 1) this.startBatch();
    this.schedule();
  }

  private startBatch(): void {
    const batch = this.spareBatches.pop() as Batch;
    const pieces: Piece<Input, Output>[] = [];
    let at = 0;
    this.queue.takeTurns(this.limits.maxBatch, (call, first, rows) => {
      try {
        this.operation.put(batch, at, call.input, first, rows);
      } catch (error) {
        call.fail(error);
        return 0;
      }
      pieces.push({ call, at, first, rows });
      at += rows;
      return rows;
    });
    if (at === 0) this.spareBatches.push(batch);
    else void this.runBatch(batch, pieces, at);
  }

  private async runBatch(batch: Batch, pieces: readonly Piece<Input, Output>[], rows: number): Promise<void> {
    this.batchesInFlight++;
    this.counters.batches++;
    this.counters.vectors += rows;
    this.batchSize.add(rows);
    let result: Result;
    try {
      result = await this.operation.compute(batch, rows);
    } catch (error) {
      for (const { call } of pieces) call.fail(error);
      return;
    } finally {
      this.release(batch);
    }
    await this.handOut(result, pieces);
  }

  /** The next batch is under way before the results of this one are looked at. */
  private release(batch: Batch): void {
    this.batchesInFlight--;
    this.spareBatches.push(batch);
    this.wake();
  }

  /** What callers do with their results is work too: it should not all come in one turn of the event loop. */
  private async handOut(result: Result, pieces: readonly Piece<Input, Output>[]): Promise<void> {
    for (const [i, piece] of pieces.entries()) {
      if (i > 0 && i % callsPerTurn === 0) await nextSlice();
      this.deliver(result, piece);
    }
  }

  private deliver(result: Result, { call, at, first, rows }: Piece<Input, Output>): void {
    if (call.settled) return;
    try {
      const output = this.operation.take(result, at, call.input, call.output, first, rows);
      call.output = output;
      call.done += rows;
      if (call.done < call.rows) return;
      this.latencyMs.add(performance.now() - call.startedMs);
      call.complete(output);
    } catch (error) {
      // No memory for the output of this call says nothing about the others.
      call.fail(error);
    }
  }

  private readonly onSettled = (call: PendingCall<Input, Output>, outcome: Outcome): void => {
    this.counters[outcome]++;
    // A completed call has left the queue long ago.
    if (outcome !== "completed") this.queue.remove(call);
    this.pending.delete(call);
  };
}
