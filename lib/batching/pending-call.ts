// A call between its start and its end, which comes once: with its result, with an error, or by its signal.

import type { QueuedCall } from "./call-queue.js";

export type Outcome = "completed" | "failed" | "aborted";

export class PendingCall<Input extends { readonly rows: number }, Output> implements QueuedCall {
  readonly rows: number;
  readonly startedMs = performance.now();
  readonly promise: Promise<Output>;
  taken = 0;
  /** Rows of the output that are there. */
  done = 0;
  output: Output | null = null;
  settled = false;

  private resolve!: (output: Output) => void;
  private reject!: (reason: unknown) => void;
  private readonly onAbort: (() => void) | undefined;

  /** @param settle is told once how the call ended, before its promise is */
  constructor(
    readonly input: Input,
    private readonly signal: AbortSignal | undefined,
    private readonly settle: (call: PendingCall<Input, Output>, outcome: Outcome) => void,
  ) {
    this.rows = input.rows;
    this.promise = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    if (signal === undefined) return;
    this.onAbort = () => {
      if (this.end("aborted")) this.reject(signal.reason);
    };
    signal.addEventListener("abort", this.onAbort);
  }

  complete(output: Output): void {
    if (this.end("completed")) this.resolve(output);
  }

  fail(reason: unknown): void {
    if (this.end("failed")) this.reject(reason);
  }

  private end(outcome: Outcome): boolean {
    if (this.settled) return false;
    this.settled = true;
    if (this.onAbort !== undefined) this.signal?.removeEventListener("abort", this.onAbort);
    this.settle(this, outcome);
    return true;
  }
}
