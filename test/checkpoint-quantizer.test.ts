// Quantizers from checkpoints of codecs: in every form in which they are saved, and hostile or broken ones are refused.

import { execFileSync, spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  type FromCheckpointOptions,
  GroupedQuantizer,
  loadQuantizer,
  ProjectedQuantizer,
  quantizerFromBytes,
  quantizerFromCheckpoint,
  ResidualQuantizer,
  RvqError,
  type Tensor,
  writeSafetensors,
} from "../lib/index.js";
import { asFile, dacTensors, gaussian, mimiTensors, type Tensors, tensor } from "./codec-checkpoints.js";
import { expectSame } from "./contract/backends.js";
import { unseal } from "./reseal.js";

const seed = Number(process.env.RVQ_FUZZ_SEED ?? 1);
const scale = Number(process.env.RVQ_FUZZ_SCALE ?? 1);

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "rvq-checkpoint-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const from = (tensors: Tensors, options: FromCheckpointOptions = {}) =>
  quantizerFromCheckpoint(asFile(tensors), { backend: "js", ...options });

const idOf = (tensors: Tensors, options: FromCheckpointOptions = {}) => from(tensors, options).id;

function refusal(work: () => unknown): RvqError {
  try {
    work();
  } catch (error) {
    if (error instanceof RvqError) return error;
    throw error;
  }
  throw new Error("was accepted");
}

const dacShape = { dim: 12, codeDim: 4, size: 9, stages: 3 };
const mimiShape = { dim: 10, codeDim: 6, size: 7, rest: 3 };
const embed = (name: string, heads = 1): Tensor => tensor(name, [heads, 5, 4]);

