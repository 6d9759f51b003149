// Search on codes finds what brute force over the reconstructions finds, to the bit, and says what it refuses.

import { describe, expect, it } from "vitest";
import {
  CodeIndex,
  type Codes,
  type Neighbours,
  ResidualQuantizer,
  RvqError,
  type SearchMetric,
  type SearchOptions,
  status,
} from "../lib/index.js";
import { Random } from "../lib/random.js";
import { normal } from "./contract/families.js";
import { detach } from "./lost-memory.js";

const backends = status()
  .backends.filter(({ available }) => available)
  .map(({ name }) => name);

interface Case {
  readonly count: number;
  readonly dim: number;
  readonly sizes: readonly number[];
  readonly seed: number;
  /** Codewords of small integers make many exact ties. */
  readonly grid?: boolean;
  readonly weighted?: boolean;
}

interface Made {
  readonly rq: ResidualQuantizer;
  readonly codes: Codes;
  readonly codebooks: Float32Array[];
  readonly weights: Float32Array | undefined;
  readonly queries: Float32Array;
}

function make({ count, dim, sizes, seed, grid = false, weighted = false }: Case): Made {
  const random = new Random(seed);
  const draw = () => (grid ? random.below(3) - 1 : normal(random));
  const codebooks = sizes.map((size) => Float32Array.from({ length: size * dim }, draw));
  const weights = weighted ? Float32Array.from({ length: dim }, () => random.below(4) / 2) : undefined;
  const rq = ResidualQuantizer.fromCodebooks(codebooks, { dim, weights, backend: "js" });
  const length = count * sizes.length;
  const data = Math.max(...sizes) > 65_536 ? new Uint32Array(length) : new Uint16Array(length);
  for (let i = 0; i < length; i++) data[i] = random.below(sizes[i % sizes.length]);
  const queries = Float32Array.from({ length: 5 * dim }, draw);
  return { rq, codes: { count, stages: sizes.length, data }, codebooks, weights, queries };
}

/** Σ of terms in eight lanes and the tree of docs/exactness.md. */
function sumTerms(terms: readonly number[]): number {
  const s = [0, 0, 0, 0, 0, 0, 0, 0];
  for (const [i, term] of terms.entries()) s[i % 8] += term;
  return s[0] + s[4] + (s[2] + s[6]) + (s[1] + s[5] + (s[3] + s[7]));
}

/** docs/search.md word by word, one vector after the other. */
function expectedScores(made: Made, metric: SearchMetric, q: number): number[] {
  const { codes, codebooks, weights } = made;
  const { dim } = made.rq;
  const query = [...made.queries.subarray(q * dim, (q + 1) * dim)];
  const w = query.map((_, i) => (metric === "l2" ? (weights?.[i] ?? 1) : 1));
  return Array.from({ length: codes.count }, (_, n) => {
    const codewords = codebooks.map((codebook, s) => {
      const k = codes.data[n * codes.stages + s];
      return [...codebook.subarray(k * dim, (k + 1) * dim)];
    });
    const products = codewords.map((codeword) => sumTerms(codeword.map((c, i) => w[i] * query[i] * c)));
    if (metric === "ip") return products.reduce((sum, product) => sum + product, 0);
    const sum = query.map((_, i) => codewords.reduce((total, codeword) => total + codeword[i], 0));
    const norm = sumTerms(sum.map((x, i) => w[i] * x * x));
    const key = products.reduce((total, product) => total - 2 * product, norm);
    return sumTerms(query.map((x, i) => w[i] * x * x)) + key;
  });
}

/** Ids by score, ties by id: a sort instead of a heap. */
function ranking(scores: readonly number[], metric: SearchMetric): number[] {
  const sign = metric === "l2" ? 1 : -1;
  return scores.map((_, id) => id).sort((a, b) => sign * (scores[a] - scores[b]) || a - b);
}

function row(found: Neighbours, q: number): { ids: number[]; scores: number[] } {
  const { k, ids, scores } = found;
  return { ids: [...ids.subarray(q * k, (q + 1) * k)], scores: [...scores.subarray(q * k, (q + 1) * k)] };
}

async function refusal(work: () => Promise<unknown>): Promise<string> {
  try {
    await work();
  } catch (error) {
    if (error instanceof RvqError) return `${error.code}: ${error.message}`;
    throw error;
  }
  throw new Error("was accepted");
}

