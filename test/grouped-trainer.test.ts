// CodebookTrainer with groups against a trainer for each group: the same bytes, on every backend and from every resume point.

import { describe, expect, it } from "vitest";
import {
  CodebookTrainer,
  type Codes,
  GroupedQuantizer,
  type LearningOptions,
  ResidualQuantizer,
  RvqError,
  type StartProgress,
  Statistics,
  type StepOptions,
  vectorRange,
} from "../lib/index.js";
import { Random } from "../lib/random.js";
import { candidates, withForm } from "./contract/backends.js";
import { makeData } from "./contract/families.js";
import { unseal } from "./reseal.js";

const dim = 10;
const groups = [3, 5, 2];
const starts = [0, 3, 8];
const metricWeights = Float32Array.from({ length: dim }, (_, i) => 1 + (i % 4));
const random = new Random(3);

/** Batches of different sizes, and what to do with each. */
const batches = [150, 40, 200, 7, 120].map((count, seed) => ({
  batch: makeData("clustered", { count, dim, numCodewords: 30 }, seed).vectors,
  options: {
    mask: Uint8Array.from({ length: count }, (_, n) => (n * 7 + seed) % 4),
    weights: Float32Array.from({ length: count }, () => random.fraction()),
    reconstruct: true,
  } satisfies StepOptions,
}));

function part(matrix: Float32Array, group: number): Float32Array {
  const start = starts[group];
  return matrix.filter((_, i) => i % dim >= start && i % dim < start + groups[group]);
}

const codesOf = ({ data, stages }: Codes, group: number) => data.filter((_, i) => (i % stages) % 3 === group);

const base = { dim, codebookSize: [12, 7], seed: 5, deadBelow: { ratio: 0.5 }, decay: 0.8 };

function startOne(group: number, options: LearningOptions & { metric?: "l2" | "cosine" }) {
  const weights = options.metric === "cosine" ? undefined : part(metricWeights, group);
  const width = groups[group];
  const first = batches.slice(0, 2).map(({ batch }) => part(batch, group));
  return CodebookTrainer.start(first, { ...base, ...options, dim: width, seed: 5 + group, weights });
}

function startAll(options: object) {
  const weights = "metric" in options ? undefined : metricWeights;
  const first = batches.slice(0, 2).map(({ batch }) => batch);
  return CodebookTrainer.start(first, { ...base, weights, groups, ...options });
}

