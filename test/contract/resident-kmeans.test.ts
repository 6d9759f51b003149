// Draws and iterations of k-means on rows that stay on a device, against the definition.

import { describe, it } from "vitest";
import type { CodebookSpec } from "../../lib/backend.js";
import { newCodeArray } from "../../lib/code-array.js";
import { keepNonZero } from "../../lib/kmeans-rows.js";
import { openBackend } from "../../lib/open-backend.js";
import { blockSize, ProportionalDraw, sumsOfBlocks, totalOf } from "../../lib/proportional-draw.js";
import { Random } from "../../lib/random.js";
import type { DeviceMemory } from "../../lib/resident.js";
import { raiseToMagnitudes } from "../../lib/stage-sums.js";
import { accumulate, emptyStatistics, gridExponentFor, meanSteps } from "../../lib/statistics.js";
import { runToEnd } from "../../lib/time-slice.js";
import { candidates, expectSame } from "./backends.js";
import { familyNames } from "./families.js";
import { d64 } from "./reference.js";
import { becomeMeans, downloadDoubles, errorsOf, makeSpec, open, upload } from "./resident-rows.js";

const cases = [
  { metric: "l2", weighted: false },
  { metric: "l2", weighted: true },
  { metric: "cosine", weighted: false },
] as const;

const cuda = candidates.find(({ name }) => name === "cuda");

describe.skipIf(!cuda?.available)(`k-means on resident rows on ${cuda?.title ?? "cuda (left out)"}`, () => {
  for (const family of familyNames) {
    it(`move, and codewords become their means, as the definition says, ${family} data`, async () => {
      for (const { metric, weighted } of cases) {
        for (const [dim, shrinkage] of [
          [1, 0],
          [8, 0.75],
          [13, 0],
          [70, 2],
        ]) {
          const { vectors, spec } = makeSpec(family, { count: 530, dim, numCodewords: 11 }, metric, weighted);
          if (family === "near overflow") {
            for (const matrix of [vectors, ...spec.codebooks]) matrix.set(matrix.map((x) => 0.05 * x));
          }
          await expectMeans(spec, vectors, shrinkage, { backend: "cuda", family, metric, weighted, dim, shrinkage });
        }
      }
    });

    it(`are drawn apart as the definition says, ${family} data`, async () => {
      for (const weighted of [false, true]) {
        for (const [count, dim] of [
          [1, 3],
          [700, 1],
          [2_500, 3],
          [1_024, 13],
        ]) {
          const { vectors, spec } = makeSpec(family, { count, dim, numCodewords: 4 }, "l2", weighted);
          await expectDrawn(vectors, spec, { backend: "cuda", family, weighted, count, dim });
        }
      }
    });

    if (family === "gaussian") {
      // More blocks of rows than the kernel brings at once.
      it("are drawn apart as the definition says, more than a million", async () => {
        const shape = { count: 1_100_000, dim: 1, numCodewords: 4 };
        const { vectors, spec } = makeSpec(family, shape, "l2", false);
        await expectDrawn(vectors, spec, { backend: "cuda", ...shape }, 2);
      });
    }
  }

  it("keep a codeword without rows, and with the cosine metric one whose mean is zero", async () => {
    for (const metric of ["l2", "cosine"] as const) {
      const codebook = Float32Array.from({ length: 4 * 3 }, (_, i) => i + 1);
      const resident = open({ dim: 3, metric, weights: null, codebooks: [codebook] });
      const vectors = Float32Array.of(1, 2, 3, -1, -2, -3, 4, 5, 6);
      const codes = Uint16Array.of(1, 1, 3);
      const rows = { vectors: await upload(resident, vectors), count: 3, codes: await upload(resident, codes) };
      const { countsAfter } = await becomeMeans(resident, rows, { stage: 0, codeStages: 1, numCodewords: 4, dim: 3 });
      expectSame(countsAfter, [0, 2, 0, 1], { metric });
      const expected = codebook.slice();
      if (metric === "l2") expected.fill(0, 3, 6);
      expected.set([4, 5, 6], 9);
      const target = new Float32Array(codebook.length);
      await resident.readCodewords({ stage: 0, target });
      expectSame(target, expected, { metric });
    }
  });
});

