// Batcher: what direct calls give, in few batches; whose turn it is; what fails, for whom; and what is counted.

import { describe, expect, it } from "vitest";
import { CallQueue } from "../lib/batching/call-queue.js";
import { type BatcherOptions, type Codes, GroupedQuantizer, ResidualQuantizer } from "../lib/index.js";
import { Random } from "../lib/random.js";
import { candidates, withForm } from "./contract/backends.js";

const dim = 5;
const random = new Random(1);
const codebooks = [7, 3, 12].map((size) => Float32Array.from({ length: size * dim }, () => random.fraction() - 0.5));
const rq = ResidualQuantizer.fromCodebooks(codebooks, { dim });
/** Dimensions 0 and 1, and 2, 3 and 4. */
const groups = [2, 3];
const grouped = groups.map((width) =>
  [7, 3, 12].map((size) => Float32Array.from({ length: size * width }, () => random.fraction() - 0.5)),
);
const gq = GroupedQuantizer.fromCodebooks(grouped, { dim, groups });

function vectorsOf(count: number, seed: number): Float32Array {
  const draw = new Random(seed);
  return Float32Array.from({ length: count * dim }, () => draw.fraction() - 0.5);
}

describe.each(candidates)("a batcher on $title", ({ name: backend, available, form }) => {
  if (!available) return it.skip("gives what direct calls give");
  const plain = withForm(form, () => ResidualQuantizer.fromCodebooks(codebooks, { dim, backend }));
  const product = withForm(form, () => GroupedQuantizer.fromCodebooks(grouped, { dim, groups, backend }));
  const quantizers = { plain, product };

  it.each(["plain", "product"] as const)(
    "gives what direct calls give, for any sizes, stages and limits (%s)",
    async (kind) => {
      const quantizer = quantizers[kind];
      const limits: (BatcherOptions & { seed: number })[] = [
        { seed: 1, maxBatch: 1 },
        { seed: 2, maxBatch: 7, maxDelayMs: 1 },
        { seed: 3, maxBatch: 64, maxQueue: 10 },
        { seed: 4, maxBatch: 4096, stages: 2 },
      ];
      for (const { seed, ...options } of limits) {
        const batcher = quantizer.batcher(options);
        const draw = new Random(seed);
        const calls = Array.from({ length: 60 }, async (_, i) => {
          const vectors = vectorsOf(draw.below(i % 10 === 0 ? 200 : 4), 100 + i);
          const stages = 1 + draw.below(options.stages ?? 3);
          const codes = await batcher.encode(vectors, { stages });
          expect(codes, `seed ${seed}, call ${i}`).toEqual(quantizer.encodeSync(vectors, { stages }));
          const prefix = 1 + draw.below(stages);
          const decoded = await batcher.decode(codes, { stages: prefix });
          expect(decoded, `seed ${seed}, call ${i}`).toEqual(quantizer.decodeSync(codes, { stages: prefix }));
        });
        await Promise.all(calls);
        await batcher.close();
      }
    },
  );

  it.each(["plain", "product"] as const)("searches with a beam where that is asked for (%s)", async (kind) => {
    const quantizer = quantizers[kind];
    const batcher = quantizer.batcher({ beam: 4, stages: 2 });
    const vectors = vectorsOf(50, 5);
    const singles = Array.from({ length: 50 }, (_, n) => batcher.encode(vectors.subarray(n * dim, (n + 1) * dim)));
    const codes = (await Promise.all(singles)).flatMap(({ data }) => [...data]);
    expect(codes).toEqual([...quantizer.encodeSync(vectors, { beam: 4, stages: 2 }).data]);
    await expect(batcher.encode(vectors, { stages: 1 })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });
});

describe("batches", () => {
  it("hold the calls of one turn of the event loop, and are counted", async () => {
    const batcher = rq.batcher({ maxBatch: 100 });
    await Promise.all(Array.from({ length: 30 }, (_, i) => batcher.encode(vectorsOf(2, i))));
    const { encode, decode } = batcher.metrics();
    expect(encode).toMatchObject({
      queuedCalls: 0,
      queuedVectors: 0,
      waitingCalls: 0,
      batchesInFlight: 0,
      calls: 30,
      completed: 30,
      failed: 0,
      aborted: 0,
      refused: 0,
      vectors: 60,
      batches: 1,
    });
    expect(encode.batchSize).toEqual({
      bounds: [1, 2, 4, 8, 16, 32, 64, 100],
      counts: [0, 0, 0, 0, 0, 0, 1, 0, 0],
      count: 1,
      sum: 60,
    });
    expect(encode.latencyMs.count).toBe(30);
    expect(encode.latencyMs.counts.reduce((sum, count) => sum + count)).toBe(30);
    expect(encode.latencyMs.sum).toBeGreaterThan(0);
    expect(decode.calls).toBe(0);
  });

  it("start at once when they are full, and else when the first call has waited long enough", async () => {
    const batcher = rq.batcher({ maxBatch: 4, maxDelayMs: 200 });
    let start = performance.now();
    await Promise.all([1, 2, 3, 4].map((seed) => batcher.encode(vectorsOf(1, seed))));
    expect(performance.now() - start).toBeLessThan(150);
    start = performance.now();
    await batcher.encode(vectorsOf(1, 5));
    expect(performance.now() - start).toBeGreaterThan(190);
    expect(batcher.metrics().encode.batches).toBe(2);
  });

  it("start without delay when the batcher drains or closes, after which calls are refused", async () => {
    const batcher = rq.batcher({ maxDelayMs: 1e6 });
    const call = batcher.encode(vectorsOf(1, 1));
    await batcher.drain();
    const last = batcher.encode(vectorsOf(2, 2));
    await batcher.close();
    expect([(await call).count, (await last).count]).toEqual([1, 2]);
    await expect(batcher.encode(vectorsOf(1, 3))).rejects.toMatchObject({ code: "DISPOSED" });
    await expect(batcher.decode(rq.encodeSync(vectorsOf(1, 3)))).rejects.toMatchObject({ code: "DISPOSED" });
    expect((await rq.encode(vectorsOf(1, 3))).count).toBe(1);
  });
});

describe("the event loop", () => {
  it("has turns between the results of one batch, which callers work with", async () => {
    const batcher = rq.batcher({ maxBatch: 200 });
    let turns = 0;
    let counting = true;
    const count = () => {
      turns++;
      if (counting) setImmediate(count);
    };
    setImmediate(count);
    const seen = await Promise.all(
      Array.from({ length: 200 }, (_, i) => batcher.encode(vectorsOf(1, i)).then(() => turns)),
    );
    counting = false;
    expect(batcher.metrics().encode.batches).toBe(1);
    // 200 results, 32 a turn.
    expect(new Set(seen).size).toBe(7);
  });

  it("does not keep drain() waiting for what comes after it", async () => {
    const batcher = rq.batcher({ maxBatch: 2 });
    let stopped = false;
    const callers = Array.from({ length: 5 }, async (_, i) => {
      while (!stopped) await batcher.encode(vectorsOf(1, i));
    });
    await batcher.drain();
    expect(batcher.metrics().encode.completed).toBeGreaterThanOrEqual(5);
    stopped = true;
    await Promise.all(callers);
  });
});

describe("the queue", () => {
  /** The turns of a batch of `room` rows: [call, first, rows]. */
  function turns(queue: CallQueue<{ name: string; rows: number; taken: number }>, room: number) {
    const taken: [string, number, number][] = [];
    queue.takeTurns(room, (call, first, rows) => {
      taken.push([call.name, first, rows]);
      return rows;
    });
    return taken;
  }
  const call = (name: string, rows: number) => ({ name, rows, taken: 0 });

  it("serves in the order of arrival, and a long call in turns", () => {
    const queue = new CallQueue<ReturnType<typeof call>>(1000, 4);
    for (const one of [call("long", 20), call("a", 1), call("b", 3)]) queue.add(one);
    expect(turns(queue, 10)).toEqual([
      ["long", 0, 4],
      ["a", 0, 1],
      ["b", 0, 3],
      ["long", 4, 2],
    ]);
    // What came later waits for no more than one turn of the long one, of which two rows are left of the last.
    queue.add(call("c", 4));
    expect(turns(queue, 8)).toEqual([
      ["long", 6, 4],
      ["c", 0, 4],
    ]);
    expect(turns(queue, 100).reduce((sum, [, , rows]) => sum + rows, 0)).toBe(10);
    expect([queue.rows, queue.calls]).toEqual([0, 0]);
  });

  it("lets calls of the line in one after the other, and forgets those that are removed", () => {
    const queue = new CallQueue<ReturnType<typeof call>>(10, 100);
    const [a, b, c, d] = [call("a", 8), call("b", 5), call("c", 2), call("d", 1)];
    for (const one of [a, b, c, d]) queue.add(one);
    // c and d would fit, but b was there before them.
    expect([queue.calls, queue.rows, queue.waiting]).toEqual([1, 8, 3]);
    expect(queue.hasRoom(1)).toBe(false);
    queue.remove(b);
    expect([queue.calls, queue.rows, queue.waiting]).toEqual([2, 10, 1]);
    queue.remove(a);
    expect([queue.calls, queue.rows, queue.waiting]).toEqual([2, 3, 0]);
    expect(turns(queue, 100).map(([name]) => name)).toEqual(["c", "d"]);
  });

  it("counts a long call as its next turn, and takes any call when it is empty", () => {
    const queue = new CallQueue<ReturnType<typeof call>>(10, 4);
    queue.add(call("long", 50));
    expect([queue.rows, queue.turns]).toEqual([50, 4]);
    expect([queue.hasRoom(100), queue.hasRoom(6)]).toEqual([true, true]);
    queue.add(call("longer", 100));
    expect([queue.hasRoom(3), queue.hasRoom(2)]).toEqual([false, true]);
    turns(queue, 149);
    expect([queue.rows, queue.turns, queue.calls]).toEqual([1, 1, 1]);

    const narrow = new CallQueue<ReturnType<typeof call>>(2, 4);
    narrow.add(call("long", 50));
    expect([narrow.rows, narrow.hasRoom(1)]).toEqual([50, false]);
  });

  it("refuses calls with QUEUE_FULL, or has them wait, as asked", async () => {
    const refusing = rq.batcher({ maxBatch: 4, maxQueue: 8, whenFull: "reject" });
    const outcomes = await Promise.allSettled(Array.from({ length: 40 }, (_, i) => refusing.encode(vectorsOf(1, i))));
    const refused = outcomes.filter(({ status }) => status === "rejected");
    // A batch of four is under way, eight vectors wait.
    expect(refused).toHaveLength(28);
    for (const outcome of refused) {
      expect(outcome).toMatchObject({
        reason: { code: "QUEUE_FULL", message: expect.stringMatching(/^batcher: expected/) },
      });
    }
    expect(refusing.metrics().encode).toMatchObject({ calls: 12, completed: 12, refused: 28 });

    const patient = rq.batcher({ maxBatch: 4, maxQueue: 8, whenFull: "wait" });
    const calls = Array.from({ length: 40 }, (_, i) => patient.encode(vectorsOf(1, i)));
    expect(patient.metrics().encode).toMatchObject({ queuedVectors: 8, waitingCalls: 28 });
    expect((await Promise.all(calls)).length).toBe(40);
  });

  it("lets small calls through beside a large one", async () => {
    const batcher = rq.batcher({ maxBatch: 16 });
    const order: string[] = [];
    const large = batcher.encode(vectorsOf(50_000, 1)).then(() => order.push("large"));
    for (let i = 0; i < 20; i++) await batcher.encode(vectorsOf(1, i)).then(() => order.push("small"));
    await large;
    expect(order).toEqual([...new Array(20).fill("small"), "large"]);
  });
});

describe("what is wrong with one call", () => {
  it("is told to that call, by rows of its own input, and to no other", async () => {
    const batcher = rq.batcher({ maxBatch: 8 });
    const good = Array.from({ length: 10 }, (_, i) => batcher.encode(vectorsOf(2, i)));
    const bad = vectorsOf(30, 50);
    bad[23 * dim + 4] = Number.NaN;
    const failing = batcher.encode(bad);
    const more = Array.from({ length: 10 }, (_, i) => batcher.encode(vectorsOf(2, 20 + i)));
    await expect(failing).rejects.toMatchObject({
      code: "NOT_FINITE",
      message: "vectors: expected finite numbers, got NaN in row 23, column 4",
    });
    const all = await Promise.all([...good, ...more]);
    expect(all[0]).toEqual(rq.encodeSync(vectorsOf(2, 0)));
    expect(all[19]).toEqual(rq.encodeSync(vectorsOf(2, 29)));
    expect(batcher.metrics().encode).toMatchObject({ completed: 20, failed: 1, queuedVectors: 0 });
  });

  it("may be a zero vector with the cosine metric, or a code out of range", async () => {
    const cosine = ResidualQuantizer.fromCodebooks(codebooks, { dim, metric: "cosine" }).batcher();
    const zeros = vectorsOf(3, 1).fill(0, dim, 2 * dim);
    const [good, bad] = await Promise.allSettled([cosine.encode(vectorsOf(1, 2)), cosine.encode(zeros)]);
    expect(good.status).toBe("fulfilled");
    expect(bad).toMatchObject({ reason: { code: "ZERO_VECTOR", message: expect.stringContaining("row 1") } });

    const batcher = rq.batcher();
    const codes: Codes = { count: 2, stages: 2, data: Uint16Array.of(0, 0, 1, 3) };
    const outcomes = await Promise.allSettled([batcher.decode(rq.encodeSync(vectorsOf(1, 2))), batcher.decode(codes)]);
    expect(outcomes.map(({ status }) => status)).toEqual(["fulfilled", "rejected"]);
    await expect(rq.decode(codes)).rejects.toMatchObject((outcomes[1] as PromiseRejectedResult).reason);
  });

  it("is what a product form refuses too, in the same words", async () => {
    const batcher = gq.batcher({ stages: 2 });
    const spoiled = vectorsOf(3, 1);
    spoiled[dim + 4] = Number.POSITIVE_INFINITY;
    const cosine = GroupedQuantizer.fromCodebooks(grouped, { dim, groups, metric: "cosine" });
    // A group without a direction, in a vector that has one.
    const directionless = vectorsOf(3, 1).fill(0, 2 * dim, 2 * dim + 2);
    const codes = (stages: number, ...data: number[]) => ({
      count: data.length / stages,
      stages,
      data: Uint16Array.from(data),
    });
    const wrong: [(encodesAndDecodes: Pick<GroupedQuantizer, "encode" | "decode">) => Promise<unknown>, typeof gq][] = [
      [(one) => one.encode(spoiled), gq],
      [(one) => one.encode(directionless), cosine],
      [(one) => one.encode(vectorsOf(1, 1).subarray(1)), gq],
      [(one) => one.decode(codes(2, 0, 0, 6, 7)), gq],
      [(one) => one.decode(codes(3, 0, 0, 0)), gq],
      [(one) => one.decode(codes(4, 0, 0, 0, 0), { stages: 3 }), gq],
    ];
    for (const [call, quantizer] of wrong) {
      const [direct] = await Promise.allSettled([call(quantizer)]);
      const other = batcher.encode(vectorsOf(2, 5));
      const [batched] = await Promise.allSettled([call(quantizer === gq ? batcher : cosine.batcher())]);
      expect(direct).toMatchObject({ status: "rejected", reason: { code: expect.any(String) } });
      const { code, message } = (direct as PromiseRejectedResult).reason;
      expect(batched).toMatchObject({ status: "rejected", reason: { code, message } });
      expect(await other).toEqual(gq.encodeSync(vectorsOf(2, 5), { stages: 2 }));
    }
    await expect(batcher.encode(vectorsOf(1, 1), { stages: 3 })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    expect(batcher.metrics()).toMatchObject({ encode: { failed: 1, completed: 6 }, decode: { failed: 1 } });
    cosine.dispose();
    expect(() => cosine.batcher()).toThrow(expect.objectContaining({ code: "DISPOSED" }));
  });

  it("may be memory that it gives away before its turn", async () => {
    const batcher = rq.batcher();
    const vectors = vectorsOf(2, 1);
    const failing = batcher.encode(vectors);
    const other = batcher.encode(vectorsOf(2, 1));
    structuredClone(vectors.buffer, { transfer: [vectors.buffer as ArrayBuffer] });
    await expect(failing).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining("detached"),
    });
    expect((await other).count).toBe(2);
  });

  it("may be its quantizer, which all calls are told", async () => {
    const quantizer = ResidualQuantizer.fromCodebooks(codebooks, { dim });
    const batcher = quantizer.batcher();
    const calls = [1, 2].map((seed) => batcher.encode(vectorsOf(1, seed)));
    quantizer.dispose();
    for (const call of calls) await expect(call).rejects.toMatchObject({ code: "DISPOSED" });
    expect(() => quantizer.batcher()).toThrow(expect.objectContaining({ code: "DISPOSED" }));
    await batcher.close();
  });

  it.each([
    [{ maxBatch: 0 }, /^maxBatch: /],
    [{ maxDelayMs: -1 }, /^maxDelayMs: /],
    [{ maxDelayMs: 1e12 }, /^maxDelayMs: /],
    [{ maxQueue: 1.5 }, /^maxQueue: /],
    [{ whenFull: "drop" }, /^whenFull: expected "wait" or "reject", got "drop"/],
    [{ stages: 4 }, /^stages: /],
    [{ beam: 0 }, /^beam: /],
  ])("may be the options %j", (options, message) => {
    expect(() => rq.batcher(options as never)).toThrow(
      expect.objectContaining({ code: "INVALID_ARGUMENT", message: expect.stringMatching(message) }),
    );
  });
});

