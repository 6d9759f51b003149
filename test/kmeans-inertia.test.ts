// The quality of k-means on 1,797 handwritten digits (UCI), which lie beside the repository where it is developed.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ResidualQuantizer, readNpy } from "../lib/index.js";

const file = join(__dirname, "../../shared/data/vectors/digits_1797x64_u8.npy");

describe.skipIf(!existsSync(file))("k-means on digits", () => {
  it.each([
    { codebookSize: 64, most: 674_387 },
    { codebookSize: 256, most: 400_076 },
  ])("ends at most $most away with $codebookSize codewords, whatever the seed", async ({ codebookSize, most }) => {
    const { data, shape } = readNpy(readFileSync(file));
    const vectors = Float32Array.from(data);
    const [count, dim] = shape;
    for (const seed of [1, 2, 3, 4, 5]) {
      const options = { dim, codebookSize, stages: 1, iterations: 100, init: "greedy-k-means++", seed } as const;
      const rq = await ResidualQuantizer.train(vectors, options);
      const [{ mse }] = await rq.distortion(vectors, await rq.encode(vectors));
      expect(mse * dim * count, `seed ${seed}`).toBeLessThanOrEqual(most);
    }
  });
});
