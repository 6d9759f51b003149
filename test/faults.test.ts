// Faults that a service meets: calls aborted at any moment, disks that are full, models that cannot be read. None kills the
// process, and none costs finished work.

import { execFileSync, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CodebookTrainer, CodeIndex, ResidualQuantizer, Statistics, vectorRange } from "../lib/index.js";
import { Random } from "../lib/random.js";
import { candidates, withForm } from "./contract/backends.js";

let folder = "";

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "rvq-faults-"));
});

afterAll(() => rm(folder, { recursive: true }));

function noise(length: number, seed: number): Float32Array {
  const random = new Random(seed);
  return Float32Array.from({ length }, () => random.fraction() - 0.5);
}

describe.each(candidates)("abort on $title", ({ name: backend, available, form }) => {
  if (!available) return it.skip("ends a call at any moment");

  it("ends a call at any moment, with the signal's reason, and later calls are right", async () => {
    const dim = 16;
    const codebooks = [noise(256 * dim, 1), noise(256 * dim, 2)];
    const rq = withForm(form, () => ResidualQuantizer.fromCodebooks(codebooks, { dim, backend }));
    const many = noise((form === "plain" ? 4000 : 40_000) * dim, 3);
    const few = many.subarray(0, 500 * dim);
    const codes = await rq.encode(many);
    const batcher = rq.batcher({ maxBatch: 64 });
    const index = await CodeIndex.create(rq, codes);
    const range = await vectorRange(many, { dim });
    const training = { dim, codebookSize: 32, stages: 2, iterations: 4, refinements: 1, backend };
    const batches = { ...training, refinements: undefined, sampleSize: 500, batchSize: 256 };
    const calls: Record<string, (signal: AbortSignal) => Promise<unknown>> = {
      encode: (signal) => rq.encode(many, { signal }),
      "encode with a beam": (signal) => rq.encode(few, { beam: 3, signal }),
      "encode in batches": (signal) => batcher.encode(few, { signal }),
      decode: (signal) => rq.decode(codes, { signal }),
      "decode in batches": (signal) => batcher.decode(codes, { signal }),
      distortion: (signal) => rq.distortion(many, codes, { signal }),
      refine: (signal) => rq.refine(few, { iterations: 2, signal }),
      train: (signal) => ResidualQuantizer.train(few, { ...training, signal }),
      trainFromBatches: (signal) => ResidualQuantizer.trainFromBatches(() => [few, few], { ...batches, signal }),
      "a trainer's step": async (signal) => {
        const trainer = CodebookTrainer.fromCodebooks(codebooks, { dim, backend });
        await trainer.step(few, { signal }).finally(() => expect([0, 1]).toContain(trainer.steps));
      },
      "statistics of a shard": async (signal) => (await Statistics.start(rq, range)).add(few, { signal }),
      search: (signal) => index.search(few, { signal }),
    };
    for (const [name, call] of Object.entries(calls)) {
      const start = performance.now();
      await withForm(form, () => call(new AbortController().signal));
      const wholeMs = performance.now() - start;
      for (let part = 0; part < 8; part++) {
        const controller = new AbortController();
        const reason = new Error(`${name}, ${part}`);
        const running = withForm(form, () => call(controller.signal)).then(
          () => "finished",
          (error) => error,
        );
        // First in the very turn of the event loop in which it started, when there is always something left to do.
        if (part === 0) controller.abort(reason);
        const timer = sleep((wholeMs * part) / 8).then(() => controller.abort(reason));
        const outcome = await running;
        await timer;
        if (outcome === reason) continue;
        if (part === 0) expect(outcome, `${name}, aborted at once`).toBe(reason);
        else expect(outcome, `${name}, aborted after ${part}/8 of ${wholeMs} ms`).toBe("finished");
      }
    }
    await batcher.close();
    expect(await rq.encode(many)).toEqual(codes);
  });
});

