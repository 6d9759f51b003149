// What a step of learning asks of rows that stay on a device, against the definition: magnitudes, distances, and what stages leave over.

import { describe, expect, it } from "vitest";
import type { CodebookSpec, DeviceMemory, ResidentCodebooks } from "../../lib/backend.js";
import { newCodeArray } from "../../lib/code-array.js";
import { openBackend } from "../../lib/open-backend.js";
import { Random } from "../../lib/random.js";
import { raiseToMagnitudes } from "../../lib/stage-sums.js";
import { candidates, expectSame } from "./backends.js";
import { familyNames, makeData, makeStages, type Shape, withoutZeroRows } from "./families.js";
import { d64 } from "./reference.js";

const cases = [
  { metric: "l2", weighted: false },
  { metric: "l2", weighted: true },
  { metric: "cosine", weighted: false },
] as const;

const cuda = candidates.find(({ name }) => name === "cuda");

describe.skipIf(!cuda?.available)(`resident rows on ${cuda?.title ?? "cuda (left out)"}`, () => {
  for (const family of familyNames) {
    it(`are measured and passed on from stage to stage as the definition says, ${family} data`, async () => {
      for (const { metric, weighted } of cases) {
        for (const dim of [1, 8, 13]) {
          const shape: Shape = { count: 75, dim, numCodewords: 11 };
          const { vectors, spec } = makeSpec(family, shape, metric, weighted);
          await expectPassedOn(spec, vectors, { backend: "cuda", family, metric, weighted, dim });
        }
      }
    });

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

  it("take 32-bit codes, and refuse those without a codeword", async () => {
    const { vectors, spec } = makeSpec("gaussian", { count: 40, dim: 5, numCodewords: 9 }, "l2", false);
    const resident = open(spec);
    const memory = await upload(resident, vectors);
    const codes = Uint32Array.from({ length: 40 * 3 }, (_, i) => i % 3);
    const distances = new Float64Array(40);
    const passOn = async (stage: number) => {
      const rows = { vectors: memory, count: 40, codes: await upload(resident, codes), wide: true, codeStages: 3 };
      await resident.passOn({ ...rows, stage, distances });
    };
    await passOn(1);
    const codeword = spec.codebooks[1].subarray(5, 10);
    expectSame(
      distances,
      Float64Array.from({ length: 40 }, (_, n) => d64(vectors.subarray(n * 5, n * 5 + 5), codeword)),
      { stage: 1 },
    );
    codes[39 * 3 + 1] = 2 ** 31;
    await passOn(0);
    await expect(passOn(1)).rejects.toThrow(RangeError);
    await expect(passOn(3)).rejects.toThrow(TypeError);
  });

  function open(spec: CodebookSpec): ResidentCodebooks {
    const resident = openBackend("cuda", undefined).prepare(spec).resident?.();
    if (resident === undefined) throw new Error("no resident codebooks");
    return resident;
  }

  /** Any codes, all stages; the residuals in place and elsewhere. */
  async function expectPassedOn(spec: CodebookSpec, vectors: Float32Array, context: Record<string, unknown>) {
    const { dim, codebooks, weights } = spec;
    const count = vectors.length / dim;
    const stages = codebooks.length;
    const random = new Random(9);
    const codes = newCodeArray(count * stages, [1]);
    for (const i of codes.keys()) codes[i] = random.below(codebooks[i % stages].length / dim);
    const resident = open(spec);
    const rows = { count, codes: await upload(resident, codes), wide: false, codeStages: stages };
    const original = await upload(resident, vectors);
    const residuals = resident.allocate(vectors.byteLength);
    const expected = vectors.slice();
    for (let stage = 0; stage < stages; stage++) {
      const codewordOf = (n: number) => {
        const start = codes[n * stages + stage] * dim;
        return codebooks[stage].subarray(start, start + dim);
      };
      const measured = (weighting: Float32Array | null) =>
        Float64Array.from({ length: count }, (_, n) =>
          d64(expected.subarray(n * dim, (n + 1) * dim), codewordOf(n), weighting),
        );
      const distances = new Float64Array(count);
      const plainDistances = new Float64Array(count);
      const from = stage === 0 ? original : residuals;
      await resident.passOn({ ...rows, vectors: from, stage, distances, plainDistances, residuals });
      expectSame(distances, measured(weights), { ...context, stage });
      expectSame(plainDistances, measured(null), { ...context, stage, plain: true });
      for (let i = 0; i < expected.length; i++) expected[i] -= codewordOf(Math.floor(i / dim))[i % dim];
      expectSame(await download(residuals, vectors.length), expected, { ...context, stage, residuals: true });
    }
    expectSame(await download(original, vectors.length), vectors, { ...context, untouched: true });
  }
});

function makeSpec(family: string, shape: Shape, metric: "l2" | "cosine", weighted: boolean) {
  const { dim } = shape;
  const data = makeData(family, shape, 15);
  const prepare = (matrix: Float32Array) => (metric === "cosine" ? withoutZeroRows(matrix, dim) : matrix);
  const weights = weighted ? Float32Array.from({ length: dim }, (_, i) => (i % 4) / 3) : null;
  const codebooks = makeStages(data, shape, 3, 15).map(prepare);
  return { vectors: prepare(data.vectors), spec: { dim, metric, weights, codebooks } };
}

async function upload(resident: ResidentCodebooks, source: Float32Array | Uint16Array | Uint32Array) {
  const memory = resident.allocate(source.byteLength);
  await memory.upload({ source, offset: 0 });
  return memory;
}

async function download(memory: DeviceMemory, length: number): Promise<Float32Array> {
  const target = new Float32Array(length);
  await memory.download({ target, offset: 0 });
  return target;
}
