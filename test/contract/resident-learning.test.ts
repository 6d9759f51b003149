// Steps of learning on rows that stay on a device, against the definition.

import { describe, it } from "vitest";
import type { CodebookSpec } from "../../lib/backend.js";
import { newCodeArray } from "../../lib/code-array.js";
import { averageSteps, emptyState } from "../../lib/moving-average.js";
import { openBackend } from "../../lib/open-backend.js";
import { Random } from "../../lib/random.js";
import { emptySums, massesOf, raiseToMagnitudes, stageGrids } from "../../lib/stage-sums.js";
import { accumulate } from "../../lib/statistics.js";
import { runToEnd } from "../../lib/time-slice.js";
import { candidates, expectSame } from "./backends.js";
import { familyNames, normal, type Shape } from "./families.js";
import { d64 } from "./reference.js";
import { download, downloadDoubles, errorsOf, makeSpec, open, upload } from "./resident-rows.js";

const cases = [
  { metric: "l2", weighted: false, form: "encodec" },
  { metric: "l2", weighted: true, form: "simple" },
  { metric: "cosine", weighted: false, form: "encodec" },
  { metric: "cosine", weighted: false, form: "simple" },
] as const;

const cuda = candidates.find(({ name }) => name === "cuda");

describe.skipIf(!cuda?.available)(`steps on resident rows on ${cuda?.title ?? "cuda (left out)"}`, () => {
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