describe("a full disk", () => {
  const script = resolve("dist/index.js");
  /** Runs a script in a namespace of its own with a file system of 64 KiB at `folder`; null: why that is not permitted. */
  function onFullDisk(source: string): unknown {
    if (!existsSync(script)) throw new Error("dist/ is missing: npm run build");
    const mount = 'mount -t tmpfs -o size=64k tmpfs "$1" && exec "$2" -e "$3" "$1" "$4"';
    const args = ["--map-root-user", "--mount", "sh", "-c", mount, "sh", folder, process.execPath, source, script];
    return JSON.parse(execFileSync("unshare", args, { encoding: "utf8", timeout: 60_000 }));
  }
  const mayMount =
    spawnSync("unshare", ["--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).status === 0;

  const title = mayMount ? "" : " (skipped: this machine lets nobody mount a small one)";
  it.skipIf(!mayMount)(`keeps the old model, checkpoint and stream, and leaves nothing half-written${title}`, () => {
    const outcome = onFullDisk(`
      const fs = require("node:fs");
      const [, folder, library] = process.argv;
      const { CodebookTrainer, ResidualQuantizer, RvqReader, RvqWriter, writeFileAtomic } = require(library);
      const path = (name) => folder + "/" + name;
      const errorOf = (call) => call.then(() => "none", (error) => error.code + " " + /ENOSPC/.test(error.message));
      const model = (codewords) => ResidualQuantizer.fromCodebooks([new Float32Array(codewords * 16).fill(0.5)], { dim: 16, backend: "js" });
      async function main() {
        const small = model(64);
        const large = model(4096);
        await small.save(path("model.rvqm"));
        const trainer = CodebookTrainer.fromCodebooks(small.codebooks(), { dim: 16, backend: "js" });
        await trainer.save(path("run.rvqt"));
        const codes = { count: 100, stages: 1, data: new Uint16Array(100) };
        const options = { modelId: small.id, codebookSizes: [64], frameRate: 10, chunkFrames: 50 };
        const writer = await RvqWriter.create(path("stream.rvq"), options);
        await writer.write(codes);
        await writer.close();

        const before = fs.readdirSync(folder).sort();
        const errors = {
          model: await errorOf(large.save(path("model.rvqm"))),
          newModel: await errorOf(large.save(path("other.rvqm"))),
          checkpoint: await errorOf(CodebookTrainer.fromCodebooks(large.codebooks(), { dim: 16, backend: "js" }).save(path("run.rvqt"))),
          file: await errorOf(writeFileAtomic(path("bytes"), Buffer.alloc(100_000))),
        };
        const after = fs.readdirSync(folder).sort();

        // A stream that is continued until there is no room keeps what was flushed.
        const more = await RvqWriter.append(path("stream.rvq"));
        let stream = "none";
        let frames = 100;
        const noise = Uint16Array.from({ length: 5000 }, (_, i) => (i * 7919 + (i >> 3) * 104729) % 64);
        for (let i = 0; i < 50 && stream === "none"; i++) {
          stream = await errorOf((async () => { await more.write({ count: 5000, stages: 1, data: noise }); await more.flush(); })());
          if (stream === "none") frames += 5000;
        }
        await more.close().catch(() => {});
        fs.rmSync(path("run.rvqt"));
        const reader = await RvqReader.open(path("stream.rvq"));
        let readable = 0;
        for await (const chunk of reader.chunks()) readable += chunk.count ?? chunk.frames?.count ?? 0;
        const { id } = await ResidualQuantizer.load(path("model.rvqm"), { backend: "js" });
        console.log(JSON.stringify({ errors, before, after, stream, kept: readable >= frames, sameModel: id === small.id }));
      }
      main();
    `);
    const errors = { model: "IO true", newModel: "IO true", checkpoint: "IO true", file: "IO true" };
    const files = ["model.rvqm", "run.rvqt", "stream.rvq"];
    expect(outcome).toEqual({ errors, before: files, after: files, stream: "IO true", kept: true, sameModel: true });
  });
});

describe("a model that cannot be read", () => {
  it("is one typed error that names the file, whatever is wrong with it", async () => {
    const model = join(folder, "model.rvqm");
    const rq = ResidualQuantizer.fromCodebooks([noise(64, 1)], { dim: 4, backend: "js" });
    await rq.save(model);
    const bytes = rq.toBytes();
    await writeFile(join(folder, "cut.rvqm"), bytes.subarray(0, 100));
    await writeFile(join(folder, "empty.rvqm"), "");
    await writeFile(join(folder, "other.rvqm"), "not a model, but long enough to be taken for one: it has 44 bytes");
    await writeFile(join(folder, "sparse.rvqm"), "RVQM");
    await truncate(join(folder, "sparse.rvqm"), 1_000_000);
    await symlink("loop.rvqm", join(folder, "loop.rvqm"));
    const cases: [string, string][] = [
      [join(folder, "absent.rvqm"), "IO"],
      [folder, "IO"],
      [join(folder, "loop.rvqm"), "IO"],
      [join(folder, "cut.rvqm"), "INVALID_MODEL"],
      [join(folder, "empty.rvqm"), "INVALID_MODEL"],
      [join(folder, "other.rvqm"), "INVALID_MODEL"],
      [join(folder, "sparse.rvqm"), "INVALID_MODEL"],
    ];
    // A file whose first byte is a read error, as on a failing disk.
    if (existsSync("/proc/self/mem")) cases.push(["/proc/self/mem", "IO"]);
    for (const [path, code] of cases) {
      const error = await ResidualQuantizer.load(path).catch((reason: unknown) => reason);
      expect(error, path).toMatchObject({ name: "RvqError", code, message: expect.stringContaining(path) });
    }
    expect((await ResidualQuantizer.load(model)).id).toBe(rq.id);
  });
});
