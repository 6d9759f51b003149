// Operations on rows that stay on a device, against the definition.

import { describe, expect, it } from "vitest";
import { openBackend } from "../../lib/open-backend.js";
import { Random } from "../../lib/random.js";
import { raiseToMagnitudes } from "../../lib/stage-sums.js";
import { candidates, expectSame } from "./backends.js";
import { familyNames } from "./families.js";
import { d64 } from "./reference.js";
import { becomeMeans, download, downloadDoubles, emptyLearning, makeSpec, open, upload } from "./resident-rows.js";

const cuda = candidates.find(({ name }) => name === "cuda");

describe.skipIf(!cuda?.available)(`resident rows on ${cuda?.title ?? "cuda (left out)"}`, () => {
  for (const family of familyNames) {
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
});