describe("a trainer with groups", () => {
  it.each([[{ average: "encodec" }], [{ average: "simple" }], [{ metric: "cosine", reseed: false }]] as const)(
    "learns each group as a trainer of its own from seed + group (%o)",
    async (options) => {
      const progress: StartProgress[] = [];
      const trainer = await startAll({ ...options, onProgress: (at: StartProgress) => progress.push(at) });
      const own = await Promise.all(groups.map((_, group) => startOne(group, options)));
      expect(new Set(progress.map((at) => `${at.group} of ${at.groups}`))).toEqual(
        new Set(["0 of 3", "1 of 3", "2 of 3"]),
      );
      expect(trainer.codebookSizes).toEqual([12, 12, 12, 7, 7, 7]);
      expect([trainer.dim, trainer.stages, trainer.groups]).toEqual([dim, 2, groups]);
      for (const { batch, options: stepOptions } of batches) {
        const result = await trainer.step(batch, stepOptions);
        const results = await Promise.all(own.map((one, group) => one.step(part(batch, group), stepOptions)));
        expect(result.step).toBe(results[0].step);
        expect(result.rows).toBe(results[0].rows);
        expect(result.stages).toEqual([0, 1].flatMap((stage) => results.map(({ stages }) => stages[stage])));
        const loss = results.reduce(
          (sum, { commitmentLoss }, group) => sum + (commitmentLoss * groups[group]) / dim,
          0,
        );
        expect(result.commitmentLoss).toBeCloseTo(loss, 12);
        for (const [group, one] of results.entries()) {
          expect(codesOf(result.codes, group)).toEqual(one.codes.data);
          expect(part(result.reconstruction as Float32Array, group)).toEqual(one.reconstruction);
        }
        expect(trainer.codebooks()).toEqual([0, 1].flatMap((stage) => own.map((one) => one.codebooks()[stage])));
        expect(trainer.deadCodewords()).toEqual(
          [0, 1].flatMap((stage) => own.map((one) => one.deadCodewords()[stage])),
        );
      }
      const gq = trainer.groupedQuantizer();
      expect(gq).toBeInstanceOf(GroupedQuantizer);
      expect(gq.codebooks()).toEqual(own.map((one) => one.codebooks()));
      expect([gq.groups, gq.metric, gq.backend]).toEqual([groups, trainer.metric, trainer.backend]);
      expect(gq.weights()).toEqual("metric" in options ? null : metricWeights);
      const next = await trainer.step(batches[0].batch);
      expect(next.codes).toEqual(await gq.encode(batches[0].batch));
    },
  );

  it("drops a row's stages in all groups together", async () => {
    const dropout = { probability: 0.7 };
    const trainer = await startAll({ dropout });
    const first = await startOne(0, { dropout });
    const { batch } = batches[0];
    const result = await trainer.step(batch, { reconstruct: true });
    const one = await first.step(part(batch, 0), { reconstruct: true });
    expect(result.stagesOfRow).toEqual(one.stagesOfRow);
    expect(new Set(result.stagesOfRow)).toEqual(new Set([1, 2]));
    expect(trainer.codebooks()[0]).toEqual(first.codebooks()[0]);
    // The reconstruction of every group stops where the row does.
    const before = await startAll({ dropout });
    const gq = before.groupedQuantizer();
    const [coarse, fine] = [await gq.decode(result.codes, { stages: 1 }), await gq.decode(result.codes)];
    const expected = fine.map((x, at) => (result.stagesOfRow?.[Math.floor(at / dim)] === 1 ? coarse[at] : x));
    expect(result.reconstruction).toEqual(expected);
  });

  it("gives the same bytes on every backend, and from every resume point", async () => {
    const dropout = { probability: 0.3 };
    const checkpoints = new Map<string, Uint8Array[]>();
    for (const { name, title, form, available } of candidates) {
      for (const threads of available ? [1, 2] : []) {
        const trainer = await withForm(form, () => startAll({ dropout, backend: name, threads }));
        const bytes = [trainer.toBytes()];
        for (const { batch, options } of batches) {
          await trainer.step(batch, options);
          bytes.push(trainer.toBytes());
        }
        checkpoints.set(`${title}, ${threads} threads`, bytes);
      }
    }
    const [whole] = checkpoints.values();
    for (const [title, bytes] of checkpoints) expect(bytes, title).toEqual(whole);
    for (const [at, bytes] of whole.entries()) {
      const resumed = CodebookTrainer.fromBytes(bytes);
      expect([resumed.steps, resumed.groups, resumed.codebookSizes]).toEqual([at, groups, [12, 12, 12, 7, 7, 7]]);
      expect(resumed.toBytes()).toEqual(bytes);
      for (const { batch, options } of batches.slice(at)) await resumed.step(batch, options);
      expect(resumed.toBytes(), `resumed after step ${at}`).toEqual(whole[5]);
    }
  });

  it("goes on from the codebooks of a grouped quantizer", async () => {
    const gq = await GroupedQuantizer.train(batches[2].batch, { dim, groups: 2, codebookSize: 6, stages: 2, seed: 1 });
    const trainer = CodebookTrainer.fromCodebooks(gq.codebooks(), { dim, groups: gq.groups, seed: 1 });
    expect(trainer.groupedQuantizer().id).toBe(gq.id);
    expect((await trainer.step(batches[2].batch)).codes).toEqual(await gq.encode(batches[2].batch));
    // Without groups it has a single one.
    const plain = CodebookTrainer.fromCodebooks(gq.codebooks()[0], { dim: 5 });
    expect(plain.groups).toBeNull();
    expect(plain.groupedQuantizer().groups).toEqual([5]);
    expect(plain.groupedQuantizer().codebooks()).toEqual([plain.codebooks()]);
  });

  it("changes nothing in a step that fails in any group, or in which no row counts", async () => {
    const zero = batches[0].batch.slice().fill(0, 43, 48);
    const bad = batches[0].batch.slice();
    bad[57] = NaN;
    bad[90] = NaN;
    for (const metric of ["l2", "cosine"] as const) {
      const trainer = await startAll({ metric, weights: undefined });
      const before = trainer.toBytes();
      await expect(trainer.step(bad)).rejects.toThrow(/batch: .*NaN in row 5, column 7/);
      if (metric === "cosine") await expect(trainer.step(zero)).rejects.toThrow(/batch, group 1: .*zeros in row 4/);
      const idle = await trainer.step(bad, { mask: new Uint8Array(150), reconstruct: true });
      expect([idle.step, idle.rows, idle.codes.stages, idle.commitmentLoss]).toEqual([0, 0, 6, 0]);
      expect(idle.reconstruction).toEqual(new Float32Array(150 * dim));
      expect(trainer.toBytes()).toEqual(before);
    }
  });

  it("says what it has not got, and refuses bad groups", async () => {
    const trainer = await startAll({});
    expect(() => trainer.quantizer()).toThrow(/groupedQuantizer/);
    const rq = ResidualQuantizer.fromCodebooks([new Float32Array(dim)], { dim });
    const statistics = await Statistics.start(rq, await vectorRange(batches[0].batch, { dim }));
    await expect(trainer.update(statistics)).rejects.toThrow(/groups/);
    const { batch } = batches[0];
    const bad = batch.slice();
    bad[57] = NaN;
    for (const [vectors, options, message] of [
      [batch, { groups: 3 }, /groups: expected a divisor of dim 10/],
      [batch, { groups: [5, 4] }, /groups/],
      [batch, { groups: null }, /groups/],
      [batch, { init: [batch] }, /init/],
      [batch, { seed: Number.MAX_SAFE_INTEGER }, /seed/],
      [bad, {}, /firstBatches: .*row 5, column 7/],
    ] as const) {
      const call = CodebookTrainer.start(vectors, { ...base, groups, ...options } as never);
      await expect(call, String(message)).rejects.toThrow(message);
      await expect(call).rejects.toBeInstanceOf(RvqError);
    }
    const codebooks = groups.map((width) => [new Float32Array(4 * width), new Float32Array(2 * width)]);
    const make = (given: unknown) => () => CodebookTrainer.fromCodebooks(given as never, { dim, groups });
    expect(make(codebooks)().codebookSizes).toEqual([4, 4, 4, 2, 2, 2]);
    expect(make(codebooks.slice(1))).toThrow(/codebooks: expected an array of 3/);
    expect(make([codebooks[0], codebooks[1].slice(1), codebooks[2]])).toThrow(/codebooks\[1\]: expected 2 stages/);
    expect(make([codebooks[1], codebooks[0], codebooks[2]])).toThrow(/codebooks\[0\]\[0\]/);
  });

  it("refuses a checkpoint whose header lies", async () => {
    const trainer = await startAll({});
    const { header, reseal } = unseal(Buffer.from(trainer.toBytes()));
    const random = header.random as number[][];
    expect(header).toMatchObject({ dim, groups, codebookSizes: groups.map(() => [12, 7]) });
    for (const [lie, message] of [
      [{ groups: 5 }, /groups/],
      [{ groups: [3, 5] }, /groups/],
      [{ groups: undefined }, /codebookSizes/],
      [{ codebookSizes: [12, 7] }, /codebookSizes/],
      [{ codebookSizes: [[12, 7], [12], [12, 7]] }, /codebookSizes/],
      [
        {
          codebookSizes: [
            [12, 7],
            [12, 8],
            [12, 7],
          ],
        },
        /bytes of arrays/,
      ],
      [{ random: random[0] }, /random/],
      [{ random: random.slice(1) }, /random/],
      [{ random: [random[0], [0, 0, 0, 0], random[2]] }, /random/],
    ] as const) {
      expect(() => CodebookTrainer.fromBytes(reseal(lie))).toThrow(message);
      expect(() => CodebookTrainer.fromBytes(reseal(lie))).toThrow(
        expect.objectContaining({ code: "INVALID_CHECKPOINT" }),
      );
    }
  });
});
