// What rvq tells of its work to whoever subscribes: channels of node:diagnostics_channel, and performance entries made from them.
//
// Without a subscriber a call costs a look at five flags. Names and payloads are part of the API: docs/services.md lists them.

import { channel, type TracingChannel, tracingChannel } from "node:diagnostics_channel";
import type { BackendName } from "./backend.js";

/** Of every call; a call's events all carry the same object. Node adds `result` or `error` to it. */
export interface CallEvent {
  readonly backend: BackendName;
  /** Whether it runs on the calling thread from start to end: then it has no asyncStart and asyncEnd. */
  readonly sync: boolean;
  readonly dim: number;
  /** Vectors of the call; null where they come in batches. */
  readonly vectors: number | null;
  readonly stages: number;
}

/** `rvq:encode` and `rvq:decode`. */
export interface CodingEvent extends CallEvent {
  /** The quantizer's id. */
  readonly modelId: string;
  /** 1 where it plays no part. */
  readonly beam: number;
}

/** `rvq:train`. */
export interface TrainEvent extends CallEvent {
  /** Of ResidualQuantizer: `train`, `trainFromBatches` or `refine`; of CodebookTrainer: `step`. */
  readonly method: "train" | "trainFromBatches" | "refine" | "step";
}

/** `rvq:fallback`: a quantizer or trainer was made with backend "auto", and the first choice cannot run. */
export interface FallbackEvent {
  readonly selected: BackendName;
  /** The backends before it in the list, and why each cannot run. */
  readonly skipped: readonly { readonly name: BackendName; readonly reason: string }[];
}

type Calls<Event extends CallEvent> = TracingChannel<unknown, Event>;

export const encodeCalls: Calls<CodingEvent> = tracingChannel("rvq:encode");
export const decodeCalls: Calls<CodingEvent> = tracingChannel("rvq:decode");
export const trainCalls: Calls<TrainEvent> = tracingChannel("rvq:train");
/** Publishes what `onProgress` of a training is told. */
const progressChannel = channel("rvq:train:progress");
const fallbackChannel = channel("rvq:fallback");

/** Runs `work`, and tells of it where somebody listens. */
export function traced<Event extends CallEvent, Result>(
  calls: Calls<Event>,
  describe: () => Event,
  work: () => Promise<Result>,
): Promise<Result> {
  return isWatched(calls) ? calls.tracePromise(work, describe()) : work();
}

export function tracedSync<Event extends CallEvent, Result>(
  calls: Calls<Event>,
  describe: () => Event,
  work: () => Result,
): Result {
  return isWatched(calls) ? calls.traceSync(work, describe()) : work();
}

/** A progress callback that also tells the channel. */
export function publishingProgress<Progress>(
  onProgress: ((progress: Progress) => void) | undefined,
): (progress: Progress) => void {
  return (progress) => {
    onProgress?.(progress);
    if (progressChannel.hasSubscribers) progressChannel.publish(progress);
  };
}

/** Calls of `untold` that have not returned. */
let untoldCalls = 0;

/** Starts a call that is a part of one that is told of, and is not told of itself: that is decided before it waits for anything. */
export function untold<Result>(start: () => Result): Result {
  untoldCalls++;
  try {
    return start();
  } finally {
    untoldCalls--;
  }
}

export function publishFallback(event: FallbackEvent): void {
  if (fallbackChannel.hasSubscribers) fallbackChannel.publish(event);
}

/**
 * Makes performance entries of rvq's work until the function that it returns is called: a measure `rvq.encode`, `rvq.decode` or
 * `rvq.train` of every call, and a mark `rvq.fallback`, with the channel's payload as `detail`. They are for a PerformanceObserver:
 * entries do not stay in the timeline, where a service's would take ever more memory.
 */
export function recordPerformance(): () => void {
  const recorded = [
    measured("rvq.encode", encodeCalls),
    measured("rvq.decode", decodeCalls),
    measured("rvq.train", trainCalls),
  ];
  const markFallback = (event: unknown) => {
    performance.mark("rvq.fallback", { detail: event });
    performance.clearMarks("rvq.fallback");
  };
  fallbackChannel.subscribe(markFallback);
  return () => {
    for (const stop of recorded) stop();
    fallbackChannel.unsubscribe(markFallback);
  };
}

function measured<Event extends CallEvent>(name: string, calls: Calls<Event>): () => void {
  const startedMs = new WeakMap<object, number>();
  const start = (event: unknown) => {
    startedMs.set(event as Event, performance.now());
  };
  const measure = (event: Event) => {
    const from = startedMs.get(event);
    // Calls that were under way before.
    if (from === undefined) return;
    performance.measure(name, { start: from, end: performance.now(), detail: withoutResult(event) });
    performance.clearMeasures(name);
  };
  const end = (event: unknown) => {
    if ((event as Event).sync) measure(event as Event);
  };
  const asyncEnd = (event: unknown) => measure(event as Event);
  calls.start.subscribe(start);
  calls.end.subscribe(end);
  calls.asyncEnd.subscribe(asyncEnd);
  return () => {
    calls.start.unsubscribe(start);
    calls.end.unsubscribe(end);
    calls.asyncEnd.unsubscribe(asyncEnd);
  };
}

/** The entry is cloned, and the result may be large. */
function withoutResult(event: object): object {
  const { result, error, ...detail } = event as { result?: unknown; error?: unknown };
  return { ...detail, failed: error !== undefined };
}

/** TracingChannel has had this only since Node 20.13. */
function isWatched<Event extends CallEvent>({ start, end, asyncStart, asyncEnd, error }: Calls<Event>): boolean {
  const watched =
    start.hasSubscribers ||
    end.hasSubscribers ||
    asyncStart.hasSubscribers ||
    asyncEnd.hasSubscribers ||
    error.hasSubscribers;
  return watched && untoldCalls === 0;
}
