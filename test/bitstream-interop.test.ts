// Files of other programs: NumPy arrays, safetensors, and the quantizers in other codecs' checkpoints; hostile ones are refused.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  importCheckpoint,
  quantizerFromCheckpoint,
  ResidualQuantizer,
  RvqError,
  readNpy,
  Safetensors,
  type Tensor,
  writeNpy,
  writeSafetensors,
} from "../lib/index.js";

const seed = Number(process.env.RVQ_FUZZ_SEED ?? 1);
const scale = Number(process.env.RVQ_FUZZ_SCALE ?? 1);

/** What NumPy 2.4's `np.save` wrote: a header of 128 bytes, of which these are the characters, and the data. */
function numpy(descr: string, shape: string, data: readonly number[], order = "False"): Uint8Array {
  const header = `{'descr': '${descr}', 'fortran_order': ${order}, 'shape': ${shape}, }`.padEnd(117);
  return Buffer.concat([Buffer.from(`\x93NUMPY\x01\x00\x76\x00${header}\n`, "latin1"), Uint8Array.from(data)]);
}

function refusal(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof RvqError && error.code === "INVALID_MODEL") return error.message;
    throw error;
  }
  throw new Error("was accepted");
}

const anyTensor: fc.Arbitrary<Tensor> = fc.array(fc.nat(5), { maxLength: 3 }).chain((shape) => {
  const length = shape.reduce((product, size) => product * size, 1);
  const data = fc.array(fc.float({ noNaN: true }), { minLength: length, maxLength: length });
  return data.map((numbers) => ({ shape, data: Float32Array.from(numbers) }));
});

describe("a .npy file", () => {
  it("is the file that NumPy writes", () => {
    const tensor = { shape: [2, 3], data: Float32Array.of(0, 0.25, 0.5, 0.75, 1, 1.25) };
    const written = numpy(
      "<f4",
      "(2, 3)",
      [0, 0, 0, 0, 0, 0, 128, 62, 0, 0, 0, 63, 0, 0, 64, 63, 0, 0, 128, 63, 0, 0, 160, 63],
    );
    expect(Buffer.from(writeNpy(tensor)).equals(written)).toBe(true);
    expect(readNpy(written)).toEqual(tensor);
  });

  it.each([
    ["<f2", "(4,)", [0, 62, 0, 192, 1, 0, 255, 123], [4], [1.5, -2, 2 ** -24, 65504]],
    [
      ">f8",
      "(2, 1)",
      [63, 185, 153, 153, 153, 153, 153, 154, 126, 55, 228, 60, 136, 0, 117, 156],
      [2, 1],
      [Math.fround(0.1), Infinity],
    ],
    ["<i8", "(2,)", [255, 255, 255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 0, 0, 0], [2], [-1, 2]],
    ["|u1", "()", [7], [], [7]],
    [">i2", "(1,)", [255, 254], [1], [-2]],
  ])("of %s is read as float32", (descr, shape, bytes, sizes, numbers) => {
    expect(readNpy(numpy(descr, shape, bytes))).toEqual({ shape: sizes, data: Float32Array.from(numbers) });
  });

  it("comes back for any shape and numbers", () => {
    fc.assert(
      fc.property(anyTensor, (tensor) => {
        const bytes = writeNpy(tensor);
        expect((bytes.length - 4 * tensor.data.length) % 64).toBe(0);
        expect(readNpy(bytes)).toEqual(tensor);
      }),
      { seed, numRuns: 100 * scale },
    );
  });

  it.each([
    ["a pickle", numpy("|O", "(1,)", [0]), /numbers of type f2, .*got "\|O"/],
    ["Fortran order", numpy("<f4", "(1, 1)", [0, 0, 0, 0], "True"), /row-major order, got Fortran order/],
    ["too few bytes", numpy("<f4", "(2,)", [0, 0, 0, 0]), /4 bytes of data to have the shape, got \(2\)/],
    ["2^60 numbers", numpy("<f4", "(1099511627776, 1048576)", []), /0 bytes of data to have the shape/],
    ["a type of 3 bytes", numpy("<f3", "(1,)", [0, 0, 0]), /numbers of type/],
    ["no shape", numpy("<f4", "x", []), /a header with shape/],
    [
      "another version",
      Buffer.concat([Buffer.from("\x93NUMPY\x04\x00\x00\x00\x00\x00", "latin1")]),
      /version 1, 2 or 3, got 4/,
    ],
    [
      "a long header",
      Buffer.from("\x93NUMPY\x02\x00\xff\xff\xff\xff", "latin1"),
      /a header of at most 0 bytes, got 4294967295/,
    ],
    ["another file", Buffer.alloc(100), /begins with/],
  ])("with %s is refused", (_, bytes, message) => {
    expect(refusal(() => readNpy(bytes))).toMatch(message);
  });

  it("is read or refused after any change", () => {
    const whole = writeNpy({ shape: [2, 2], data: Float32Array.of(1, 2, 3, 4) });
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        (edits) => {
          const bytes = whole.slice();
          for (const [at, value] of edits) bytes[at] = value;
          try {
            const { data } = readNpy(bytes);
            expect(data.length).toBeLessThanOrEqual(whole.length);
          } catch (error) {
            expect(error).toMatchObject({ code: "INVALID_MODEL" });
          }
        },
      ),
      { seed, numRuns: 2000 * scale },
    );
  });
});