describe("a quantizer from a checkpoint", () => {
  it("of DAC is the same whether weights are folded or normalized in the older or the newer form", () => {
    const id = idOf(dacTensors(dacShape, "weight_g"));
    expect(idOf(dacTensors(dacShape, "parametrizations"))).toBe(id);
    expect(idOf(dacTensors(dacShape, "folded"))).toBe(id);
    expect(idOf(dacTensors(dacShape, "weight_g", "state.model."))).toBe(id);
    const quantizer = from(dacTensors(dacShape, "folded"), { metadata: { rate: 44_100 } }) as ProjectedQuantizer;
    expect(quantizer).toBeInstanceOf(ProjectedQuantizer);
    const { arrangement, metric, stages, dim, codebookSizes, metadata } = quantizer;
    expect({ arrangement, metric, stages, dim, codebookSizes, metadata }).toEqual({
      ...{ arrangement: "residual", metric: "cosine", stages: 3, dim: 12 },
      ...{ codebookSizes: [9, 9, 9], metadata: { rate: 44_100 } },
    });
  });

  it("of Mimi is the same under the names of Kyutai and of Hugging Face, and has the first quantizer's code first", () => {
    const tensors = mimiTensors(mimiShape, "Kyutai");
    expect(idOf(tensors)).toBe(idOf(mimiTensors(mimiShape, "Hugging Face")));
    const quantizer = from(tensors) as ProjectedQuantizer;
    expect([quantizer.arrangement, quantizer.stages, quantizer.dim]).toEqual(["parallel", 4, 10]);
    const vectors = gaussian(5, 10 * 20);
    const codes = quantizer.encodeSync(vectors);
    const [first, rest] = ["first", "rest"].map((name) => from(tensors, { quantizer: name }) as ProjectedQuantizer);
    // Both see the vectors themselves.
    expectSame(quantizer.encodeSync(vectors, { stages: 1 }).data, first.encodeSync(vectors).data, {});
    const ofRest = rest.encodeSync(vectors).data;
    expectSame(
      codes.data,
      Array.from(codes.data, (_, i) => (i % 4 === 0 ? codes.data[i] : ofRest[Math.floor(i / 4) * 3 + (i % 4) - 1])),
      {},
    );
    const sum = first
      .decodeSync({ count: 20, stages: 1, data: quantizer.encodeSync(vectors, { stages: 1 }).data })
      .map((value, i) => value + rest.decodeSync(rest.encodeSync(vectors))[i]);
    expectSame(quantizer.decodeSync(codes), sum, {});
  });

  it("of EnCodec has nothing but codebooks", () => {
    const tensors = Object.fromEntries(
      [0, 1].map((i) => [`quantizer.vq.layers.${i}._codebook.embed`, tensor(`${i}`, [8, 4])]),
    );
    const quantizer = from(tensors) as ResidualQuantizer;
    expect(quantizer).toBeInstanceOf(ResidualQuantizer);
    expect(quantizer.codebooks()).toEqual([tensor("0", [8, 4]).data, tensor("1", [8, 4]).data]);
  });

  it("of EnCodec with projections in its stages takes residuals after them", () => {
    const tensors: Tensors = {};
    for (const i of [0, 1]) {
      const base = `quantizer.vq.layers.${i}`;
      tensors[`${base}._codebook.embed`] = tensor(`${i}`, [8, 4]);
      tensors[`${base}.project_in.weight`] = tensor(`in${i}`, [4, 6]);
      tensors[`${base}.project_out.weight`] = tensor(`out${i}`, [6, 4]);
    }
    const quantizer = from(tensors) as ProjectedQuantizer;
    expect([quantizer.arrangement, quantizer.metric, quantizer.dim, quantizer.stages]).toEqual([
      "residual",
      "l2",
      6,
      2,
    ]);
  });

  it("of vector-quantize-pytorch is what its modules are", () => {
    const layers = { "a.layers.0._codebook.embed": embed("0"), "a.layers.1._codebook.embed": embed("1") };
    const residual = from(layers) as ResidualQuantizer;
    expect([residual.stages, residual.dim, residual.metric]).toEqual([2, 4, "l2"]);
    expect((from(layers, { metric: "cosine" }) as ResidualQuantizer).metric).toBe("cosine");
    const single = from({ "vq._codebook.embed": embed("0") }) as ResidualQuantizer;
    expect(single.codebooks()).toEqual([embed("0").data]);

    const heads = from({ "layers.0._codebook.embed": embed("0", 3), "layers.1._codebook.embed": embed("1", 3) });
    expect(heads).toBeInstanceOf(GroupedQuantizer);
    const groups = Object.fromEntries(
      [0, 1, 2].flatMap((g) =>
        [0, 1].map((i) => {
          const data = embed(`${i}`, 3).data.slice(g * 20, (g + 1) * 20);
          return [`m.rvqs.${g}.layers.${i}._codebook.embed`, { shape: [1, 5, 4], data }];
        }),
      ),
    );
    expect(from(groups).id).toBe(heads.id);
    expect((heads as GroupedQuantizer).groups).toEqual([4, 4, 4]);

    const projected = {
      ...layers,
      "a.project_in.weight": tensor("in", [4, 9]),
      "a.project_in.bias": tensor("bias", [4]),
      "a.project_out.weight": tensor("out", [9, 4]),
    };
    const quantizer = from(projected, { metric: "cosine" }) as ProjectedQuantizer;
    expect([quantizer.dim, quantizer.stages, quantizer.metric]).toEqual([9, 2, "cosine"]);
    expect(quantizer.parts()[0]).toMatchObject({
      dim: 4,
      input: { bias: tensor("bias", [4]).data },
      output: { bias: null },
    });
  });

  const dac = dacTensors(dacShape, "weight_g");
  const mimi = mimiTensors(mimiShape, "Kyutai");
  const dacBase = "quantizer.quantizers.1";
  const without = (tensors: Tensors, name: string) =>
    Object.fromEntries(Object.entries(tensors).filter(([other]) => other !== name));
  const numbers = (name: string, at: number, value: number, tensors = dac): Tensors => {
    const data = tensors[name].data.slice();
    data[at] = value;
    return { ...tensors, [name]: { ...tensors[name], data } };
  };
  it.each<[string, Tensors, RegExp]>([
    [
      "of a projection its length",
      without(dac, `${dacBase}.in_proj.weight_g`),
      /expected tensors named quantizer\.quantizers\.1\.in_proj\.weight_g, got encoder\.block/,
    ],
    [
      "of a projection its direction",
      without(dac, `${dacBase}.out_proj.weight_v`),
      /named \S+1\.out_proj\.weight or \S+weight_v with \S+weight_g or \S+original1 with \S+original0, got encoder/,
    ],
    [
      "all of a projection",
      Object.fromEntries(Object.entries(dac).filter(([name]) => !name.startsWith(`${dacBase}.in_proj`))),
      /expected tensors named quantizer\.quantizers\.1\.in_proj\.weight or .*, got encoder/,
    ],
    [
      "Mimi's projections",
      without(mimi, "quantizer.rvq_rest.input_proj.weight"),
      /named quantizer\.rvq_rest\.input_proj/,
    ],
    [
      "one of Mimi's quantizers",
      Object.fromEntries(Object.entries(mimi).filter(([name]) => name.includes("rvq_first"))),
      /named quantizer\.rvq_rest\.vq\.layers\.\{i\}\._codebook\.embedding_sum, got quantizer\.rvq_first/,
    ],
  ])("is refused where it lacks %s", (_, tensors, message) => {
    const error = refusal(() => from(tensors));
    expect([error.code, error.message]).toEqual(["INVALID_MODEL", expect.stringMatching(message)]);
  });

  it.each<[string, Tensors, RegExp]>([
    [
      "a direction of zero length",
      { ...dac, [`${dacBase}.in_proj.weight_v`]: { shape: [4, 12, 1], data: new Float32Array(48).fill(1, 0, 24) } },
      /1\.in_proj\.weight_v: expected rows that have a direction, got zeros in row 2/,
    ],
    [
      "NaN among the weights",
      numbers(`${dacBase}.out_proj.weight_v`, 3, Number.NaN),
      /1\.out_proj\.weight_v: expected finite numbers, got NaN in element 3/,
    ],
    [
      "an infinite length",
      numbers(`${dacBase}.out_proj.weight_g`, 0, Infinity),
      /1\.out_proj\.weight_g: expected finite numbers, got Infinity in element 0/,
    ],
    [
      "NaN among the codewords",
      numbers(`${dacBase}.codebook.weight`, 5, Number.NaN),
      /codebook\.weight: expected finite/,
    ],
    [
      "a codeword without direction",
      { ...dac, [`${dacBase}.codebook.weight`]: { shape: [9, 4], data: new Float32Array(36) } },
      /checkpoint of DAC: parts\[1\]\.codebooks\[0\]: expected vectors that are not zero, got zeros in row 0/,
    ],
    [
      "a convolution of kernel size 3",
      { ...dac, [`${dacBase}.in_proj.weight_v`]: tensor("wide", [4, 12, 3]) },
      /1\.in_proj\.weight_v: expected a weight out × in \(× 1\), got 4 × 12 × 3/,
    ],
    [
      "a projection to other codewords",
      {
        ...dac,
        [`${dacBase}.in_proj.weight_v`]: tensor("other", [5, 12, 1]),
        [`${dacBase}.in_proj.weight_g`]: tensor("g", [5]),
        [`${dacBase}.in_proj.bias`]: tensor("b", [5]),
      },
      /checkpoint of DAC: parts\[1\]\.input\.outDim: expected 4, of what it leads to, got 5/,
    ],
    [
      "stages of other vectors",
      { ...dac, [`${dacBase}.in_proj.weight_v`]: tensor("other", [4, 11, 1]) },
      /checkpoint of DAC: parts\[1\]\.input\.inDim: expected 12, of what it is applied to, got 11/,
    ],
    [
      "a bias of another length",
      { ...dac, [`${dacBase}.out_proj.bias`]: tensor("bias", [11]) },
      /1\.out_proj\.bias: expected 12 elements, got 11/,
    ],
    [
      "usage that is not a number",
      numbers("quantizer.rvq_first.vq.layers.0._codebook.cluster_usage", 2, Number.NaN, mimi),
      /cluster_usage: expected finite numbers, got NaN in element 2/,
    ],
    [
      "codewords that overflow",
      numbers("quantizer.rvq_first.vq.layers.0._codebook.embedding_sum", 6, 1e38, mimi),
      /embedding_sum \/ \S+cluster_usage: expected finite numbers, got Infinity in element 6/,
    ],
    [
      "implicit neural codebooks",
      { "layers.0._codebook.embed": embed("0"), "mlps.0.weight": tensor("m", [2, 2]) },
      /expected no implicit neural codebooks, got mlps\.0\.weight/,
    ],
    [
      "codebooks with an affine transform",
      { "layers.0._codebook.embed": embed("0"), "layers.0._codebook.codebook_mean": tensor("m", [1, 1, 4]) },
      /expected no codebooks with an affine transform, got layers\.0\._codebook\.codebook_mean/,
    ],
    [
      "several heads behind a projection",
      {
        "layers.0._codebook.embed": embed("0", 2),
        "project_in.weight": tensor("in", [8, 9]),
        "project_out.weight": tensor("o", [9, 8]),
      },
      /layers\.0\._codebook\.embed: expected one head behind projections, got 2/,
    ],
    [
      "groups with projections",
      Object.fromEntries(
        ["rvqs.0.", "rvqs.1."].flatMap((base) => [
          [`${base}layers.0._codebook.embed`, embed("0")],
          [`${base}project_in.weight`, tensor("in", [4, 9])],
          [`${base}project_out.weight`, tensor("o", [9, 4])],
        ]),
      ),
      /checkpoint of vector-quantize-pytorch: expected groups without projections, got groups with some/,
    ],
    [
      "groups of different stages",
      {
        "rvqs.0.layers.0._codebook.embed": embed("0"),
        "rvqs.1.layers.0._codebook.embed": embed("0"),
        "rvqs.1.layers.1._codebook.embed": embed("0"),
      },
      /expected as many stages in every group, got 1, 2/,
    ],
  ])("is refused with %s", (_, tensors, message) => {
    const error = refusal(() => from(tensors));
    expect([error.code, error.message]).toEqual(["INVALID_MODEL", expect.stringMatching(message)]);
  });

  it("refuses options that do not fit the checkpoint", () => {
    expect(refusal(() => from(dac, { metric: "l2" }))).toMatchObject({
      code: "INVALID_ARGUMENT",
      message: 'metric: expected none: that of DAC is known, got "l2"',
    });
    expect(refusal(() => from(dac, { quantizer: "9" }))).toMatchObject({
      code: "INVALID_ARGUMENT",
      message: 'quantizer: expected one of 0, 1, 2 in this checkpoint of DAC, got "9"',
    });
    expect(refusal(() => from(dac, { backend: "tpu" as "js" })).code).toBe("INVALID_ARGUMENT");
    expect(refusal(() => from(dac, { metadata: 3 as never })).code).toBe("INVALID_ARGUMENT");
  });

  it("is made or refused with a typed error whatever the tensors are", () => {
    const whole = [dac, mimi, dacTensors(dacShape, "parametrizations"), dacTensors(dacShape, "folded")];
    const anyTensor = fc.array(fc.nat(6), { maxLength: 3 }).map((shape) => {
      const length = shape.reduce((product, size) => product * size, 1);
      return { shape, data: gaussian(length, length) };
    });
    const edit = fc.oneof(
      fc.constant(null),
      anyTensor,
      fc.constantFrom(0, -0, Number.NaN, Infinity, 3e38, 1e-45).map((value) => ({ value })),
    );
    fc.assert(
      fc.property(
        fc.nat(whole.length - 1),
        fc.array(fc.tuple(fc.nat(100), edit), { minLength: 1, maxLength: 3 }),
        (which, edits) => {
          const tensors = { ...whole[which] };
          for (const [at, change] of edits) {
            const names = Object.keys(tensors);
            const name = names[at % names.length];
            if (change === null) delete tensors[name];
            else if ("shape" in change) tensors[name] = change;
            else
              tensors[name] = {
                ...tensors[name],
                data: tensors[name].data.map((x, i) => (i % 7 === at % 7 ? change.value : x)),
              };
          }
          try {
            const quantizer = from(tensors);
            const codes = quantizer.encodeSync(gaussian(3, 4 * quantizer.dim, 0.1));
            expect(quantizer.decodeSync(codes).length).toBe(4 * quantizer.dim);
          } catch (error) {
            expect(error).toBeInstanceOf(RvqError);
            expect((error as RvqError).code).toMatch(/^(INVALID_MODEL|NOT_FINITE)$/);
          }
        },
      ),
      { seed, numRuns: 300 * scale },
    );
  });
});

