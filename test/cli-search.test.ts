// `rvq convert` and `rvq search` give what the library gives, and say what a file cannot hold.

import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  CodeIndex,
  GroupedQuantizer,
  ProjectedQuantizer,
  quantizerFromCheckpoint,
  ResidualQuantizer,
  readNpy,
  rvqToBytes,
  writeNpy,
  writeSafetensors,
} from "../lib/index.js";
import { Random } from "../lib/random.js";
import { asFile, dacTensors } from "./codec-checkpoints.js";
import { normal } from "./contract/families.js";
import { runCli } from "./run-cli.js";

const dim = 6;
let folder = "";
const inFolder = (name: string) => join(folder, name);
const random = new Random(1);
const gaussian = (length: number) => Float32Array.from({ length }, () => normal(random));
const originals = gaussian(200 * dim);
const queries = gaussian(3 * dim);
const rq = ResidualQuantizer.fromCodebooks([gaussian(16 * dim), gaussian(16 * dim), gaussian(16 * dim)], {
  dim,
  metadata: { name: "ö" },
});

const rvq = (...args: string[]) => runCli(args);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "rvq-cli-"));
  await rq.save(inFolder("model.rvqm"));
  const codes = await rq.encode(originals);
  const header = { modelId: rq.id, codebookSizes: rq.codebookSizes };
  await writeFile(inFolder("codes.rvq"), rvqToBytes(codes, header));
  const counts = new Uint16Array(200).fill(3);
  counts[7] = 2;
  await writeFile(inFolder("counted.rvq"), rvqToBytes({ ...codes, stageCounts: counts }, header));
  await writeFile(inFolder("queries.npy"), writeNpy({ shape: [3, dim], data: queries }));
  await writeFile(inFolder("one.npy"), writeNpy({ shape: [dim], data: queries.subarray(0, dim) }));
  await writeFile(inFolder("originals.npy"), writeNpy({ shape: [200, dim], data: originals }));
});

afterAll(() => rm(folder, { recursive: true }));

