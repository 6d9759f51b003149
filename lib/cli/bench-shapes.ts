// What benchmarks search: shapes of codecs and of single codebooks, and Gaussian data for them from a seed.

import { Random } from "../random.js";

export interface Shape {
  readonly name: string;
  /** Vectors. */
  readonly count: number;
  readonly dim: number;
  readonly codebookSize: number;
  readonly stages: number;
}

/** What `rvq bench` measures; `count` vectors at most. */
export const benchShapes: readonly Shape[] = [
  { name: "EnCodec D128 K1024, 8 stages", count: 2 ** 20, dim: 128, codebookSize: 1024, stages: 8 },
  { name: "EnCodec D128 K1024, 32 stages", count: 2 ** 20, dim: 128, codebookSize: 1024, stages: 32 },
  { name: "DAC D8 K1024, 9 stages", count: 2 ** 20, dim: 8, codebookSize: 1024, stages: 9 },
  { name: "Mimi D256 K2048, 8 stages", count: 2 ** 19, dim: 256, codebookSize: 2048, stages: 8 },
  { name: "D64 K1024", count: 2 ** 20, dim: 64, codebookSize: 1024, stages: 1 },
  { name: "D96 K4096", count: 2 ** 20, dim: 96, codebookSize: 4096, stages: 1 },
  { name: "D768 K1024", count: 2 ** 17, dim: 768, codebookSize: 1024, stages: 1 },
  { name: "D768 K65536", count: 2 ** 16, dim: 768, codebookSize: 65_536, stages: 1 },
];

export interface SearchData {
  /** vectors[count][dim] */
  readonly vectors: Float32Array;
  /** codebooks[stages], each [codebookSize][dim] */
  readonly codebooks: Float32Array[];
}

/** 2·N·K·D·S: what a search by brute force spends on `count` vectors. */
export function flop({ dim, codebookSize, stages }: Shape, count: number): number {
  return 2 * count * dim * codebookSize * stages;
}

/** Gaussian vectors; gaussian codebooks whose size shrinks from stage to stage like residuals do. */
export function gaussian({ count, dim, codebookSize, stages }: Shape): SearchData {
  const random = new Random(1);
  const vectors = Float32Array.from({ length: count * dim }, () => normal(random));
  const codebooks = Array.from({ length: stages }, (_, stage) => {
    const scale = dim <= 16 ? 0.55 ** stage : 0.45 * 0.93 ** stage;
    return Float32Array.from({ length: codebookSize * dim }, () => scale * normal(random));
  });
  return { vectors, codebooks };
}

/** Box and Muller's. */
function normal(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random.fraction())) * Math.cos(2 * Math.PI * random.fraction());
}