/** A file with this header, as an object or a text, and so many bytes of data. */
function safetensors(header: unknown, dataBytes: number, headerBytes?: number): Uint8Array {
  const json = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(headerBytes ?? json.length));
  return Buffer.concat([length, json, Buffer.alloc(dataBytes)]);
}

describe("a .safetensors file", () => {
  it("has the bytes that the format describes", () => {
    const bytes = Buffer.from(
      writeSafetensors({ a: { shape: [1, 2], data: Float32Array.of(1, -2) } }, { format: "pt" }),
    );
    const header = '{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}';
    const padded = header.padEnd(Math.ceil(header.length / 8) * 8);
    expect(Number(bytes.readBigUInt64LE(0))).toBe(padded.length);
    expect(bytes.toString("latin1", 8, 8 + padded.length)).toBe(padded);
    expect([bytes.readFloatLE(8 + padded.length), bytes.readFloatLE(12 + padded.length)]).toEqual([1, -2]);
    expect(bytes.length).toBe(8 + padded.length + 8);
  });

  it("comes back with any tensors", () => {
    const tensors = fc.dictionary(
      fc.string({ maxLength: 8 }).filter((name) => name !== "__metadata__"),
      anyTensor,
      { maxKeys: 4 },
    );
    fc.assert(
      fc.property(tensors, (given) => {
        const file = Safetensors.fromBytes(writeSafetensors(given, { a: "b" }));
        expect(file.metadata).toEqual({ a: "b" });
        expect(file.names).toEqual(Object.keys(given).sort());
        for (const name of file.names) expect(file.tensor(name)).toEqual(given[name]);
      }),
      { seed, numRuns: 100 * scale },
    );
  });

  it("is read in every type of number", () => {
    const entry = (dtype: string, bytes: number) => ({ x: { dtype, shape: [1], data_offsets: [0, bytes] } });
    for (const [dtype, bytes, expected] of [
      ["F16", [0, 62], 1.5],
      ["BF16", [192, 63], 1.5],
      ["F64", [0, 0, 0, 0, 0, 0, 248, 63], 1.5],
      ["I8", [255], -1],
      ["U64", [2, 0, 0, 0, 0, 0, 0, 0], 2],
      ["BOOL", [1], 1],
    ] as const) {
      const file = Buffer.from(safetensors(entry(dtype, bytes.length), bytes.length));
      file.set(bytes, file.length - bytes.length);
      expect(Safetensors.fromBytes(file).tensor("x").data, dtype).toEqual(Float32Array.of(expected));
    }
  });

  const good = { dtype: "F32", shape: [2], data_offsets: [0, 8] };
  it.each([
    ["a header longer than the file", safetensors({}, 0, 2 ** 40), /a header of at most 2 bytes, got 1099511627776/],
    ["no JSON", safetensors("{", 0), /a header in JSON/],
    ["a list as header", safetensors("[]", 0), /a JSON object as header, got \[\]/],
    ["an unknown type", safetensors({ a: { ...good, dtype: "F7" } }, 8), /tensor "a" of a type among .*, got F7/],
    ["a type of Object's own", safetensors({ a: { ...good, dtype: "constructor" } }, 8), /of a type among/],
    ["a negative size", safetensors({ a: { ...good, shape: [-2] } }, 8), /to have a shape, got \[-2\]/],
    ["2^60 elements", safetensors({ a: { ...good, shape: [2 ** 30, 2 ** 30] } }, 8), /to have a shape/],
    [
      "offsets beyond the end",
      safetensors({ a: { ...good, data_offsets: [0, 12] } }, 8),
      /within 8 bytes, got \[0,12\]/,
    ],
    ["offsets backwards", safetensors({ a: { ...good, data_offsets: [8, 0] } }, 8), /within 8 bytes, got \[8,0\]/],
    ["a shape that does not fit", safetensors({ a: { ...good, shape: [3] } }, 8), /tensor "a" of 12 bytes, got 8/],
    ["tensors that overlap", safetensors({ a: good, b: good }, 8), /a tensor from byte 8 on, got 0/],
    ["a gap", safetensors({ a: { ...good, data_offsets: [4, 12] } }, 12), /a tensor from byte 0 on, got 4/],
    ["bytes that belong to none", safetensors({ a: good }, 12), /12 bytes of tensors, got 8/],
    ["seven bytes", new Uint8Array(7), /at least 8 bytes, got 7/],
  ])("with %s is refused", (_, bytes, message) => {
    expect(refusal(() => Safetensors.fromBytes(bytes))).toMatch(message);
  });

  it("is read or refused after any change", () => {
    const tensor = { shape: [2, 2], data: Float32Array.of(1, 2, 3, 4) };
    const whole = writeSafetensors({ "layers.0._codebook.embed": tensor, "layers.1._codebook.embed": tensor });
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        (edits) => {
          const bytes = whole.slice();
          for (const [at, value] of edits) bytes[at] = value;
          try {
            const file = Safetensors.fromBytes(bytes);
            for (const name of file.names) expect(file.tensor(name).data.length).toBeLessThanOrEqual(whole.length);
            importCheckpoint(file);
            quantizerFromCheckpoint(file, { backend: "js" });
          } catch (error) {
            expect(error).toMatchObject({ code: "INVALID_MODEL" });
          }
        },
      ),
      { seed, numRuns: 2000 * scale },
    );
  });
});

