// onnxruntime-node on the processor: Gemm and ArgMax of ONNX, all graph optimisations, the default spinning threads.

import { nearestCodewordModel } from "./onnx-model.js";
import { inChunks, type Peer } from "./peer.js";

/** The part of its API that is used. */
interface Onnxruntime {
  readonly InferenceSession: {
    create(
      model: Uint8Array,
      options: object,
    ): Promise<{
      run(feeds: object, fetches: string[]): Promise<Record<"code", { readonly data: BigInt64Array }>>;
      release(): Promise<void>;
    }>;
  };
  readonly Tensor: new (type: "float32", data: Float32Array, shape: number[]) => object;
}

export function loadOnnxruntime(require: NodeJS.Require): Peer {
  const { InferenceSession, Tensor } = require("onnxruntime-node") as Onnxruntime;
  return {
    name: "onnxruntime-node",
    threadCounts: [1, 2],
    multiplyAddsPerCall: 3e9,
    // Which one is faster depends on the caches.
    settings: [
      { name: "scores of 4 MiB", scoreBytes: 4 * 2 ** 20 },
      { name: "scores of 16 MiB", scoreBytes: 16 * 2 ** 20 },
    ],
    open: async (codebook, dim, threads, { scoreBytes }) => {
      const session = await InferenceSession.create(nearestCodewordModel(codebook, dim), {
        executionProviders: ["cpu"],
        graphOptimizationLevel: "all",
        executionMode: "sequential",
        intraOpNumThreads: threads,
        interOpNumThreads: 1,
      });
      const search = async (rows: Float32Array, count: number) => {
        const { code } = await session.run({ x: new Tensor("float32", rows, [count, dim]) }, ["code"]);
        return code.data;
      };
      return {
        run: (vectors) => inChunks(vectors, dim, codebook.length / dim, scoreBytes, search),
        close: () => void session.release(),
      };
    },
  };
}
