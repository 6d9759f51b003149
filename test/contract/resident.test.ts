// What learning asks of rows that stay on a device, against the definition: magnitudes, stages of a step, draws and
// iterations of k-means.

import { describe, expect, it } from "vitest";
import type { CodebookSpec } from "../../lib/backend.js";
import { newCodeArray } from "../../lib/code-array.js";
import { keepNonZero } from "../../lib/kmeans-rows.js";
import { averageSteps, emptyState } from "../../lib/moving-average.js";
import { openBackend } from "../../lib/open-backend.js";
import { blockSize, ProportionalDraw, sumsOfBlocks, totalOf } from "../../lib/proportional-draw.js";
import { Random } from "../../lib/random.js";
import type { DeviceMemory, ResidentCodebooks } from "../../lib/resident.js";
import { emptySums, massesOf, raiseToMagnitudes, stageGrids } from "../../lib/stage-sums.js";
import { accumulate, emptyStatistics, gridExponentFor, meanSteps } from "../../lib/statistics.js";
import { runToEnd } from "../../lib/time-slice.js";
import { candidates, expectSame } from "./backends.js";
import { familyNames, makeData, makeStages, normal, type Shape, withoutZeroRows } from "./families.js";
import { d64 } from "./reference.js";

const cases = [
  { metric: "l2", weighted: false, form: "encodec" },
  { metric: "l2", weighted: true, form: "simple" },
  { metric: "cosine", weighted: false, form: "encodec" },
  { metric: "cosine", weighted: false, form: "simple" },
] as const;

const cuda = candidates.find(({ name }) => name === "cuda");

