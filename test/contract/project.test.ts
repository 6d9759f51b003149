// Linear maps on every backend against the definition: over the data families, shapes on both sides of a tile, splits and threads.

import { describe, expect, it } from "vitest";
import type { PreparedProjection, Projection, ProjectRequest } from "../../lib/backend.js";
import { Random } from "../../lib/random.js";
import { candidates, expectSame, openAll } from "./backends.js";
import { familyNames, makeData, normal } from "./families.js";
import { project } from "./reference.js";

/** Of DAC and Mimi in small, single rows and columns, and what is no multiple of any tile. */
const shapes = [
  { count: 0, inDim: 3, outDim: 2 },
  { count: 1, inDim: 1, outDim: 1 },
  { count: 7, inDim: 64, outDim: 8 },
  { count: 50, inDim: 8, outDim: 67 },
  { count: 25, inDim: 33, outDim: 17 },
  { count: 61, inDim: 5, outDim: 9 },
];
const forms = ["replace", "add", "subtract"] as const;

for (const candidate of candidates) {
  describe.skipIf(!candidate.available)(`projections on ${candidate.title}`, () => {
    const run = async (prepared: PreparedProjection, request: ProjectRequest, sync: boolean) => {
      const bad = sync ? prepared.projectSync(request) : await prepared.project(request);
      expect(bad).toBeNull();
      return request.projected;
    };

    for (const family of familyNames) {
      it(`equal the definition on ${family} data`, async () => {
        for (const { title, backend } of openAll(candidate)) {
          for (const [i, { count, inDim, outDim }] of shapes.entries()) {
            const { vectors, codebook } = makeData(family, { count, dim: inDim, numCodewords: outDim }, 7 + i);
            const random = new Random(i);
            const bias = i % 2 === 0 ? null : Float32Array.from({ length: outDim }, () => normal(random));
            const projection: Projection = { weight: codebook, bias, inDim, outDim };
            const before = Float32Array.from({ length: count * outDim }, () => normal(random));
            const prepared = backend.prepareProjection(projection);
            for (const into of forms) {
              const expected = project(vectors, projection, before, into);
              for (const sync of [false, true]) {
                const request = { vectors, count, projected: before.slice(), into };
                const context = { backend: title, family, count, inDim, outDim, into, sync };
                expectSame(await run(prepared, request, sync), expected, context);
              }
              // The same rows in two calls.
              const projected = before.slice();
              const half = count >> 1;
              for (const [from, to] of [
                [half, count],
                [0, half],
              ]) {
                const part = {
                  vectors: vectors.subarray(from * inDim, to * inDim),
                  projected: projected.subarray(from * outDim, to * outDim),
                };
                await run(prepared, { ...part, count: to - from, into }, false);
              }
              expectSame(projected, expected, { backend: title, family, into, split: half });
            }
            prepared.dispose();
          }
        }
      });
    }

    it("name the first number that is not finite", async () => {
      for (const { title, backend } of openAll(candidate)) {
        const [count, inDim, outDim] = [4000, 20, 3];
        const weight = new Float32Array(inDim * outDim).fill(1);
        const prepared = backend.prepareProjection({ weight, bias: null, inDim, outDim });
        const vectors = new Float32Array(count * inDim).fill(1);
        for (const at of [3999 * inDim + 19, 2 * inDim + 7, 2 * inDim + 5]) {
          vectors[at] = at % 2 === 0 ? Number.NaN : -Infinity;
          const request = { vectors, count, projected: new Float32Array(count * outDim), into: "replace" } as const;
          const bad = { kind: "not finite", row: Math.floor(at / inDim), column: at % inDim };
          expect(await prepared.project(request), title).toEqual(bad);
          expect(prepared.projectSync(request), title).toEqual(bad);
        }
        prepared.dispose();
      }
    });

    it("finish a call in flight when they are disposed, and dispose twice", async () => {
      const [count, inDim, outDim] = [3000, 64, 40];
      const random = new Random(9);
      const weight = Float32Array.from({ length: inDim * outDim }, () => normal(random));
      const projection = { weight, bias: null, inDim, outDim };
      const vectors = Float32Array.from({ length: count * inDim }, () => normal(random));
      const projected = new Float32Array(count * outDim);
      const prepared = candidate.open(2).prepareProjection(projection);
      const running = prepared.project({ vectors, count, projected, into: "replace" });
      prepared.dispose();
      prepared.dispose();
      expect(await running).toBeNull();
      expectSame(projected, project(vectors, projection, projected, "replace"), { backend: candidate.name });
    });
  });
}
