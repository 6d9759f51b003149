// What the connections of BullMQ have in common: options, patience, farewells, errors as strings.

import { checkInteger, checkRequiredOptions } from "../check.js";
import { invalidArgument, RvqError, type RvqErrorCode } from "../errors.js";

export interface QueueOptions {
  /** A URL such as "redis://host:6379", or options of ioredis. Default "redis://127.0.0.1:6379". */
  readonly redis?: string | Readonly<Record<string, unknown>>;
  /** Name of the queue. Default "rvq". */
  readonly queue?: string;
  /** How long Redis may be out of reach before a call fails, in ms. Default 30,000. */
  readonly patienceMs?: number;
}

/** What BullMQ's classes are made with. */
export interface QueueConnection {
  readonly queue: string;
  readonly patienceMs: number;
  readonly connection: Readonly<Record<string, unknown>>;
}

/** A second between attempts to reconnect is soon enough. */
const mostRetryMs = 1000;

/** @throws RvqError INVALID_ARGUMENT */
export function checkQueueOptions(options: QueueOptions): QueueConnection {
  checkRequiredOptions("options", options);
  const { redis = "redis://127.0.0.1:6379", queue = "rvq", patienceMs = 30_000 } = options;
  if (typeof redis !== "string") checkRequiredOptions("redis", redis);
  if (typeof queue !== "string" || !/^[\w.-]{1,100}$/.test(queue)) {
    throw invalidArgument("queue", "a name of letters, digits, dots and dashes", queue);
  }
  return {
    queue,
    patienceMs: checkInteger("patienceMs", patienceMs, 1, 2 ** 31 - 1),
    connection: {
      retryStrategy: (times: number) => Math.min(50 * 2 ** Math.min(times, 10), mostRetryMs),
      ...(typeof redis === "string" ? { url: redis } : redis),
      // Commands wait for Redis as long as patience lasts, which `within` measures.
      maxRetriesPerRequest: null,
    },
  };
}

/** What a promise gives, or an error where that takes longer than patience lasts. */
export async function within<Result>(
  { patienceMs }: Pick<QueueConnection, "patienceMs">,
  what: Promise<Result>,
): Promise<Result> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_, reject) => {
    const message = `Redis: expected an answer within ${patienceMs} ms, got none (is it running?); finished outputs stay`;
    timer = setTimeout(() => reject(new RvqError("CLUSTER", message)), patienceMs);
  });
  what.catch(() => {});
  try {
    return await Promise.race([what, timeout]);
  } catch (cause) {
    if (cause instanceof RvqError) throw cause;
    throw new RvqError("CLUSTER", `Redis: ${(cause as Error).message}`, { cause });
  } finally {
    clearTimeout(timer);
  }
}

/** How long Redis has to answer when connections are closed: one that is out of reach would never end. */
export const farewellMs = 2000;

/** A Queue, QueueEvents or Worker. */
interface Closable {
  close(force?: boolean): Promise<void>;
  getBackend(): {
    readonly connection: { readonly client: Promise<{ info(): Promise<string> }> };
    close(force: boolean): Promise<void>;
  };
}

/** Closes them, by force where Redis does not answer the first of them, which is no QueueEvents: those wait for events. */
export async function closeGently(...closables: readonly [Closable, ...Closable[]]): Promise<void> {
  const patience = { patienceMs: farewellMs };
  const answers = async () => (await closables[0].getBackend().connection.client).info();
  try {
    await within(patience, answers());
    await within(patience, Promise.all(closables.map((closable) => closable.close())));
  } catch {
    await Promise.all(closables.map(breakOff));
  }
}

/** Ends its connections as they are, also those that are still being made. */
export async function breakOff(closable: Closable): Promise<void> {
  const patience = { patienceMs: farewellMs };
  const broken = closable.getBackend().close(true);
  // Its loops end too, now that their connections have.
  await within(patience, Promise.all([broken, closable.close(true)])).catch(() => {});
}

const jobErrors: readonly RvqErrorCode[] = [
  "INVALID_ARGUMENT",
  "NOT_FINITE",
  "ZERO_VECTOR",
  "INVALID_MODEL",
  "INVALID_STATISTICS",
  "BACKEND_UNAVAILABLE",
  "OUT_OF_MEMORY",
  "IO",
];
/** Those that another attempt, perhaps on another machine, may not meet again. */
const passing: readonly RvqErrorCode[] = ["BACKEND_UNAVAILABLE", "OUT_OF_MEMORY", "IO"];

/** An error of a job as the one line that the queue keeps, and whether another attempt may do better. */
export function failureOf(error: unknown): { reason: string; mayPass: boolean } {
  if (!(error instanceof RvqError)) return { reason: `CLUSTER: ${(error as Error).message}`, mayPass: true };
  return { reason: `${error.code}: ${error.message}`, mayPass: passing.includes(error.code) };
}

/** The error for a job that failed for the reason that the queue has kept. */
export function errorOf(output: string, reason: unknown): RvqError {
  const text = typeof reason === "string" ? reason : "no reason is known";
  const code = jobErrors.find((known) => text.startsWith(`${known}: `));
  const said = code === undefined ? text.replace(/^CLUSTER: /, "") : text.slice(code.length + 2);
  return new RvqError(code ?? "CLUSTER", `job for ${output}: ${said}`);
}