/** Draws by any fraction, by such as hit a sum exactly, and by the largest. */
async function expectDrawn(
  vectors: Float32Array,
  { dim, weights }: CodebookSpec,
  context: Record<string, unknown>,
  times = 30,
) {
  const count = vectors.length / dim;
  const js = openBackend("js", undefined);
  const random = new Random(5);
  const distances = new Float64Array(count).fill(Infinity);
  const first = random.below(count);
  let last = first;
  const fractions: number[] = [];
  const rows: number[] = [];
  for (let draw = 0; draw < times; draw++) {
    const centre = vectors.slice(last * dim, (last + 1) * dim);
    await js.lowerDistances({ vectors, count, dim, weights, centre, distances });
    const blocks = sumsOfBlocks(distances);
    const total = totalOf(blocks);
    if (total === 0) break;
    const block = random.below(blocks.length);
    const before = totalOf(blocks.subarray(0, block));
    const within = distances.subarray(block * blockSize, block * blockSize + random.below(blockSize));
    const sums = [random.fraction() * total, before, within.reduce((sum, distance) => sum + distance, before)];
    const fraction = draw % 4 === 3 ? 1 - 2 ** -53 : Math.min(1 - 2 ** -53, sums[draw % 4] / total);
    last = new ProportionalDraw(distances.slice()).draw(Object.assign(new Random(1), { fraction: () => fraction }));
    fractions.push(fraction);
    rows.push(last);
  }

  const backend = openBackend("cuda", undefined);
  const held = await backend.hold?.(vectors, dim);
  if (!held) throw new Error("no held rows");
  // More draws than there are rows apart, in calls of 1, 2, 3 … draws.
  const draws = backend.drawSeeds?.(held, { count, dim, weights, first });
  if (!draws) throw new Error("no draws");
  const wanted = [...fractions, ...(rows.length < times ? [0.5, 0.25] : [])];
  const drawn: number[] = [];
  for (let call = 1, start = 0; start < wanted.length; start += call, call++) {
    drawn.push(...(await draws.draw(Float64Array.from(wanted.slice(start, start + call)))));
  }
  expectSame(drawn, rows, context);
  draws.dispose();
  held.dispose();
}

/** Any codes in any stage, which move three times. */
async function expectMeans(
  spec: CodebookSpec,
  vectors: Float32Array,
  shrinkage: number,
  context: Record<string, unknown>,
) {
  const { dim, metric, codebooks, weights } = spec;
  const count = vectors.length / dim;
  const codeStages = codebooks.length;
  const stage = dim % codeStages;
  const codebook = codebooks[stage].slice();
  const numCodewords = codebook.length / dim;
  const random = new Random(9);
  const resident = open(spec);
  const magnitudes = new Float32Array(dim);
  raiseToMagnitudes(magnitudes, vectors, 0, vectors.length);
  const gridExponents = Int32Array.from(magnitudes, (magnitude) => gridExponentFor(magnitude, count));
  const [distances, plainDistances] = [0, 0].map(() => resident.allocate(count * 8));
  const [counts, sums] = [1, dim].map((width) => resident.allocate(numCodewords * width * 8));
  const original = await upload(resident, vectors);
  const statistics = emptyStatistics(numCodewords, gridExponents);

  const codes = newCodeArray(count * codeStages, [1]);
  let before: { codes: DeviceMemory; column: Uint16Array } | undefined;
  for (const share of [1, 0.3, 0]) {
    const draw = () => random.below(numCodewords);
    for (const i of codes.keys()) if (random.fraction() < share) codes[i] = draw() % (codebooks[i % 3].length / dim);
    const column = Uint16Array.from({ length: count }, (_, n) => codes[n * codeStages + stage]);
    const measured = (weighting: Float32Array | null) =>
      Float64Array.from(column, (k, n) => {
        const row = vectors.subarray(n * dim, (n + 1) * dim);
        return d64(row, codebook.subarray(k * dim, (k + 1) * dim), weighting);
      });
    const [weighted, plain] = [measured(weights), measured(null)];
    const on = { vectors: original, count, codes: await upload(resident, codes), wide: false, codeStages, stage };
    const countsAfter = new Float64Array(numCodewords);
    const totals = new Float64Array(2);
    await resident.means({
      ...{ ...on, gridExponents, distances, shrinkage, counts, sums, countsAfter, totals },
      plainDistances: weights === null ? undefined : plainDistances,
      previousCodes: before?.codes,
    });

    await accumulate(openBackend("js", undefined), statistics, vectors, column, before?.column);
    const unmoved = codebook.slice();
    runToEnd(meanSteps(statistics, codebook, shrinkage));
    if (metric === "cosine") keepNonZero(codebook, unmoved, dim);
    const moved = before?.column.filter((code, n) => code !== column[n]).length ?? count;
    const [, , error] = errorsOf(weighted, plain, 0, null, 1);
    const where = { ...context, share };
    expectSame(totals, [error, moved], { ...where, totals: true });
    expectSame(countsAfter, statistics.counts, { ...where, counts: true });
    expectSame(await downloadDoubles(distances, count), weighted, where);
    if (weights !== null) expectSame(await downloadDoubles(plainDistances, count), plain, { ...where, plain: true });
    const target = new Float32Array(codebook.length);
    await resident.readCodewords({ stage, target });
    expectSame(target, codebook, { ...where, codewords: true });
    before = { codes: on.codes, column };
  }
}