describe("a checkpoint", () => {
  const matrix = (rows: number, columns: number, first = 1): Tensor => ({
    shape: [rows, columns],
    data: Float32Array.from({ length: rows * columns }, (_, i) => first + i),
  });
  const imported = (tensors: Record<string, Tensor>) =>
    importCheckpoint(Safetensors.fromBytes(writeSafetensors(tensors)));
  const plain = (data: readonly Float32Array[]) => data.map((codebook) => [...codebook]);

  it.each([
    ["EnCodec", "quantizer.vq.layers.", "._codebook.embed"],
    ["EnCodec", "model.quantizer.vq.layers.", "._codebook.embed"],
    ["EnCodec", "quantizer.layers.", ".codebook.embed"],
    ["vector-quantize-pytorch", "layers.", "._codebook.embed"],
    ["vector-quantize-pytorch", "rvq.layers.", "._codebook.embed"],
  ])("of %s under %s{i}%s gives its codebooks in the order of the stages", (family, before, after) => {
    const tensors: Record<string, Tensor> = { "encoder.weight": matrix(3, 3) };
    for (let i = 11; i >= 0; i--) tensors[`${before}${i}${after}`] = matrix(4, 2, 100 * i);
    const { family: found, quantizers } = imported(tensors);
    expect([found, quantizers.length]).toEqual([family, 1]);
    const [{ codebooks, dim, metric, input, output }] = quantizers;
    expect([codebooks.length, dim, metric, input, output]).toEqual([12, 2, "l2", null, null]);
    expect(codebooks.map((codebook) => codebook[0])).toEqual(Array.from({ length: 12 }, (_, i) => 100 * i));
    expect(ResidualQuantizer.fromCodebooks(codebooks, { dim }).codebookSizes).toEqual(new Array<number>(12).fill(4));
  });

  it("of vector-quantize-pytorch may have several heads, which quantize dimensions of their own", () => {
    const heads = (count: number) => ({ shape: [count, 2, 2], data: matrix(count, 4).data });
    const one = imported({ "layers.0._codebook.embed": heads(1), "layers.1._codebook.embed": heads(1) });
    expect([one.arrangement, one.quantizers.length, one.quantizers[0].dim]).toEqual(["single", 1, 2]);
    const two = imported({ "layers.0._codebook.embed": heads(2), "layers.1._codebook.embed": heads(2) });
    expect([two.arrangement, ...two.quantizers.map(({ name }) => name)]).toEqual(["grouped", "0", "1"]);
    expect(two.quantizers.map(({ codebooks }) => plain(codebooks))).toEqual([
      [
        [1, 2, 3, 4],
        [1, 2, 3, 4],
      ],
      [
        [5, 6, 7, 8],
        [5, 6, 7, 8],
      ],
    ]);
    expect(
      refusal(() => imported({ "layers.0._codebook.embed": heads(2), "layers.1._codebook.embed": heads(1) })),
    ).toMatch(/layers\.1\._codebook\.embed: expected 2 heads, got 1/);
  });

  it.each([
    ["quantizer.rvq_first.", "quantizer.rvq_rest.", "vq.layers.", "_codebook", "embedding_sum"],
    [
      "quantizer.semantic_residual_vector_quantizer.",
      "quantizer.acoustic_residual_vector_quantizer.",
      "layers.",
      "codebook",
      "embed_sum",
    ],
  ])(
    "of Mimi under %s gives codewords from sums and usage, and the projections",
    (first, rest, layers, codebook, sum) => {
      const tensors: Record<string, Tensor> = {};
      const add = (base: string, index: number) => {
        tensors[`${base}${layers}${index}.${codebook}.${sum}`] = { shape: [2, 2], data: Float32Array.of(2, 4, 1, 3) };
        tensors[`${base}${layers}${index}.${codebook}.cluster_usage`] = { shape: [2], data: Float32Array.of(2, 0) };
        tensors[`${base}input_proj.weight`] = { ...matrix(2, 3), shape: [2, 3, 1] };
        tensors[`${base}output_proj.weight`] = { ...matrix(3, 2), shape: [3, 2, 1] };
      };
      add(first, 0);
      add(rest, 0);
      add(rest, 1);
      const { family, quantizers } = imported(tensors);
      expect([family, ...quantizers.map(({ name, codebooks }) => [name, codebooks.length])]).toEqual([
        "Mimi",
        ["first", 1],
        ["rest", 2],
      ]);
      const tiny = Math.fround(1e-5);
      expect(plain(quantizers[0].codebooks)).toEqual([[1, 2, Math.fround(1 / tiny), Math.fround(3 / tiny)]]);
      expect(quantizers[1].input).toEqual({
        weight: Float32Array.of(1, 2, 3, 4, 5, 6),
        outDim: 2,
        inDim: 3,
        bias: null,
      });
      expect(quantizers[1].output).toMatchObject({ outDim: 3, inDim: 2 });
      delete tensors[`${first}${layers}0.${codebook}.cluster_usage`];
      expect(refusal(() => imported(tensors))).toMatch(/expected tensors named .*cluster_usage, got quantizer\./);
    },
  );

  it("of DAC gives each stage its projections, folded where they are weight-normalized", () => {
    const tensors: Record<string, Tensor> = {};
    for (const i of [0, 1]) {
      const base = `quantizer.quantizers.${i}.`;
      tensors[`${base}codebook.weight`] = matrix(4, 2);
      tensors[`${base}in_proj.weight_v`] = { shape: [2, 2, 1], data: Float32Array.of(3, 4, 0, 2) };
      tensors[`${base}in_proj.weight_g`] = { shape: [2, 1, 1], data: Float32Array.of(10, 1) };
      tensors[`${base}in_proj.bias`] = { shape: [2], data: Float32Array.of(7, 8) };
      tensors[`${base}out_proj.weight`] = { ...matrix(2, 2), shape: [2, 2, 1] };
    }
    const { family, quantizers } = imported(tensors);
    expect([family, ...quantizers.map(({ name, metric }) => `${name} ${metric}`)]).toEqual([
      "DAC",
      "0 cosine",
      "1 cosine",
    ]);
    expect(quantizers[1].input).toEqual({
      weight: Float32Array.of(6, 8, 0, 1),
      outDim: 2,
      inDim: 2,
      bias: Float32Array.of(7, 8),
    });
    expect(quantizers[1].output).toMatchObject({ weight: Float32Array.of(1, 2, 3, 4), bias: null });
  });

  it.each([
    [{}, /expected tensors named quantizer\.vq\.layers\.\{i\}\._codebook\.embed or .*, got no tensors/],
    [{ "a.b": matrix(1, 1) }, /or layers\.\{i\}\._codebook\.embed or _codebook\.embed, got a\.b$/],
    [{ "layers.1._codebook.embed": matrix(2, 2) }, /for stages 0, 1, … under one prefix, got … of stage 1/],
    [
      { "layers.0._codebook.embed": matrix(2, 2), "layers.1._codebook.embed": matrix(2, 3) },
      /layers\.1\._codebook\.embed: expected rows of 2, got rows of 3/,
    ],
    [{ "layers.0._codebook.embed": { shape: [4], data: new Float32Array(4) } }, /expected the shape codewords × dim/],
    [{ "a.layers.0._codebook.embed": matrix(2, 2), "b.layers.0._codebook.embed": matrix(2, 2) }, /under one prefix/],
  ])("that is none, or a broken one, is refused with what was looked for and found", (tensors, message) => {
    expect(refusal(() => imported(tensors as Record<string, Tensor>))).toMatch(message);
  });
});
