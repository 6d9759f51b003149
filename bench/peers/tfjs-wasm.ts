// TensorFlow.js with its WebAssembly SIMD backend, on one thread: a matrix product with its bias fused, then argMax.

import { codewordColumns, halfNorms } from "./codewords.js";
import { inChunks, type Peer } from "./peer.js";

/** The part of its API that is used. */
interface Tensor {
  dataSync(): Int32Array;
  dispose(): void;
}
interface Tfjs {
  setBackend(name: "wasm"): Promise<boolean>;
  tensor1d(values: Float32Array): Tensor;
  tensor2d(values: Float32Array, shape: number[]): Tensor;
  tidy<Result>(run: () => Result): Result;
  argMax(scores: Tensor, axis: number): Tensor;
  readonly fused: { matMul(product: { a: Tensor; b: Tensor; bias: Tensor }): Tensor };
}

export async function loadTfjsWasm(require: NodeJS.Require): Promise<Peer> {
  const tf = require("@tensorflow/tfjs-core") as Tfjs;
  const { setThreadsCount } = require("@tensorflow/tfjs-backend-wasm") as { setThreadsCount(threads: number): void };
  setThreadsCount(1);
  if (!(await tf.setBackend("wasm"))) throw new Error("its WebAssembly backend does not start");
  return {
    name: "tfjs-wasm",
    threadCounts: [1],
    multiplyAddsPerCall: 1e9,
    settings: [{ name: "scores of 16 MiB", scoreBytes: 16 * 2 ** 20 }],
    open: async (codebook, dim, _threads, { scoreBytes }) => {
      const numCodewords = codebook.length / dim;
      const columns = tf.tensor2d(codewordColumns(codebook, dim), [dim, numCodewords]);
      const bias = tf.tensor1d(halfNorms(codebook, dim));
      const search = async (rows: Float32Array, count: number) =>
        tf.tidy(() => {
          const scores = tf.fused.matMul({ a: tf.tensor2d(rows, [count, dim]), b: columns, bias });
          return tf.argMax(scores, 1).dataSync();
        });
      return {
        run: (vectors) => inChunks(vectors, dim, numCodewords, scoreBytes, search),
        close: () => {
          columns.dispose();
          bias.dispose();
        },
      };
    },
  };
}
