// The ONNX model of a nearest-codeword search, written as protobuf: Gemm of vectors and codewords, then ArgMax.
//
// Field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).

import { codewordColumns, halfNorms } from "./codewords.js";

/** argmax_k x·c_k − ½‖c_k‖², the nearest codeword: input x[N][dim] float32, output code[N] int64. */
export function nearestCodewordModel(codebook: Float32Array, dim: number): Uint8Array {
  const numCodewords = codebook.length / dim;
  const graph = [
    message(1, node("Gemm", ["x", "columns", "halfNorms"], "score", {})),
    message(1, node("ArgMax", ["score"], "code", { axis: 1, keepdims: 0 })),
    text(2, "nearest codeword"),
    message(5, tensor("columns", [dim, numCodewords], codewordColumns(codebook, dim))),
    message(5, tensor("halfNorms", [numCodewords], halfNorms(codebook, dim))),
    message(11, valueInfo("x", elementType.float32, ["N", dim])),
    message(12, valueInfo("code", elementType.int64, ["N"])),
  ];
  const opset = [text(1, ""), integer(2, 13)];
  return Buffer.concat([integer(1, 8), message(8, opset), message(7, graph)]);
}

const elementType = { float32: 1, int64: 7 } as const;

function node(operation: string, inputs: string[], output: string, attributes: Record<string, number>): Buffer[] {
  const integerAttribute = 2;
  return [
    ...inputs.map((name) => text(1, name)),
    text(2, output),
    text(4, operation),
    ...Object.entries(attributes).map(([name, value]) =>
      message(5, [text(1, name), integer(3, value), integer(20, integerAttribute)]),
    ),
  ];
}

function tensor(name: string, shape: number[], values: Float32Array): Buffer[] {
  const raw = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
  const sizes = shape.map((size) => integer(1, size));
  return [...sizes, integer(2, elementType.float32), text(8, name), bytes(9, raw)];
}

/** A name with the type and shape of its tensor; a size that is a word is free. */
function valueInfo(name: string, type: number, shape: (string | number)[]): Buffer[] {
  const sizes = shape.map((size) => message(1, [typeof size === "string" ? text(2, size) : integer(1, size)]));
  return [text(1, name), message(2, [message(1, [integer(1, type), message(2, sizes)])])];
}

function message(field: number, parts: Buffer[]): Buffer {
  return bytes(field, Buffer.concat(parts));
}

function text(field: number, value: string): Buffer {
  return bytes(field, Buffer.from(value));
}

function bytes(field: number, content: Buffer): Buffer {
  const lengthDelimited = 2;
  return Buffer.concat([varint(field * 8 + lengthDelimited), varint(content.length), content]);
}

function integer(field: number, value: number): Buffer {
  return Buffer.concat([varint(field * 8), varint(value)]);
}

/** Seven bits a byte, the lowest first; the eighth says that more follow. */
function varint(value: number): Buffer {
  const parts: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) parts.push((rest % 128) + 128);
  return Buffer.from([...parts, rest]);
}
