// The shapes and the data of the benchmarks, made from a seed.

import { gaussian, type SearchData, type Shape } from "../lib/cli/bench-shapes.js";
import { ResidualQuantizer } from "../lib/index.js";
import { Random } from "../lib/random.js";
import { normal } from "../test/contract/families.js";

export { flop, gaussian, type SearchData, type Shape } from "../lib/cli/bench-shapes.js";

/** One search. */
export const searchShapes: readonly Shape[] = [
  { name: "D128 K1024", count: 65_536, dim: 128, codebookSize: 1024, stages: 1 },
  { name: "D8 K1024", count: 65_536, dim: 8, codebookSize: 1024, stages: 1 },
  { name: "D256 K2048", count: 65_536, dim: 256, codebookSize: 2048, stages: 1 },
  { name: "D64 K4096", count: 65_536, dim: 64, codebookSize: 4096, stages: 1 },
  { name: "D768 K1024", count: 16_384, dim: 768, codebookSize: 1024, stages: 1 },
  { name: "D96 K65536", count: 8_192, dim: 96, codebookSize: 65_536, stages: 1 },
];

/** Residual encode. */
export const residualShapes: readonly Shape[] = [
  { name: "D160 K256 32 stages (speech)", count: 16_000, dim: 160, codebookSize: 256, stages: 32 },
  { name: "D128 K1024 8 stages (EnCodec)", count: 16_384, dim: 128, codebookSize: 1024, stages: 8 },
  { name: "D128 K1024 32 stages (EnCodec)", count: 16_384, dim: 128, codebookSize: 1024, stages: 32 },
  { name: "D8 K1024 9 stages (DAC)", count: 65_536, dim: 8, codebookSize: 1024, stages: 9 },
];

export const dataNames = ["gaussian", "power-law"] as const;
export type DataName = (typeof dataNames)[number];

export async function makeSearchData(name: DataName, shape: Shape): Promise<SearchData> {
  return name === "gaussian" ? gaussian(shape) : powerLaw(shape);
}

/**
 * Vectors whose k-th principal axis has a deviation of k^−0.7, in a random orientation, and codebooks learnt from other
 * vectors of the kind by three steps of k-means. Above 4096 codewords the codebook is a sample: learning takes too long.
 */
async function powerLaw({ count, dim, codebookSize, stages }: Shape): Promise<SearchData> {
  const random = new Random(5);
  const rotate = randomRotation(dim, random);
  const draw = (rows: number) => {
    const matrix = Float32Array.from({ length: rows * dim }, (_, i) => ((i % dim) + 1) ** -0.7 * normal(random));
    for (let start = 0; start < matrix.length; start += dim) rotate(matrix.subarray(start, start + dim));
    return matrix;
  };
  const vectors = draw(count);
  if (stages === 1 && codebookSize > 4096) return { vectors, codebooks: [draw(codebookSize)] };
  // Fewer, and the residuals of later stages vanish: every vector would have a codeword of its own.
  const training = draw(Math.max(3 * codebookSize, 20_000));
  const rq = await ResidualQuantizer.train(training, { dim, codebookSize, stages, iterations: 3, seed: 1 });
  const codebooks = rq.codebooks();
  rq.dispose();
  return { vectors, codebooks };
}

/** A random orthogonal map of rows, in place: rounds of plane rotations over random pairs, which mix all dimensions. */
function randomRotation(dim: number, random: Random): (row: Float32Array) => void {
  const rounds = 2 * Math.ceil(Math.log2(dim + 1));
  const planes: { a: number; b: number; cos: number; sin: number }[] = [];
  for (let round = 0; round < rounds; round++) {
    const order = Array.from({ length: dim }, (_, i) => i);
    for (let i = dim - 1; i > 0; i--) {
      const j = random.below(i + 1);
      [order[i], order[j]] = [order[j], order[i]];
    }
    for (let i = 0; i + 1 < dim; i += 2) {
      const angle = 2 * Math.PI * random.fraction();
      planes.push({ a: order[i], b: order[i + 1], cos: Math.cos(angle), sin: Math.sin(angle) });
    }
  }
  return (row) => {
    for (const { a, b, cos, sin } of planes) {
      const [x, y] = [row[a], row[b]];
      row[a] = cos * x - sin * y;
      row[b] = sin * x + cos * y;
    }
  };
}