describe("search on codes", () => {
  const cases: (Case & { name: string })[] = [
    { name: "one stage", count: 300, dim: 8, sizes: [256], seed: 1 },
    { name: "four stages, odd dimension", count: 3000, dim: 13, sizes: [256, 256, 256, 256], seed: 2 },
    {
      name: "six stages of different sizes, weights",
      count: 700,
      dim: 9,
      sizes: [5, 300, 2, 1, 17, 64],
      seed: 3,
      weighted: true,
    },
    { name: "nine stages of K 1000", count: 1500, dim: 4, sizes: new Array<number>(9).fill(1000), seed: 4 },
    { name: "a codebook of more than 65,536", count: 200, dim: 1, sizes: [70_000, 3, 3, 3], seed: 5 },
    { name: "a grid full of ties", count: 5000, dim: 3, sizes: [4, 4, 4, 4, 4], seed: 6, grid: true },
    {
      name: "more vectors than a thread takes at once, and ties",
      count: 140_000,
      dim: 2,
      sizes: [3, 2, 2, 2, 2],
      seed: 9,
      grid: true,
    },
    { name: "fewer vectors than k", count: 7, dim: 16, sizes: [16, 16], seed: 7 },
  ];
  for (const one of cases) {
    const ways = backends.flatMap((backend) => (["l2", "ip"] as const).map((metric) => ({ backend, metric })));
    it.each(ways)(`is brute force, bit by bit: ${one.name}, $backend, $metric`, async ({ backend, metric }) => {
      const made = make(one);
      const index = await CodeIndex.create(made.rq, made.codes, { backend });
      const found = await index.search(made.queries, { k: 25, metric });
      expect(found).toMatchObject({ count: 5, k: Math.min(25, one.count) });
      for (let q = 0; q < 5; q++) {
        const scores = expectedScores(made, metric, q);
        const ids = ranking(scores, metric).slice(0, 25);
        expect(row(found, q), `seed ${one.seed}, query ${q}`).toEqual({ ids, scores: ids.map((id) => scores[id]) });
      }
    });
  }

  it("gives a distance or product that is that of the decoded vectors but for rounding", async () => {
    const made = make({ count: 400, dim: 24, sizes: [64, 64, 64], seed: 8 });
    const decoded = made.rq.decodeSync(made.codes);
    const index = await CodeIndex.create(made.rq, made.codes);
    const [near, large] = [await index.search(made.queries), await index.search(made.queries, { metric: "ip" })];
    for (let i = 0; i < 50; i++) {
      const query = made.queries.subarray(Math.floor(i / 10) * 24, (Math.floor(i / 10) + 1) * 24);
      const of = (id: number) => [...query].map((x, d) => [x, decoded[id * 24 + d]] as const);
      expect(near.scores[i]).toBeCloseTo(
        of(near.ids[i]).reduce((sum, [x, y]) => sum + (x - y) ** 2, 0),
        4,
      );
      expect(large.scores[i]).toBeCloseTo(
        of(large.ids[i]).reduce((sum, [x, y]) => sum + x * y, 0),
        4,
      );
    }
  });

  it("finds a coded vector by its own reconstruction, also far from the origin", async () => {
    const dim = 4;
    const first = Float32Array.from({ length: 4 * dim }, (_, i) => 1e4 + Math.floor(i / dim));
    const rq = ResidualQuantizer.fromCodebooks([first, Float32Array.of(0, 0, 0, 0, 0.25, 0, 0, 0)], { dim });
    const codes = {
      count: 8,
      stages: 2,
      data: Uint16Array.from({ length: 16 }, (_, i) => (i % 2 ? (i >> 1) & 1 : i >> 2)),
    };
    const { ids } = await (await CodeIndex.create(rq, codes)).search(rq.decodeSync(codes), { k: 1 });
    expect([...ids]).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  it("keeps its answer when the codes and the queries change afterwards", async () => {
    const made = make({ count: 2000, dim: 8, sizes: [256, 256], seed: 9 });
    const before = await (await CodeIndex.create(made.rq, made.codes)).search(made.queries);
    const making = CodeIndex.create(made.rq, made.codes);
    made.codes.data.fill(0);
    const searching = (await making).search(made.queries);
    made.queries.fill(0);
    expect(await searching).toEqual(before);
  });

  it("takes codes of the first stages alone", async () => {
    const made = make({ count: 50, dim: 3, sizes: [8, 8], seed: 10 });
    const one = { count: 50, stages: 1, data: made.codes.data.filter((_, i) => i % 2 === 0) };
    const small = ResidualQuantizer.fromCodebooks([made.codebooks[0]], { dim: 3 });
    const ofOne = async (rq: ResidualQuantizer) => (await CodeIndex.create(rq, one)).search(made.queries);
    expect(await ofOne(made.rq)).toEqual(await ofOne(small));
  });

  it("finds nothing where there is nothing, and for no queries", async () => {
    const { rq, queries } = make({ count: 0, dim: 2, sizes: [4], seed: 11 });
    const index = await CodeIndex.create(rq, { count: 0, stages: 1, data: new Uint16Array(0) });
    const nothing = { k: 0, ids: new Uint32Array(0), scores: new Float64Array(0) };
    expect(await index.search(queries)).toEqual({ count: 5, ...nothing });
    const some = await CodeIndex.create(rq, { count: 1, stages: 1, data: new Uint16Array(1) });
    expect(await some.search(new Float32Array(0))).toEqual({ count: 0, ...nothing, k: 1 });
  });
});

describe("ranking again by the originals", () => {
  it.each(["l2", "ip"] as const)("is an exact search where all are candidates, %s", async (metric) => {
    const made = make({ count: 500, dim: 11, sizes: [16, 16], seed: 12, weighted: true });
    const vectors = Float32Array.from(made.rq.decodeSync(made.codes), (x, i) => x + Math.sin(i));
    const index = await CodeIndex.create(made.rq, made.codes);
    const found = await index.search(made.queries, { k: 20, metric, vectors, rerank: 500 });
    for (let q = 0; q < 5; q++) {
      const scores = Array.from({ length: 500 }, (_, n) =>
        sumTerms(
          Array.from({ length: 11 }, (_, i) => {
            const [x, y] = [made.queries[q * 11 + i], vectors[n * 11 + i]];
            return metric === "ip" ? x * y : (made.weights?.[i] ?? 1) * ((x - y) * (x - y));
          }),
        ),
      );
      const ids = ranking(scores, metric).slice(0, 20);
      expect(row(found, q)).toEqual({ ids, scores: ids.map((id) => scores[id]) });
    }
  });

  it("ranks 10·k candidates by default, and no others", async () => {
    const made = make({ count: 500, dim: 6, sizes: [16], seed: 13 });
    const vectors = Float32Array.from({ length: 3000 }, (_, i) => Math.cos(i));
    const index = await CodeIndex.create(made.rq, made.codes);
    const candidates = row(await index.search(made.queries, { k: 20 }), 2).ids;
    const found = await index.search(made.queries, { k: 2, vectors });
    expect(found).toEqual(await index.search(made.queries, { k: 2, vectors, rerank: 20 }));
    const distance = (id: number) =>
      sumTerms(Array.from({ length: 6 }, (_, i) => (made.queries[12 + i] - vectors[id * 6 + i]) ** 2));
    const best = candidates.sort((a, b) => distance(a) - distance(b) || a - b).slice(0, 2);
    expect(row(found, 2).ids).toEqual(best);
  });

  it("gives equal originals in the order of their ids", async () => {
    const { rq, codes, queries } = make({ count: 60, dim: 2, sizes: [8, 8], seed: 14 });
    const index = await CodeIndex.create(rq, codes);
    const found = await index.search(queries, { k: 60, vectors: new Float32Array(120) });
    expect(row(found, 3).ids).toEqual(Array.from({ length: 60 }, (_, i) => i));
  });
});

describe("bad input", () => {
  const made = make({ count: 30, dim: 4, sizes: [8, 8], seed: 15 });
  const searching = async (queries: unknown, options?: unknown) => {
    const index = await CodeIndex.create(made.rq, made.codes);
    return refusal(() => index.search(queries as Float32Array, options as SearchOptions));
  };

  it("is refused by name", async () => {
    expect(await searching(new Float32Array(7))).toContain("INVALID_ARGUMENT: queries: expected a length that is");
    expect(await searching([1, 2, 3, 4])).toContain("queries: expected a Float32Array, got an array of 4");
    expect(await searching(Float32Array.of(0, 0, 0, 0, 0, Number.NaN, 0, 0))).toBe(
      "NOT_FINITE: queries: expected finite numbers, got NaN in row 1, column 1",
    );
    expect(await searching(made.queries, { k: 0 })).toContain("k: expected an integer from 1 to 4294967295, got 0");
    expect(await searching(made.queries, { metric: "dot" })).toContain('metric: expected "l2" or "ip", got "dot"');
    expect(await searching(made.queries, { rerank: 20 })).toContain("rerank: expected none without vectors");
    const vectors = new Float32Array(120);
    expect(await searching(made.queries, { vectors, rerank: 9 })).toContain("rerank: expected an integer from 10 to");
    expect(await searching(made.queries, { vectors: new Float32Array(4) })).toContain(
      "vectors: expected count · dim = 120",
    );
    vectors[45] = Infinity;
    expect(await searching(made.queries, { vectors, rerank: 30 })).toBe(
      "NOT_FINITE: vectors: expected finite numbers, got Infinity in row 11, column 1",
    );
    expect(await searching(made.queries, "fast")).toContain("options: expected an object");
  });

  it("in making an index too", async () => {
    const creating = (codes: unknown, rq: unknown = made.rq) =>
      refusal(() => CodeIndex.create(rq as ResidualQuantizer, codes as Codes));
    expect(await creating({ count: 1, stages: 2, data: Uint16Array.of(0, 8) })).toBe(
      "CODE_OUT_OF_RANGE: codes: expected codes of stage 1 below its codebook size 8, got 8 in row 0",
    );
    const late = { count: 100_000, stages: 2, data: new Uint16Array(200_000) };
    late.data[180_002] = 9;
    expect(await creating(late)).toMatch(/codes of stage 0 below its codebook size 8, got 9 in row 90001$/);
    expect(await creating({ count: 1, stages: 3, data: new Uint16Array(3) })).toContain("codes.stages: expected");
    expect(await creating({ ...made.codes, stageCounts: new Uint16Array(30) })).toContain("codes.stageCounts");
    expect(await creating(made.codes, {})).toContain("quantizer: expected a ResidualQuantizer");
  });

  it("such as originals that are detached during the call, on every backend", async () => {
    for (const backend of backends) {
      const large = make({ count: 3000, dim: 16, sizes: [256, 256], seed: 17 });
      const index = await CodeIndex.create(large.rq, large.codes, { backend });
      const vectors = new Float32Array(3000 * 16);
      const searching = refusal(() => index.search(new Float32Array(200 * 16), { vectors, k: 5 }));
      detach(vectors);
      expect(await searching, backend).toContain("INVALID_ARGUMENT: vectors: expected an array left alone");
    }
  });

  it("such as an aborted signal ends a call, and the event loop has its turns", async () => {
    const large = make({ count: 60_000, dim: 16, sizes: [256, 256, 256, 256, 256, 256, 256, 256], seed: 16 });
    const index = await CodeIndex.create(large.rq, large.codes);
    await expect(index.search(large.queries, { signal: AbortSignal.abort("no") })).rejects.toBe("no");
    const stop = new AbortController();
    const queries = new Float32Array(2000 * 16);
    let turns = 0;
    const timer = setInterval(() => {
      if (++turns === 3) stop.abort("enough");
    }, 1);
    try {
      await expect(index.search(queries, { signal: stop.signal })).rejects.toBe("enough");
    } finally {
      clearInterval(timer);
    }
    expect(turns).toBe(3);
  });

  it("finds the same with every backend and number of threads, for one query and for many", async () => {
    const made = make({ count: 90_000, dim: 8, sizes: [256, 256, 256, 256, 200], seed: 11 });
    const random = new Random(12);
    const queries = Float32Array.from({ length: 300 * 8 }, () => normal(random));
    const options = { k: 40, vectors: Float32Array.from({ length: 90_000 * 8 }, () => normal(random)), rerank: 60 };
    const found: Neighbours[] = [];
    for (const backend of backends) {
      for (const threads of backend === "js" ? [1] : [1, 3]) {
        const index = await CodeIndex.create(made.rq, made.codes, { backend, threads });
        found.push(await index.search(queries.subarray(0, 8), options));
        if (backend !== "js")
          expect(await index.search(queries.subarray(0, 80), { k: 3 })).toMatchObject({ count: 10 });
      }
    }
    for (const one of found) expect(one).toEqual(found[found.length - 1]);
  });

  it("refuses backends that are none", async () => {
    const made = make({ count: 4, dim: 2, sizes: [2], seed: 13 });
    const backend = "gpu" as "js";
    expect(await refusal(() => CodeIndex.create(made.rq, made.codes, { backend }))).toMatch(
      /^INVALID_ARGUMENT: backend: /,
    );
  });
});