describe("a projected model", () => {
  const model = from(dacTensors(dacShape, "weight_g"), { metadata: { note: "ä" } }) as ProjectedQuantizer;
  const bytes = model.toBytes();
  const { header, reseal } = unseal(Buffer.from(bytes));

  it("has the bytes that the format describes", () => {
    const weight = Float32Array.of(1.5);
    const input = { weight, bias: Float32Array.of(2.5), inDim: 1, outDim: 1 };
    const part = { dim: 1, codebooks: [Float32Array.of(3.5, 4.5)], input, output: null };
    const written = Buffer.from(ProjectedQuantizer.fromParts([part], { dim: 1, backend: "js" }).toBytes());
    const json =
      '{"dim":1,"metric":"l2","arrangement":"residual","parts":[{"dim":1,"codebookSizes":[2],"input":{"bias":true},"output":null}],"metadata":{}}';
    const padded = json.padEnd(Math.ceil(json.length / 4) * 4, " ");
    expect(written.toString("latin1", 0, 4)).toBe("RVQP");
    expect([written.readUInt32LE(4), written.readUInt32LE(8)]).toEqual([1, padded.length]);
    expect(written.toString("utf8", 12, 12 + padded.length)).toBe(padded);
    expect([0, 1, 2, 3].map((i) => written.readFloatLE(12 + padded.length + 4 * i))).toEqual([1.5, 2.5, 3.5, 4.5]);
    expect(written.length).toBe(12 + padded.length + 16 + 32);
  });

  it("comes back from a file, whoever reads it", async () => {
    const file = join(folder, "dac.rvqm");
    await model.save(file);
    for (const copy of [await ProjectedQuantizer.load(file), await loadQuantizer(file), quantizerFromBytes(bytes)]) {
      expect(copy).toBeInstanceOf(ProjectedQuantizer);
      expect([copy.id, copy.metadata]).toEqual([model.id, { note: "ä" }]);
    }
    await expect(ResidualQuantizer.load(file)).rejects.toMatchObject({ code: "INVALID_MODEL" });
    const residual = ResidualQuantizer.fromCodebooks([Float32Array.of(1)], { dim: 1 });
    const grouped = GroupedQuantizer.fromCodebooks([[Float32Array.of(1)]], { dim: 1, groups: 1 });
    expect(quantizerFromBytes(residual.toBytes())).toBeInstanceOf(ResidualQuantizer);
    expect(quantizerFromBytes(grouped.toBytes())).toBeInstanceOf(GroupedQuantizer);
    await writeFile(file, "RVQP and no more");
    await expect(loadQuantizer(file)).rejects.toMatchObject({
      code: "INVALID_MODEL",
      message: expect.stringMatching(/dac\.rvqm: /),
    });
    await expect(loadQuantizer(join(folder, "none"))).rejects.toMatchObject({ code: "IO" });
    expect(refusal(() => quantizerFromBytes(new Uint8Array(2))).code).toBe("INVALID_MODEL");
  });

  it("has an id that all of it but the metadata decides", () => {
    const parts = model.parts();
    const { metric, arrangement, dim } = model;
    const other = (more: object, changed = parts) =>
      ProjectedQuantizer.fromParts(changed, { dim, metric, arrangement, backend: "js", ...more }).id;
    expect(other({ metadata: { other: 1 } })).toBe(model.id);
    const ids = new Set([model.id, other({ metric: "l2" }), other({ arrangement: "parallel" })]);
    for (const [p, part] of parts.entries()) {
      const replaced = (changes: object) => parts.map((one, i) => (i === p ? { ...part, ...changes } : one));
      const { input, output } = part;
      ids.add(other({}, replaced({ codebooks: part.codebooks.map((codebook) => codebook.map((x) => 2 * x)) })));
      ids.add(other({}, replaced({ input: { ...input, weight: input?.weight.map((x) => 2 * x) } })));
      ids.add(other({}, replaced({ output: { ...output, bias: null } })));
    }
    expect(ids.size).toBe(3 + 3 * parts.length);
  });

  it("is refused after any truncation or flipped bit", () => {
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.nat(7), fc.boolean(), (position, bit, cut) => {
        const damaged = cut ? bytes.slice(0, position) : bytes.slice();
        if (!cut) damaged[position] ^= 1 << bit;
        expect(refusal(() => ProjectedQuantizer.fromBytes(damaged)).code).toBe("INVALID_MODEL");
      }),
      { seed, numRuns: 500 * scale },
    );
  });

  it("is read or refused when its header lies, even with a valid digest", () => {
    const parts = header.parts as object[];
    const lie = (part: object) => ({ parts: [{ ...parts[0], ...part }, ...parts.slice(1)] });
    const lies: [object, RegExp][] = [
      [{ dim: 1e9 }, /dim/],
      [{ dim: 13 }, /bytes of float32/],
      [{ metric: "dot" }, /metric/],
      [{ arrangement: "x" }, /arrangement/],
      [{ parts: [] }, /parts\.length/],
      [{ parts: new Array(100_000).fill(parts[0]) }, /parts\.length/],
      [{ parts: null }, /parts/],
      [lie({ dim: 0 }), /parts\[0\]\.dim/],
      [lie({ codebookSizes: [16_000_000] }), /bytes of float32/],
      [lie({ codebookSizes: null }), /codebookSizes/],
      [lie({ input: null }), /bytes of float32/],
      [lie({ input: { bias: 1 } }), /parts\[0\]\.input/],
      [lie({ output: 7 }), /parts\[0\]\.output/],
      [{ metadata: 3 }, /metadata/],
    ];
    for (const [fields, message] of lies) {
      const error = refusal(() => ProjectedQuantizer.fromBytes(reseal(fields)));
      expect([error.code, error.message]).toEqual(["INVALID_MODEL", expect.stringMatching(message)]);
    }

    const json = fc.jsonValue({ maxDepth: 3 });
    const field = fc.constantFrom("dim", "metric", "arrangement", "parts", "metadata");
    fc.assert(
      fc.property(field, json, fc.nat(bytes.length), (name, value, length) => {
        try {
          ProjectedQuantizer.fromBytes(reseal({ [name]: value }, Buffer.from(bytes.subarray(0, length))));
        } catch (error) {
          expect(error).toMatchObject({ code: "INVALID_MODEL" });
        }
      }),
      { seed, numRuns: 300 * scale },
    );
  });
});