describe("abort", () => {
  it("takes a call out before, in the line, in the queue and in its batch, and leaves the others", async () => {
    const reason = new Error("enough");
    const before = rq.batcher();
    await expect(before.encode(vectorsOf(1, 1), { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect(before.metrics().encode.calls).toBe(0);

    const batcher = rq.batcher({ maxBatch: 4, maxQueue: 4 });
    const controllers = Array.from({ length: 12 }, () => new AbortController());
    const calls = controllers.map(({ signal }, i) => batcher.encode(vectorsOf(1, i), { signal }));
    // A batch is under way, four calls are queued, the last four wait.
    expect(batcher.metrics().encode).toMatchObject({ batchesInFlight: 1, queuedCalls: 4, waitingCalls: 4 });
    const doomed = [1, 5, 7, 11];
    for (const i of doomed) controllers[i].abort(reason);
    expect(batcher.metrics().encode).toMatchObject({ queuedCalls: 4, waitingCalls: 1, aborted: 4 });
    const outcomes = await Promise.allSettled(calls);
    for (const [i, outcome] of outcomes.entries()) {
      if (doomed.includes(i)) expect(outcome).toEqual({ status: "rejected", reason });
      else expect(outcome).toEqual({ status: "fulfilled", value: rq.encodeSync(vectorsOf(1, i)) });
    }
    // Aborted too late: nothing happens.
    for (const controller of controllers) controller.abort();
    expect(batcher.metrics().encode).toMatchObject({ completed: 8, aborted: 4 });
  });

  it("ends a large call between its batches", async () => {
    const batcher = rq.batcher({ maxBatch: 16 });
    const controller = new AbortController();
    const large = batcher.encode(vectorsOf(100_000, 1), { signal: controller.signal });
    await batcher.encode(vectorsOf(1, 2));
    controller.abort();
    await expect(large).rejects.toMatchObject({ name: "AbortError" });
    expect(batcher.metrics().encode.queuedVectors).toBe(0);
    await batcher.drain();
    expect(batcher.metrics().encode.vectors).toBeLessThan(50_000);
  });
});
