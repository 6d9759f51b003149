// The programs of the package's users in scripts/pack-test.mjs, by file name.

// The same quantizer and codes on every backend; the answer tells them by a hash.
const body = `
  const vectors = Float32Array.from({ length: 4000 }, (_, i) => Math.fround(Math.imul(i + 1, 2654435761) % 1009 / 64));
  const rq = await rvq.ResidualQuantizer.train(vectors, { dim: 8, codebookSize: 16, stages: 3, seed: 1, iterations: 4 });
  const codes = await rq.encode(vectors);
  const sum = createHash("sha256").update(codes.data).update(await rq.decode(codes)).digest("hex").slice(0, 16);
  const { backends } = rvq.status();
  const reasons = backends.filter(({ available }) => !available).map(({ name, reason }) => name + ": " + reason);
  console.log(JSON.stringify({ backend: rq.backend, sum, reasons }));
`;
export const programs = {
  "required.cjs": `const { createHash } = require("node:crypto"); const rvq = require("rvq");
    (async () => {${body}})();`,
  "imported.mjs": `import { createHash } from "node:crypto"; import * as rvq from "rvq";${body}`,
  "worker.mjs": `import { Worker } from "node:worker_threads"; new Worker(new URL("./imported.mjs", import.meta.url));`,
  // A hundred workers load the package and are terminated in mid-call; the calls of another one and of this thread go on.
  "terminated.mjs": `import { Worker } from "node:worker_threads"; import { once } from "node:events";
    import { createHash } from "node:crypto"; import { setTimeout as sleep } from "node:timers/promises";
    import * as rvq from "rvq";
    const doomed = "const { parentPort } = require('node:worker_threads'); const rvq = require('rvq');" +
      "const rq = rvq.ResidualQuantizer.fromCodebooks([new Float32Array(4096).map((_, i) => i % 61)], { dim: 16 });" +
      "const vectors = new Float32Array(16 * 500).map((_, i) => i % 53);" +
      "const loop = async () => { for (;;) await rq.decode(await rq.encode(vectors)); };" +
      "for (let i = 0; i < 4; i++) loop(); parentPort.postMessage(rq.backend);";
    for (let i = 0; i < 100; i++) {
      const worker = new Worker(doomed, { eval: true });
      await once(worker, "message");
      await sleep((i * 7) % 5);
      if ((await worker.terminate()) !== 1) throw new Error("a worker ended by itself");
    }
    ${body}`,
  "typed.mts": `import { ResidualQuantizer, type Codes } from "rvq";
    export const codes: Codes = ResidualQuantizer.fromCodebooks([new Float32Array(4)], { dim: 2 }).encodeSync(new Float32Array(2));
    // @ts-expect-error the number of dimensions is not optional
    ResidualQuantizer.fromCodebooks([new Float32Array(4)], {});
    import { Cluster, type CorpusManifest } from "rvq/cluster";
    export const open: (options: { inputs: string; outputs: string }) => Promise<Cluster> = Cluster.open;
    export type Parts = CorpusManifest["parts"];`,
  "typed.cts": `import rvq = require("rvq");
    import cluster = require("rvq/cluster");
    export const text: string = rvq.ResidualQuantizer.fromCodebooks([new Float32Array(4)], { dim: 2 }).backend;
    export const start: (options: { inputs: string; outputs: string }) => Promise<cluster.ClusterWorker> =
      cluster.ClusterWorker.start;`,
  // Its peers are not there: it loads, works in this process, and says what to install for more.
  "cluster.mjs": `import { createRequire } from "node:module"; import fs from "node:fs";
    import { Cluster } from "rvq/cluster"; import { ResidualQuantizer } from "rvq";
    if (createRequire(import.meta.url)("rvq/cluster").Cluster !== Cluster) throw new Error("two copies");
    fs.mkdirSync("corpus", { recursive: true });
    fs.writeFileSync("corpus/in.f32", new Uint8Array(new Float32Array(80).fill(1).buffer));
    const folders = { inputs: "corpus", outputs: "corpus" };
    const rq = ResidualQuantizer.fromCodebooks([new Float32Array(4)], { dim: 2 });
    const { rows } = await (await Cluster.local(folders)).encode(rq, ["in.f32"], { output: "codes" });
    const { code } = await Cluster.open(folders).catch((error) => error);
    console.log(JSON.stringify({ rows, code }));`,
};
