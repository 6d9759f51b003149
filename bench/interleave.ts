// Times contenders in turns by tinybench, so that a machine whose speed drifts slows all of them alike.

import { Bench } from "tinybench";

export interface Contender {
  readonly name: string;
  readonly run: () => unknown;
  /** Called before every turn, untimed. */
  readonly ready?: () => void;
}

export interface Timing {
  /** Median over the rounds of each round's median, in ms. */
  readonly ms: number;
  /** Likewise of each round's 99th percentile. */
  readonly p99: number;
  /** (slowest − fastest round) / ms, in percent. */
  readonly spread: number;
}

export interface TurnOptions {
  /** Time that each contender gets in all; a call that takes longer than its share of a round still runs once in each. */
  readonly seconds: number;
  /** Default 5. */
  readonly rounds?: number;
  /** Called before every round, for something measured beside the contenders. */
  readonly beforeRound?: () => void;
  /** Wait before every turn until the threads of the one before have stopped spinning. */
  readonly settle?: boolean;
}

/** The timings of contenders, whose names differ, in their order. One untimed call of each comes first. */
export async function timeInTurns(contenders: readonly Contender[], options: TurnOptions): Promise<Timing[]> {
  const { seconds, rounds = 5, beforeRound, settle = false } = options;
  const medians = contenders.map((): number[] => []);
  const tails = contenders.map((): number[] => []);
  for (let round = 0; round < rounds; round++) {
    beforeRound?.();
    // tinybench would warm up for 16 calls: one is enough once the code is compiled, and some calls take a second.
    const warm = { warmup: round === 0, warmupIterations: 1, warmupTime: 0 };
    const setup = settle ? idle : () => {};
    const bench = new Bench({ time: (1000 * seconds) / rounds, iterations: 1, throws: true, setup, ...warm });
    for (const { name, run, ready } of contenders) bench.add(name, () => run(), { beforeAll: () => ready?.() });
    await bench.run();
    for (const [i, { name, result }] of bench.tasks.entries()) {
      if (result.state !== "completed") throw new Error(`${name} did not complete`);
      medians[i].push(result.latency.p50);
      tails[i].push(result.latency.p99);
    }
  }
  return contenders.map((_, i) => {
    const ms = median(medians[i]);
    const spread = (100 * (Math.max(...medians[i]) - Math.min(...medians[i]))) / ms;
    return { ms, p99: median(tails[i]), spread };
  });
}

/** Median ms of a few runs, after one that does not count. */
export async function medianMs(run: () => Promise<unknown>, runs = 5): Promise<number> {
  const times: number[] = [];
  for (let turn = -1; turn < runs; turn++) {
    const start = performance.now();
    await run();
    if (turn >= 0) times.push(performance.now() - start);
  }
  return median(times);
}

export function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1];
}

/** Resolves once this process uses less than a tenth of a processor, or after two seconds. */
async function idle(): Promise<void> {
  const [period, longest] = [20, 2000];
  for (let waited = 0; waited < longest; waited += period) {
    const before = process.cpuUsage();
    await new Promise((resolve) => setTimeout(resolve, period));
    const { user, system } = process.cpuUsage(before);
    if ((user + system) / 1000 < period / 10) return;
  }
}