const python = spawnSync("python3", ["--version"]).status === 0;

describe.skipIf(!python)("the quantizer in Python", () => {
  const vq: Tensors = {
    "layers.0._codebook.embed": embed("0"),
    "layers.1._codebook.embed": embed("1"),
    "project_in.weight": tensor("in", [4, 9]),
    "project_in.bias": tensor("bias", [4]),
    "project_out.weight": tensor("out", [9, 4]),
    "project_out.bias": tensor("out bias", [9]),
  };
  it.each<[string, Tensors]>([
    ["DAC", dacTensors({ dim: 70, codeDim: 8, size: 40, stages: 4 }, "weight_g")],
    ["DAC, newer normalization", dacTensors(dacShape, "parametrizations")],
    ["DAC, folded", dacTensors(dacShape, "folded")],
    ["Mimi", mimiTensors({ dim: 30, codeDim: 11, size: 25, rest: 5 }, "Kyutai")],
    ["vector-quantize-pytorch", vq],
  ])("finds the same codes and reconstructions for %s", async (_, tensors) => {
    const quantizer = quantizerFromCheckpoint(asFile(tensors)) as ProjectedQuantizer;
    const { dim, stages } = quantizer;
    const vectors = gaussian(11, 25 * dim);
    const rows = Array.from({ length: 25 }, (_, n) => [...vectors.subarray(n * dim, (n + 1) * dim)]);
    await writeFile(join(folder, "one.safetensors"), writeSafetensors(tensors));
    await writeFile(join(folder, "vectors.json"), JSON.stringify(rows));
    const program = join(__dirname, "vectors/quantize_checkpoint.py");
    const printed = execFileSync("python3", [program, join(folder, "one.safetensors"), join(folder, "vectors.json")], {
      encoding: "utf8",
      maxBuffer: 2 ** 26,
    });
    const expected = JSON.parse(printed) as { codes: number[][]; reconstructions: number[][] };
    const codes = await quantizer.encode(vectors);
    expect(codes.stages).toBe(stages);
    expectSame(codes.data, expected.codes.flat(), {});
    expectSame(await quantizer.decode(codes), expected.reconstructions.flat(), {});
  });
});