describe.skipIf(!cuda?.available)(`resident rows on ${cuda?.title ?? "cuda (left out)"}`, () => {
  for (const family of familyNames) {
    it(`are measured, passed on and learnt from stage by stage as the definition says, ${family} data`, async () => {
      for (const { metric, weighted, form } of cases) {
        for (const dim of [1, 8, 13, 70]) {
          const shape: Shape = { count: 530, dim, numCodewords: 11 };
          const { vectors, spec } = makeSpec(family, shape, metric, weighted);
          if (family === "near overflow") {
            // Residuals of numbers near the limit overflow float32, which training refuses.
            for (const matrix of [vectors, ...spec.codebooks]) matrix.set(matrix.map((x) => 0.05 * x));
          }
          await expectLearnt(spec, vectors, form, { backend: "cuda", family, metric, weighted, dim });
        }
      }
    });

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

    it(`have the largest magnitudes of their columns, ${family} data`, async () => {
      for (const [count, dim] of [
        [0, 3],
        [1, 1],
        [700, 7],
        [9, 300],
      ]) {
        const { vectors, spec } = makeSpec(family, { count, dim, numCodewords: 4 }, "l2", false);
        const random = new Random(3);
        for (const spoiled of [0, Number.NaN, Infinity]) {
          for (let n = 0; n < 3 && spoiled !== 0 && count > 0; n++) vectors[random.below(vectors.length)] = spoiled;
          const [expected, magnitudes] = [0, 0].map(() => new Float32Array(dim).fill(1e-30));
          raiseToMagnitudes(expected, vectors, 0, vectors.length);
          const resident = open(spec);
          const memory = await upload(resident, vectors);
          await resident.magnitudes({ vectors: memory, count, dim, magnitudes });
          expectSame(magnitudes, expected, { backend: "cuda", family, count, dim, spoiled });
        }
      }
    });
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

  it("have the largest magnitudes of codewords, and codewords that can be replaced", async () => {
    const { spec } = makeSpec("gaussian", { count: 40, dim: 70, numCodewords: 300 }, "l2", false);
    const resident = open(spec);
    const stages = spec.codebooks.length;
    const magnitudes = new Float32Array(stages * 70);
    const source = spec.codebooks[1].map((element) => -2 * element);
    for (const codebooks of [spec.codebooks, spec.codebooks.with(1, source)]) {
      const expected = new Float32Array(stages * 70);
      for (const [stage, codebook] of codebooks.entries()) {
        raiseToMagnitudes(expected.subarray(stage * 70, (stage + 1) * 70), codebook, 0, codebook.length);
        const target = new Float32Array(codebook.length);
        await resident.readCodewords({ stage, target });
        expectSame(target, codebook, { stage });
      }
      await resident.codewordMagnitudes({ magnitudes });
      expectSame(magnitudes, expected, {});
      await resident.loadCodewords({ stage: 1, source });
    }
  });

  it("take 32-bit codes, and refuse those without a codeword", async () => {
    const { vectors, spec } = makeSpec("gaussian", { count: 40, dim: 5, numCodewords: 9 }, "l2", false);
    const resident = open(spec);
    const memory = await upload(resident, vectors);
    const codes = Uint32Array.from({ length: 40 * 3 }, (_, i) => i % 3);
    const distances = resident.allocate(40 * 8);
    const learn = async (stage: number) => {
      const rows = { vectors: memory, count: 40, codes: await upload(resident, codes), wide: true, codeStages: 3 };
      const numCodewords = spec.codebooks[stage]?.length / 5 || 1;
      await resident.learn({ ...rows, stage, distances, ...emptyLearning(resident, numCodewords, 5) });
    };
    await learn(1);
    const codeword = spec.codebooks[1].subarray(5, 10);
    expectSame(
      await downloadDoubles(distances, 40),
      Float64Array.from({ length: 40 }, (_, n) => d64(vectors.subarray(n * 5, n * 5 + 5), codeword)),
      { stage: 1 },
    );
    codes[39 * 3 + 1] = 2 ** 31;
    await learn(0);
    await expect(learn(1)).rejects.toThrow(RangeError);
    // What stands for rows that do not count is no codeword either.
    codes[39 * 3 + 1] = spec.codebooks[1].length / 5;
    await expect(learn(1)).rejects.toThrow(RangeError);
    await expect(learn(3)).rejects.toThrow(TypeError);

    const means = async (stage: number) => {
      const shape = { stage, codeStages: 3, numCodewords: spec.codebooks[stage].length / 5, dim: 5, wide: true };
      return becomeMeans(resident, { vectors: memory, count: 40, codes: await upload(resident, codes) }, shape);
    };
    expectSame((await means(2)).countsAfter, [0, 0, 40], {});
    await expect(means(1)).rejects.toThrow(RangeError);
    // What is written while codes are read again is apart from them.
    const shape = { stage: 2, codeStages: 3, numCodewords: 3, dim: 5, wide: true };
    const rows = { vectors: memory, count: 40, codes: await upload(resident, codes) };
    for (const name of ["counts", "sums", "distances", "previousCodes"]) {
      await expect(becomeMeans(resident, rows, { ...shape, instead: { [name]: rows.codes } }), name).rejects.toThrow(
        `${name}: expected memory apart`,
      );
    }
  });

  it("are encoded from any row on", async () => {
    const { vectors, spec } = makeSpec("gaussian", { count: 90, dim: 5, numCodewords: 9 }, "l2", false);
    const resident = open(spec);
    const rows = { vectors: await upload(resident, vectors), stages: 3 };
    for (const wide of [false, true]) {
      const [whole, parts] = [0, 0].map(() => new (wide ? Uint32Array : Uint16Array)(90 * 3));
      const residuals = [0, 0].map(() => resident.allocate(vectors.byteLength));
      for (const [place, [target, counts]] of [[whole, [90]] as const, [parts, [1, 7, 82]] as const].entries()) {
        const codes = resident.allocate(target.byteLength);
        let first = 0;
        for (const count of counts) {
          const request = { ...rows, first, count, codes, wide, residuals: residuals[place] };
          expectSame([(await resident.encode(request)).bad === null ? 0 : 1], [0], {});
          first += count;
        }
        await codes.download({ target, offset: 0 });
        await expect(resident.encode({ ...rows, first: 80, count: 11, codes, wide })).rejects.toThrow(TypeError);
      }
      expectSame(parts, whole, { wide });
      const [left, right] = await Promise.all(residuals.map((memory) => download(memory, vectors.length)));
      expectSame(right, left, { wide, residuals: true });
    }
    const spoiled = vectors.slice();
    spoiled[71 * 5 + 2] = Number.NaN;
    const codes = resident.allocate(90 * 3 * 2);
    const request = { vectors: await upload(resident, spoiled), stages: 3, codes, wide: false };
    const { bad } = await resident.encode({ ...request, first: 60, count: 30 });
    expectSame([bad?.row ?? -1, bad?.column ?? -1], [11, 2], {});
    expectSame([(await resident.encode({ ...request, first: 72, count: 18 })).bad === null ? 0 : 1], [0], {});
  });

  it("leave their residuals in their own place", async () => {
    for (const metric of ["l2", "cosine"] as const) {
      // By the forms for few rows and for many, with and without whole fragments.
      for (const [count, dim, numCodewords] of [
        [3, 8, 4_100],
        [40, 13, 2_600],
        [90, 5, 9],
        [300, 64, 70],
        [130, 300, 20],
      ]) {
        const { vectors, spec } = makeSpec("gaussian", { count, dim, numCodewords }, metric, false);
        const one = { ...spec, codebooks: spec.codebooks.slice(0, 1) };
        for (const stages of [1, 3]) {
          const resident = open(stages === 1 ? one : spec);
          const codes = [0, 0].map(() => resident.allocate(count * stages * 2));
          const [own, other] = await Promise.all([upload(resident, vectors), upload(resident, vectors)]);
          const apart = resident.allocate(vectors.byteLength);
          const request = { count, stages, wide: false };
          await resident.encode({ ...request, vectors: own, codes: codes[0], residuals: own });
          await resident.encode({ ...request, vectors: other, codes: codes[1], residuals: apart });
          const where = { metric, count, dim, stages };
          expectSame(await download(own, vectors.length), await download(apart, vectors.length), where);
          expectSame(await download(other, vectors.length), vectors, { ...where, untouched: true });
          const [left, right] = codes.map(() => new Uint16Array(count * stages));
          await codes[0].download({ target: left, offset: 0 });
          await codes[1].download({ target: right, offset: 0 });
          expectSame(left, right, { ...where, codes: true });
        }
      }
    }
  });

  it("are gathered one by one, in any order and more than once", async () => {
    const backend = openBackend("cuda", undefined);
    const random = new Random(4);
    for (const [count, dim] of [
      [1, 1],
      [300, 1],
      [50, 3],
      [900, 33],
      [70, 256],
      [20, 1_001],
    ]) {
      const { vectors } = makeSpec("gaussian", { count, dim, numCodewords: 4 }, "l2", false);
      const held = await backend.hold?.(vectors, dim);
      if (!held) throw new Error("no held rows");
      for (const wanted of [0, 1, 700]) {
        const rows = Uint32Array.from({ length: wanted }, (_, i) => (i === 0 ? count - 1 : random.below(count)));
        const expected = Float32Array.from(
          { length: wanted * dim },
          (_, i) => vectors[rows[Math.floor(i / dim)] * dim + (i % dim)],
        );
        expectSame(await held.gather(rows), expected, { count, dim, wanted });
      }
      await expect(held.gather(Uint32Array.of(0, count))).rejects.toThrow(RangeError);
      held.dispose();
      await expect(held.gather(Uint32Array.of(0))).rejects.toThrow(TypeError);
    }
  });

  /** Any codes, all stages, some rows that do not count; the residuals in place and elsewhere. */
  async function expectLearnt(
    spec: CodebookSpec,
    vectors: Float32Array,
    form: "encodec" | "simple",
    context: Record<string, unknown>,
  ) {
    const { dim, metric, codebooks, weights } = spec;
    const count = vectors.length / dim;
    const stages = codebooks.length;
    const random = new Random(9);
    const codes = newCodeArray(count * stages, [1]);
    for (const i of codes.keys()) codes[i] = random.below(codebooks[i % stages].length / dim);
    // The last stage has no row that counts.
    const stagesOfRow = Uint16Array.from({ length: count }, () => random.below(stages));
    const resident = open(spec);
    const rows = { count, codes: await upload(resident, codes), wide: false, codeStages: stages };
    const original = await upload(resident, vectors);
    const residuals = resident.allocate(vectors.byteLength);
    const distances = [0, 1].map(() => resident.allocate(count * 8));
    const plainDistances = resident.allocate(count * 8);
    const magnitudes = new Float32Array(dim);
    raiseToMagnitudes(magnitudes, vectors, 0, vectors.length);
    const range = { rows: count, magnitudes: [...magnitudes], maxWeight: null };
    const grids = await stageGrids("vectors", range, spec);
    const average = { form, epsilon: 1e-5, metric };
    const expected = vectors.slice();
    let met: boolean[] | null = null;
    for (const [stage, codebook] of codebooks.entries()) {
      const numCodewords = codebook.length / dim;
      const drops = form === "simple" || stage === stages - 1;
      const counts = (n: number) => (!drops || stagesOfRow[n] > stage) && met?.[n] !== true;
      const codewordOf = (n: number) => codebook.subarray(codes[n * stages + stage] * dim).subarray(0, dim);
      const measured = (weighting: Float32Array | null) =>
        Float64Array.from({ length: count }, (_, n) =>
          d64(expected.subarray(n * dim, (n + 1) * dim), codewordOf(n), weighting),
        );
      const [weighted, plain] = [measured(weights), measured(null)];

      // The state, of codewords from elsewhere at first.
      const before = { ...emptyState(numCodewords, dim), codebook };
      const unused = stage === 0;
      if (!unused) {
        for (const k of before.usage.keys()) before.usage[k] = random.fraction() * 9;
        for (const i of before.averages.keys()) before.averages[i] = normal(random);
      }
      const usage = await upload(resident, before.usage);
      const averages = await upload(resident, before.averages);
      const [masses, usageAfter, errors] = [numCodewords, numCodewords, 4].map((length) => new Float64Array(length));
      await resident.learn({
        ...rows,
        vectors: stage === 0 ? original : residuals,
        stage,
        stagesOfRow: drops ? await upload(resident, stagesOfRow) : undefined,
        distancesBefore: metric === "cosine" && stage > 0 ? distances[(stage - 1) % 2] : undefined,
        distances: distances[stage % 2],
        plainDistances: weights === null ? undefined : plainDistances,
        residuals,
        ...{ decay: 0.7, epsilon: average.epsilon, encodec: form === "encodec", unused, usage, averages },
        ...{ gridExponents: grids[stage].gridExponents, masses, usageAfter, errors },
      });

      const where = { ...context, stage, form };
      expectSame(await downloadDoubles(distances[stage % 2], count), weighted, where);
      if (weights !== null) expectSame(await downloadDoubles(plainDistances, count), plain, { ...where, plain });
      expectSame(errors, errorsOf(weighted, plain, stage, drops ? stagesOfRow : null, stages), { ...where, errors });
      const sums = emptySums(numCodewords, grids[stage], false);
      const counted = Uint16Array.from({ length: count }, (_, n) =>
        counts(n) ? codes[n * stages + stage] : numCodewords,
      );
      await accumulate(openBackend("js", undefined), sums.statistics, expected, counted);
      const after = emptyState(numCodewords, dim);
      runToEnd(averageSteps(before, sums, 0.7, average, after));
      expectSame(masses, massesOf(sums), { ...where, masses: true });
      expectSame(usageAfter, after.usage, { ...where, usage: true });
      expectSame(await downloadDoubles(usage, numCodewords), after.usage, { ...where, usage: "of the device" });
      expectSame(await downloadDoubles(averages, codebook.length), after.averages, { ...where, averages: true });
      const moved = new Float32Array(codebook.length);
      await resident.readCodewords({ stage, target: moved });
      expectSame(moved, after.codebook, { ...where, codewords: true });
      if (metric === "cosine") met = [...plain].map((distance) => distance === 0);
      for (let i = 0; i < expected.length; i++) expected[i] -= codewordOf(Math.floor(i / dim))[i % dim];
      expectSame(await download(residuals, vectors.length), expected, { ...where, residuals: true });
    }
    expectSame(await download(original, vectors.length), vectors, { ...context, untouched: true });
  }
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

/** From rows alone, without what came before. */
async function becomeMeans(
  resident: ResidentCodebooks,
  rows: { readonly vectors: DeviceMemory; readonly count: number; readonly codes: DeviceMemory },
  shape: {
    readonly stage: number;
    readonly codeStages: number;
    readonly numCodewords: number;
    readonly dim: number;
    readonly wide?: boolean;
    /** Arguments in the place of others. */
    readonly instead?: object;
  },
) {
  const { numCodewords, dim, stage, codeStages, wide = false, instead } = shape;
  const [counts, sums] = [1, dim].map((width) => resident.allocate(numCodewords * width * 8));
  const countsAfter = new Float64Array(numCodewords);
  const totals = new Float64Array(2);
  const grid = { gridExponents: new Int32Array(dim).fill(-30), shrinkage: 0 };
  const distances = resident.allocate(rows.count * 8);
  const outputs = { distances, counts, sums, countsAfter, totals };
  await resident.means({ ...rows, wide, codeStages, stage, ...grid, ...outputs, ...instead });
  return { countsAfter, totals };
}

function open(spec: CodebookSpec): ResidentCodebooks {
  const resident = openBackend("cuda", undefined).prepare(spec).resident?.();
  if (resident === undefined) throw new Error("no resident codebooks");
  return resident;
}

/** Blocks of 256 rows, each from zero, then all blocks. */
function errorsOf(
  weighted: Float64Array,
  plain: Float64Array,
  stage: number,
  stagesOfRow: Uint16Array | null,
  numStages: number,
): Float64Array {
  const errors = new Float64Array(4);
  for (let first = 0; first < weighted.length; first += 256) {
    const block = new Float64Array(4);
    for (let n = first; n < Math.min(first + 256, weighted.length); n++) {
      const stages = stagesOfRow?.[n] ?? numStages;
      const terms = [1, weighted[n], plain[n], stages === stage + 1 ? plain[n] : 0];
      if (stages > stage) for (const [place, term] of terms.entries()) block[place] += term;
    }
    for (const place of errors.keys()) errors[place] += block[place];
  }
  return errors;
}

function emptyLearning(resident: ResidentCodebooks, numCodewords: number, dim: number) {
  const [usage, averages] = [1, dim].map((width) => resident.allocate(numCodewords * width * 8));
  const [masses, usageAfter, errors] = [numCodewords, numCodewords, 4].map((length) => new Float64Array(length));
  const rule = { decay: 0.9, epsilon: 1e-5, encodec: true, unused: true };
  return { usage, averages, masses, usageAfter, errors, gridExponents: new Int32Array(dim).fill(-30), ...rule };
}

function makeSpec(family: string, shape: Shape, metric: "l2" | "cosine", weighted: boolean) {
  const { dim } = shape;
  const data = makeData(family, shape, 15);
  const prepare = (matrix: Float32Array) => (metric === "cosine" ? withoutZeroRows(matrix, dim) : matrix);
  const weights = weighted ? Float32Array.from({ length: dim }, (_, i) => (i % 4) / 3) : null;
  const codebooks = makeStages(data, shape, 3, 15).map(prepare);
  return { vectors: prepare(data.vectors), spec: { dim, metric, weights, codebooks } };
}

async function upload(resident: ResidentCodebooks, source: Float32Array | Float64Array | Uint16Array | Uint32Array) {
  const memory = resident.allocate(source.byteLength);
  await memory.upload({ source, offset: 0 });
  return memory;
}

async function download(memory: DeviceMemory, length: number): Promise<Float32Array> {
  const target = new Float32Array(length);
  await memory.download({ target, offset: 0 });
  return target;
}

async function downloadDoubles(memory: DeviceMemory, length: number): Promise<Float64Array> {
  const target = new Float64Array(length);
  await memory.download({ target, offset: 0 });
  return target;
}