describe("rvq convert", () => {
  it.each(["npy", "safetensors"])("takes codebooks to .%s and back", async (ending) => {
    const [there, back] = [inFolder(`books.${ending}`), inFolder(`back-${ending}.rvqm`)];
    const away = await rvq("convert", inFolder("model.rvqm"), there);
    expect(away.out).toMatch(/^.*books\.\w+: 3 codebooks of dimension 6, metric l2, id [0-9a-f]{16}\n$/);
    expect((await rvq("convert", there, back)).code).toBe(0);
    expect((await ResidualQuantizer.load(back)).id).toBe(rq.id);
    if (ending === "npy") {
      expect(away.err).toMatch(/books\.npy: the metadata are left out: a \.npy file has no room for them\n$/);
      expect(readNpy(await readFile(there)).shape).toEqual([3, 16, 6]);
    } else {
      expect(away.err).toBe("");
      expect(await readFile(back)).toEqual(await readFile(inFolder("model.rvqm")));
    }
  });

  it("keeps weights, metric and sizes that differ in .safetensors", async () => {
    const weights = Float32Array.of(1, 0.5);
    const weighted = ResidualQuantizer.fromCodebooks([gaussian(8), gaussian(6)], { dim: 2, weights });
    const cosine = ResidualQuantizer.fromCodebooks([gaussian(8)], { dim: 2, metric: "cosine" });
    for (const one of [weighted, cosine]) {
      await one.save(inFolder("one.rvqm"));
      await rvq("convert", inFolder("one.rvqm"), inFolder("one.safetensors"));
      await rvq("convert", inFolder("one.safetensors"), inFolder("two.rvqm"));
      expect((await ResidualQuantizer.load(inFolder("two.rvqm"))).id).toBe(one.id);
    }
  });

  it("takes the one codebook and the metric that a .npy file is said to be", async () => {
    await writeFile(
      inFolder("flat.npy"),
      writeNpy({ shape: [4, 3], data: Float32Array.from({ length: 12 }, (_, i) => i) }),
    );
    expect((await rvq("convert", inFolder("flat.npy"), inFolder("flat.rvqm"), "--metric", "cosine")).code).toBe(0);
    const { metric, dim, codebookSizes } = await ResidualQuantizer.load(inFolder("flat.rvqm"));
    expect({ metric, dim, codebookSizes }).toEqual({ metric: "cosine", dim: 3, codebookSizes: [4] });
  });

  it("takes a quantizer out of a checkpoint, by name where there are several", async () => {
    const tensor = (...shape: number[]) => ({ shape, data: gaussian(shape.reduce((a, b) => a * b)) });
    const embed = tensor(1, 8, 4);
    await writeFile(inFolder("vq.safetensors"), writeSafetensors({ "vq.layers.0._codebook.embed": embed }));
    const alone = await rvq("convert", inFolder("vq.safetensors"), inFolder("vq.rvqm"));
    expect(alone.err).toMatch(/vq\.safetensors: the quantizer of vector-quantize-pytorch\n$/);
    expect((await ResidualQuantizer.load(inFolder("vq.rvqm"))).codebooks()).toEqual([embed.data]);

    const cosine = await rvq("convert", inFolder("vq.safetensors"), inFolder("vq.rvqm"), "--metric", "cosine");
    expect(cosine.out).toMatch(/: 1 codebooks of dimension 4, metric cosine, id /);
  });

  it("takes all of DAC's quantizer, or one stage of it, with its projections, to a model and to tensors and back", async () => {
    const tensors = dacTensors({ dim: 9, codeDim: 4, size: 8, stages: 2 }, "weight_g");
    await writeFile(inFolder("dac.safetensors"), writeSafetensors(tensors));
    const whole = await rvq("convert", inFolder("dac.safetensors"), inFolder("dac.rvqm"));
    expect(whole.err).toMatch(/dac\.safetensors: the quantizer of DAC\n$/);
    expect(whole.out).toMatch(
      /: 2 codebooks and projections of vectors of dimension 9, metric cosine, id [0-9a-f]{16}\n$/,
    );
    const model = await ProjectedQuantizer.load(inFolder("dac.rvqm"));
    expect(model.id).toBe(quantizerFromCheckpoint(asFile(tensors)).id);

    expect((await rvq("convert", inFolder("dac.rvqm"), inFolder("own.safetensors"))).code).toBe(0);
    expect((await rvq("convert", inFolder("own.safetensors"), inFolder("again.rvqm"))).code).toBe(0);
    expect(await readFile(inFolder("again.rvqm"))).toEqual(await readFile(inFolder("dac.rvqm")));
    const info = JSON.parse((await rvq("info", inFolder("dac.rvqm"), "--json")).out);
    expect(info).toMatchObject({
      ...{ type: "model with projections", dim: 9, arrangement: "residual", partDims: [4, 4], partStages: [1, 1] },
      ...{ metric: "cosine", stages: 2, codebookSizes: [8, 8], id: model.id },
    });

    const second = await rvq("convert", inFolder("dac.safetensors"), inFolder("one.rvqm"), "--quantizer", "1");
    expect(second.err).toMatch(/the quantizer "1" of DAC\n$/);
    expect((await ProjectedQuantizer.load(inFolder("one.rvqm"))).stages).toBe(1);
    const flat = await rvq("convert", inFolder("one.rvqm"), inFolder("stage.npy"));
    expect(flat.err).toMatch(
      /the metric cosine is left out: .* for it\n.*the projections are left out: .* for them\n$/,
    );
    expect(readNpy(await readFile(inFolder("stage.npy"))).shape).toEqual([1, 8, 4]);
  });

  it("takes grouped quantizers to tensors and back", async () => {
    const weights = Float32Array.of(1, 2, 3, 4, 5);
    const grouped = GroupedQuantizer.fromCodebooks(
      [
        [gaussian(8), gaussian(6)],
        [gaussian(12), gaussian(3)],
      ],
      { dim: 5, groups: [2, 3], weights, metadata: { name: "g" } },
    );
    await grouped.save(inFolder("grouped.rvqm"));
    const away = await rvq("convert", inFolder("grouped.rvqm"), inFolder("grouped.safetensors"));
    expect(away.out).toMatch(/: 4 codebooks of dimension 5, metric l2, id /);
    await rvq("convert", inFolder("grouped.safetensors"), inFolder("back.rvqm"));
    expect(await readFile(inFolder("back.rvqm"))).toEqual(await readFile(inFolder("grouped.rvqm")));
    expect(JSON.parse((await rvq("info", inFolder("back.rvqm"), "--json")).out)).toMatchObject({ groups: [2, 3] });
  });

  it("refuses what it cannot read or write, leaving no file", async () => {
    const uneven = ResidualQuantizer.fromCodebooks([gaussian(4), gaussian(6)], { dim: 2 });
    await uneven.save(inFolder("uneven.rvqm"));
    await writeFile(inFolder("cube.npy"), writeNpy({ shape: [1, 2, 3, 4], data: new Float32Array(24) }));
    await writeFile(inFolder("nothing.safetensors"), writeSafetensors({}));
    const odd = {
      "codebooks.0": { shape: [2, 2], data: gaussian(4) },
      "codebooks.1": { shape: [4], data: gaussian(4) },
    };
    await writeFile(inFolder("odd.safetensors"), writeSafetensors(odd));
    const out = inFolder("none.npy");
    for (const [args, message, code = 1] of [
      [["uneven.rvqm"], /none\.npy: expected codebooks of one size for a \.npy file, got sizes 2, 3/],
      [["cube.npy"], /cube\.npy: expected codebooks of shape .*, got 1 × 2 × 3 × 4/],
      [["codes.rvq"], /path: expected a file that ends in \.rvqm, \.npy, \.safetensors, got ".*codes\.rvq"/, 2],
      [["nothing.safetensors"], /expected tensors named .*, got no tensors/],
      [["odd.safetensors"], /odd\.safetensors: expected codebooks\.1 of shape codewords × 2, got 4/],
      [["model.rvqm", "--metric", "l2"], /--metric: expected only with a \.npy file or a checkpoint, got /, 2],
      [
        ["own.safetensors", "--metric", "l2"],
        /--metric: expected only with a checkpoint, got .*own\.safetensors, which says/,
      ],
      [["dac.safetensors", "--metric", "l2"], /metric: expected none: that of DAC is known, got "l2"/],
      [["dac.safetensors", "--quantizer", "7"], /quantizer: expected one of 0, 1 in this checkpoint of DAC, got "7"/],
      [["dac.rvqm"], /none\.npy: expected one set of codebooks for a \.npy file, got 2 parts \(a \.safetensors/],
      [["grouped.rvqm"], /none\.npy: expected one set of codebooks for a \.npy file, got 2 groups/],
      [["queries.npy", "--quantizer", "0"], /--quantizer: expected only with a checkpoint, got /, 2],
      [["missing.npy"], /missing\.npy: cannot be read: ENOENT/],
    ] as const) {
      const [input, ...rest] = args;
      const result = await rvq("convert", inFolder(input), out, ...rest);
      expect(result.err).toMatch(message);
      expect([result.code, existsSync(out)]).toEqual([code, false]);
    }
  });
});

describe("rvq search", () => {
  it("prints what the index finds", async () => {
    const index = await CodeIndex.create(rq, await rq.encode(originals));
    const args = ["search", inFolder("codes.rvq"), inFolder("queries.npy"), "-m", inFolder("model.rvqm")];
    for (const metric of ["l2", "ip"] as const) {
      const { ids, scores } = await index.search(queries, { k: 4, metric });
      const found = JSON.parse((await rvq(...args, "-k", "4", "--metric", metric, "--json")).out);
      expect(found).toHaveLength(3);
      expect(found[1]).toEqual({ ids: [...ids.subarray(4, 8)], scores: [...scores.subarray(4, 8)] });
    }
    const { ids } = await index.search(queries, { k: 2 });
    const lines = (await rvq(...args, "-k", "2")).out.split("\n");
    expect(lines[0]).toMatch(/^query +rank +frame +squared distance$/);
    expect(lines.slice(1, 7).map((line) => line.trim().split(/ +/).slice(0, 3).map(Number))).toEqual(
      [...ids].map((id, i) => [Math.floor(i / 2), (i % 2) + 1, id]),
    );
  });

  it("searches what a codec's quantizer has coded, and audio commands refuse its model with the reason", async () => {
    const pq = quantizerFromCheckpoint(asFile(dacTensors({ dim, codeDim: 3, size: 8, stages: 3 }, "folded")));
    if (!(pq instanceof ProjectedQuantizer)) throw new Error("not a ProjectedQuantizer");
    await pq.save(inFolder("codec.rvqm"));
    const codes = await pq.encode(originals);
    const header = { modelId: pq.id, codebookSizes: pq.codebookSizes };
    await writeFile(inFolder("codec.rvq"), await rvqToBytes(codes, header));
    const { ids } = await (await CodeIndex.create(pq, codes)).search(queries, { k: 3 });
    const args = ["search", inFolder("codec.rvq"), inFolder("queries.npy"), "-k", "3", "--json"];
    const found = JSON.parse((await rvq(...args, "-m", inFolder("codec.rvqm"))).out) as { ids: number[] }[];
    expect(found.flatMap((one) => one.ids)).toEqual([...ids]);
    const groupedModel = await rvq(...args, "-m", inFolder("grouped.rvqm"));
    expect(groupedModel.err).toMatch(
      /grouped\.rvqm: expected a model that an index can search, got one of dimensions in groups/,
    );
    for (const command of [
      ["encode", inFolder("a.wav"), inFolder("a.rvq")],
      ["decode", inFolder("codec.rvq"), inFolder("a.wav")],
    ]) {
      const refused = await rvq(...command, "-m", inFolder("codec.rvqm"));
      expect([refused.code, existsSync(inFolder("a.rvq")), existsSync(inFolder("a.wav"))]).toEqual([1, false, false]);
      expect(refused.err).toMatch(
        command[0] === "encode"
          ? /codec\.rvqm: expected a model trained on audio .*, got one whose vectors are the latents of a codec/
          : /codec\.rvq: expected coded audio/,
      );
    }
  });

  it("ranks again by the originals, and searches by fewer stages", async () => {
    const args = [
      "search",
      inFolder("codes.rvq"),
      inFolder("one.npy"),
      "-m",
      inFolder("model.rvqm"),
      "-k",
      "3",
      "--json",
    ];
    const exact = await rvq(...args, "--vectors", inFolder("originals.npy"), "--rerank", "200");
    const distance = (id: number) =>
      originals.subarray(id * dim, (id + 1) * dim).reduce((sum, x, i) => sum + (x - queries[i]) ** 2, 0);
    const nearest = Array.from({ length: 200 }, (_, id) => id).sort((a, b) => distance(a) - distance(b));
    expect(JSON.parse(exact.out)[0].ids).toEqual(nearest.slice(0, 3));

    const one = await CodeIndex.create(rq, await rq.encode(originals, { stages: 1 }));
    const { ids } = await one.search(queries.subarray(0, dim), { k: 3 });
    expect(JSON.parse((await rvq(...args, "--stages", "1")).out)[0].ids).toEqual([...ids]);
  });

  it("refuses files that do not fit together", async () => {
    await ResidualQuantizer.fromCodebooks([gaussian(dim)], { dim }).save(inFolder("other.rvqm"));
    await writeFile(inFolder("wide.npy"), writeNpy({ shape: [1, 7], data: new Float32Array(7) }));
    for (const [codes, rows, model, message] of [
      [
        "codes.rvq",
        "queries.npy",
        "other.rvqm",
        /codes\.rvq: expected the model [0-9a-f]{16} that coded it, got .*other/,
      ],
      ["codes.rvq", "wide.npy", "model.rvqm", /wide\.npy: expected rows of 6 numbers, got 1 × 7/],
      [
        "counted.rvq",
        "queries.npy",
        "model.rvqm",
        /counted\.rvq: expected 3 stages of every frame, got frames with fewer/,
      ],
      ["codes.rvq", "model.rvqm", "model.rvqm", /model\.rvqm: npy: expected a file that begins with/],
    ] as const) {
      const result = await rvq("search", inFolder(codes), inFolder(rows), "-m", inFolder(model));
      expect(result.err).toMatch(message);
      expect([result.code, result.out]).toEqual([1, ""]);
    }
    const trimmed = ["search", inFolder("counted.rvq"), inFolder("queries.npy"), "-m", inFolder("model.rvqm")];
    expect((await rvq(...trimmed, "--stages", "2")).code).toBe(0);
    expect((await rvq(...trimmed, "-k", "0")).code).toBe(2);
  });
});
