// `rvq encode` and `rvq decode` on `.npy` files: the codes and the vectors of the library's own calls.

import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { GroupedQuantizer, ResidualQuantizer, RvqReader, readNpy, writeNpy } from "../lib/index.js";
import { Random } from "../lib/random.js";
import { runCli } from "./run-cli.js";

const dim = 6;
const random = new Random(1);
const vectors = Float32Array.from({ length: 500 * dim }, () => random.fraction() + random.fraction() - 1);
let folder = "";
let residual: ResidualQuantizer;
let grouped: GroupedQuantizer;

const inFolder = (name: string) => join(folder, name);
const rvq = (...args: string[]) => runCli(args);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "rvq-cli-vectors-"));
  const options = { dim, codebookSize: 8, stages: 3, iterations: 3 };
  residual = await ResidualQuantizer.train(vectors, options);
  grouped = await GroupedQuantizer.train(vectors, { ...options, groups: 2 });
  await residual.save(inFolder("residual.rvqm"));
  await grouped.save(inFolder("grouped.rvqm"));
  await writeFile(inFolder("v.npy"), writeNpy({ shape: [500, dim], data: vectors }));
});

afterAll(() => rm(folder, { recursive: true }));

describe("vectors on the command line", () => {
  it.each(["residual", "grouped"] as const)("are coded and come back: %s", async (name) => {
    const model = inFolder(`${name}.rvqm`);
    const quantizer = { residual, grouped }[name];
    for (const stages of [undefined, 2]) {
      const some = stages === undefined ? [] : ["--stages", String(stages)];
      const coded = await rvq("encode", inFolder("v.npy"), inFolder("v.rvq"), "-m", model, "--beam", "3", ...some);
      expect(coded.code, coded.err).toBe(0);
      const codes = await quantizer.encode(vectors, { beam: 3, stages });
      expect(coded.out).toMatch(
        /v\.npy: 500 vectors of 6\n.*v\.rvq: \d codes each, \d+ bytes, \d+\.\d\d bits a vector/,
      );
      expect(coded.out).toMatch(/SNR -?\d+\.\d\d dB\n$/);
      const reader = await RvqReader.open(inFolder("v.rvq"));
      expect(await reader.read()).toEqual({ ...codes, stageCounts: null });
      expect(reader.header.modelId).toBe(quantizer.id);
      await reader.close();

      const decoded = await rvq("decode", inFolder("v.rvq"), inFolder("back.npy"), "-m", model);
      expect(decoded.out).toMatch(/back\.npy: 500 vectors of 6 from (\d) of \1 codes each\n$/);
      const { shape, data } = readNpy(await readFile(inFolder("back.npy")));
      expect(shape).toEqual([500, dim]);
      expect(data).toEqual(await quantizer.decode(codes));

      await rvq("decode", inFolder("v.rvq"), inFolder("back.npy"), "-m", model, "--stages", "1");
      const { data: coarse } = readNpy(await readFile(inFolder("back.npy")));
      expect(coarse).toEqual(await quantizer.decode(codes, { stages: 1 }));
    }
  });

  it("are zeros where their codes are lost, and only with --recover", async () => {
    const model = inFolder("residual.rvqm");
    await rvq("encode", inFolder("v.npy"), inFolder("whole.rvq"), "-m", model);
    const bytes = await readFile(inFolder("whole.rvq"));
    const reader = await RvqReader.open(bytes);
    const facts = await reader.chunkFacts(0);
    bytes[(facts?.offset ?? 0) + (facts?.sizeBytes ?? 0) - 3] ^= 1;
    await writeFile(inFolder("damaged.rvq"), bytes);
    const args = ["decode", inFolder("damaged.rvq"), inFolder("recovered.npy"), "-m", model];
    const refused = await rvq(...args);
    expect([refused.code, existsSync(inFolder("recovered.npy"))]).toEqual([1, false]);
    const recovered = await rvq(...args, "--recover");
    expect(recovered.code, recovered.err).toBe(0);
    expect(recovered.err.match(/damaged\.rvq: chunk 0 /g)).toHaveLength(1);
    expect(readNpy(await readFile(inFolder("recovered.npy"))).shape).toEqual([500, dim]);
  });

  it("come with a word of what was mended, without --recover", async () => {
    const model = inFolder("residual.rvqm");
    await rvq("encode", inFolder("v.npy"), inFolder("sound.rvq"), "-m", model);
    const bytes = await readFile(inFolder("sound.rvq"));
    bytes[20] ^= 1;
    await writeFile(inFolder("mended.rvq"), bytes);
    const decoded = await rvq("decode", inFolder("mended.rvq"), inFolder("mended.npy"), "-m", model);
    expect([decoded.code, decoded.err]).toEqual([0, expect.stringMatching(/^.*mended\.rvq: .*header/)]);
  });

  it("are refused where they do not fit, leaving no file", async () => {
    const out = inFolder("none.rvq");
    const model = inFolder("residual.rvqm");
    await writeFile(inFolder("narrow.npy"), writeNpy({ shape: [2, 3], data: new Float32Array(6) }));
    await writeFile(inFolder("clip.wav"), "no audio");
    await rvq("encode", inFolder("v.npy"), inFolder("fit.rvq"), "-m", model);
    const failures: [string[], RegExp, number?][] = [
      [
        ["encode", inFolder("narrow.npy"), out, "-m", model],
        /narrow\.npy: expected vectors of 6 numbers, .* got 3 numb/,
      ],
      [["encode", inFolder("v.npy"), out, "-m", model, "--kbps", "3"], /--kbps: expected no rate for \.npy files/, 2],
      [["encode", inFolder("v.npy"), out, "-m", model, "--beam", "999"], /expected an integer from 1 to 256/, 2],
      [["encode", inFolder("v.npy"), out, "-m", model, "--stages", "4"], /stages: expected an integer from 1 to 3/],
      [
        ["encode", inFolder("clip.wav"), out, "-m", model],
        /residual\.rvqm: expected a model trained on audio .*, got one of/,
      ],
      [
        ["decode", inFolder("fit.rvq"), "none.npy", "-m", inFolder("grouped.rvqm")],
        /fit\.rvq: expected the model .* that coded/,
      ],
      [
        ["decode", inFolder("fit.rvq"), "none.npy", "-m", model, "--stages", "4"],
        /--stages: expected at most the 3 stages/,
      ],
    ];
    for (const [args, message, code = 1] of failures) {
      const result = await rvq(...args);
      expect(result.err).toMatch(message);
      expect(result.code, args.join(" ")).toBe(code);
      expect(existsSync(out) || existsSync("none.npy")).toBe(false);
    }
  });
});
