// Statistics accumulated by worker threads, which run dist/: the same bytes, the same errors, nothing left over.

import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { ResidualQuantizer, Statistics, vectorRange } from "../lib/index.js";
import { candidates } from "./contract/backends.js";
import { makeData, makeStages } from "./contract/families.js";

const library = path.resolve(__dirname, "../dist/index.js");
const shape = { count: 3001, dim: 12, numCodewords: 40 };

beforeAll(() => {
  if (!existsSync(path.resolve(__dirname, "../dist/statistics-worker.js"))) throw new Error("dist/: npm run build");
});

for (const { title, name, available } of candidates.filter(({ form }) => form !== "plain")) {
  describe.skipIf(!available)(`workers on ${title}`, () => {
    const data = makeData("clustered", shape, 2);
    const { vectors } = data;
    const backend = available ? name : "js";
    const rq = ResidualQuantizer.fromCodebooks(makeStages(data, shape, 2, 1), { dim: shape.dim, backend });

    it("give the bytes of this thread, with row weights and without", async () => {
      for (const weights of [undefined, Float32Array.from({ length: shape.count }, (_, n) => (n % 7) / 3)]) {
        const range = await vectorRange(vectors, { dim: shape.dim, weights });
        const bytes: Uint8Array[] = [];
        for (const workers of [1, 2, 5]) {
          const statistics = await Statistics.start(rq, range, { backend: name, threads: 2 });
          await statistics.add(vectors, { weights, workers });
          bytes.push(statistics.toBytes());
        }
        expect(Buffer.compare(bytes[1], bytes[0])).toBe(0);
        expect(Buffer.compare(bytes[2], bytes[0])).toBe(0);
      }
    });

    it("find the first bad row, and add nothing then or when aborted", async () => {
      const range = await vectorRange(vectors, { dim: shape.dim });
      const statistics = await Statistics.start(rq, range);
      const before = statistics.toBytes();
      const bad = vectors.slice();
      bad[2900 * shape.dim] = NaN;
      bad[1800 * shape.dim + 3] = NaN;
      await expect(statistics.add(bad, { workers: 3 })).rejects.toThrow(/NaN in row 1800, column 3/);
      const signal = AbortSignal.timeout(5);
      await expect(statistics.add(vectors, { workers: 2, signal })).rejects.toMatchObject({ name: "TimeoutError" });
      await expect(statistics.add(vectors, { workers: 0 })).rejects.toThrow(/workers/);
      expect(statistics.toBytes()).toEqual(before);
      await statistics.add(new Float32Array(0), { workers: 4 });
      await statistics.add(vectors.subarray(0, 2 * shape.dim), { workers: 4 });
      expect(statistics.rows).toBe(2);
    });

    it("end with the call", () => {
      const source = `
        const { ResidualQuantizer, Statistics, vectorRange } = require(${JSON.stringify(library)});
        const vectors = Float32Array.from({ length: 4000 }, (_, i) => (i * 7919) % 101);
        (async () => {
          const rq = ResidualQuantizer.fromCodebooks([vectors.slice(0, 80)], { dim: 4, backend: ${JSON.stringify(name)} });
          const statistics = await Statistics.start(rq, await vectorRange(vectors, { dim: 4 }));
          await statistics.add(vectors, { workers: 2 });
          console.log(statistics.rows);
        })();
      `;
      const out = execFileSync(process.execPath, ["-e", source], { encoding: "utf8", timeout: 60_000 });
      expect(out.trim()).toBe("1000");
    });
  });
}
