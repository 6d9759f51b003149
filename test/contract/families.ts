// The data families that every backend must agree on, each made from a seed.

import { Random } from "../../lib/random.js";

export interface Data {
  readonly family: string;
  /** vectors[count][dim] */
  readonly vectors: Float32Array;
  /** codebook[numCodewords][dim] */
  readonly codebook: Float32Array;
}

export interface Shape {
  readonly count: number;
  readonly dim: number;
  readonly numCodewords: number;
}

type Fill = (random: Random, vectors: Float32Array, codebook: Float32Array, dim: number) => void;

const families: Record<string, Fill> = {
  gaussian: (random, vectors, codebook) => {
    fill(vectors, () => normal(random));
    fill(codebook, () => normal(random));
  },
  correlated: (random, vectors, codebook, dim) => {
    // A random walk along the vector: neighbouring dimensions nearly equal.
    for (const matrix of [vectors, codebook]) {
      let level = 0;
      fill(matrix, (i) => {
        level = (i % dim === 0 ? 0 : level) + normal(random);
        return level;
      });
    }
  },
  "low rank": (random, vectors, codebook, dim) => {
    // A few directions and a little noise.
    const directions = Array.from({ length: 4 }, () => Float64Array.from({ length: dim }, () => normal(random)));
    for (const matrix of [vectors, codebook]) {
      const shares = directions.map(() => 0);
      fill(matrix, (i) => {
        if (i % dim === 0) for (const d of shares.keys()) shares[d] = normal(random);
        return directions.reduce((sum, direction, d) => sum + shares[d] * direction[i % dim], 0.05 * normal(random));
      });
    }
  },
  clustered: (random, vectors, codebook, dim) => {
    fill(codebook, () => 10 * normal(random));
    const numCodewords = codebook.length / dim;
    for (let start = 0; start < vectors.length; start += dim) {
      const centre = random.below(numCodewords) * dim;
      for (let i = 0; i < dim; i++) vectors[start + i] = codebook[centre + i] + 0.01 * normal(random);
    }
  },
  offset: (random, vectors, codebook) => {
    fill(vectors, () => 1e4 + normal(random));
    fill(codebook, () => 1e4 + normal(random));
  },
  "integer grid": (random, vectors, codebook) => {
    fill(vectors, () => random.below(5) - 2);
    fill(codebook, () => random.below(5) - 2);
  },
  "duplicate codewords": (random, vectors, codebook, dim) => {
    fill(vectors, () => normal(random));
    fill(codebook, () => normal(random));
    const numCodewords = codebook.length / dim;
    for (let k = 1; k < numCodewords; k += 2) {
      const original = random.below(k) * dim;
      codebook.copyWithin(k * dim, original, original + dim);
    }
  },
  midpoints: (random, vectors, codebook, dim) => {
    // Every vector lies half-way between two codewords: exact and near ties.
    fill(codebook, () => random.below(64) / 8);
    const numCodewords = codebook.length / dim;
    for (let start = 0; start < vectors.length; start += dim) {
      const a = random.below(numCodewords) * dim;
      const b = random.below(numCodewords) * dim;
      for (let i = 0; i < dim; i++) vectors[start + i] = (codebook[a + i] + codebook[b + i]) / 2;
    }
  },
  "one-ulp neighbours": (random, vectors, codebook, dim) => {
    fill(codebook, () => normal(random));
    const bits = new Uint32Array(codebook.buffer);
    const numCodewords = codebook.length / dim;
    for (let k = 1; k < numCodewords; k += 2) {
      codebook.copyWithin(k * dim, (k - 1) * dim, k * dim);
      bits[k * dim + random.below(dim)] += 1;
    }
    for (let start = 0; start < vectors.length; start += dim) {
      const near = random.below(numCodewords) * dim;
      for (let i = 0; i < dim; i++) vectors[start + i] = codebook[near + i] * (1 + 1e-6 * normal(random));
    }
  },
  subnormal: (random, vectors, codebook) => {
    fill(vectors, () => 1e-40 * normal(random));
    fill(codebook, () => 1e-40 * normal(random));
  },
  tiny: (random, vectors, codebook) => {
    fill(vectors, () => 1e-25 * normal(random));
    fill(codebook, () => 1e-25 * normal(random));
  },
  "near overflow": (random, vectors, codebook) => {
    fill(vectors, () => 3e38 * (2 * random.fraction() - 1));
    fill(codebook, () => 3e38 * (2 * random.fraction() - 1));
  },
  "huge vectors, small codewords": (random, vectors, codebook) => {
    fill(vectors, () => 1e36 * normal(random));
    fill(codebook, () => 1e-20 * normal(random));
  },
  "one outlier codeword": (random, vectors, codebook, dim) => {
    fill(vectors, () => normal(random));
    fill(codebook, (i) => (i < dim ? 1e6 : normal(random)));
  },
  "one outlier dimension": (random, vectors, codebook, dim) => {
    fill(vectors, (i) => (i % dim === 0 ? 1e5 : 1) * normal(random));
    fill(codebook, (i) => (i % dim === 0 ? 1e5 : 1) * normal(random));
  },
  "all codewords identical": (random, vectors, codebook, dim) => {
    fill(vectors, () => normal(random));
    fill(codebook, (i) => (i % dim) - 3);
  },
  "signed zeros": (random, vectors, codebook) => {
    fill(vectors, () => (random.below(2) === 0 ? 0 : -0) + (random.below(8) === 0 ? 1 : 0));
    fill(codebook, () => [0, -0, 1, -1][random.below(4)]);
  },
};

export const familyNames = Object.keys(families);

export function makeData(family: string, shape: Shape, seed: number): Data {
  const random = new Random(seed);
  const vectors = new Float32Array(shape.count * shape.dim);
  const codebook = new Float32Array(shape.numCodewords * shape.dim);
  families[family](random, vectors, codebook, shape.dim);
  return { family, vectors, codebook };
}

/** Data made to sit on the edge of the bound, at any scale. */
export const hardFamilies: Record<string, (shape: Shape, seed: number) => Pick<Data, "vectors" | "codebook">> = {
  // The two nearest codewords are equally far but for the rounding of the vector to float32.
  "midpoints of neighbours": ({ count, dim, numCodewords }, seed) => {
    const random = new Random(seed);
    const scale = 2 ** Math.round(20 * normal(random));
    const apart = 2 ** -random.below(20);
    const codebook = Float32Array.from({ length: numCodewords * dim }, () => scale * normal(random));
    for (let i = 0; i < codebook.length; i++) {
      if (Math.floor(i / dim) % 2 === 1) codebook[i] = codebook[i - dim] + scale * apart * normal(random);
    }
    const pairs = Math.max(1, Math.floor(numCodewords / 2));
    const vectors = Float32Array.from({ length: count * dim }, (_, i) => {
      const first = 2 * (Math.floor(i / dim) % pairs) * dim + (i % dim);
      return (codebook[first] + codebook[(first + dim) % codebook.length]) / 2;
    });
    return { vectors, codebook };
  },
  // So far from the codebook that float64 itself can hardly tell the codewords apart.
  "far away": ({ count, dim, numCodewords }, seed) => {
    const random = new Random(seed);
    const codebook = Float32Array.from({ length: numCodewords * dim }, () => normal(random));
    const vectors = new Float32Array(count * dim);
    for (let start = 0; start < vectors.length; start += dim) {
      const distance = 2 ** random.below(60);
      for (let i = 0; i < dim; i++) vectors[start + i] = distance * normal(random);
    }
    return { vectors, codebook };
  },
};

/** Vectors half-way between the first two codewords, which differ by 2^-20 in one element: no screen can tell them apart. */
export function betweenCodewords({ count, dim, numCodewords }: Shape): {
  vectors: Float32Array;
  codebook: Float32Array;
} {
  const { codebook } = makeData("gaussian", { count, dim, numCodewords }, 3);
  codebook.copyWithin(dim, 0, dim);
  codebook[dim] += 2 ** -20;
  const vectors = Float32Array.from({ length: count * dim }, (_, i) =>
    i % dim === 0 ? (codebook[0] + codebook[dim]) / 2 : codebook[i % dim],
  );
  return { vectors, codebook };
}

/** Residual codebooks: the family's codebook, then gaussian ones that shrink by half a stage around its scale. */
export function makeStages(data: Data, shape: Shape, stages: number, seed: number): Float32Array[] {
  const random = new Random(seed + 1);
  let scale = 0;
  for (const c of data.codebook) scale = Math.max(scale, Math.abs(c));
  return Array.from({ length: stages }, (_, stage) => {
    if (stage === 0) return data.codebook;
    scale /= 2;
    const numCodewords = Math.max(1, shape.numCodewords - 3 * stage);
    return Float32Array.from({ length: numCodewords * shape.dim }, () => (scale / 3) * normal(random));
  });
}

/** Standard normal numbers (Box and Muller). */
export function normal(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random.fraction())) * Math.cos(2 * Math.PI * random.fraction());
}

/** Normal numbers [count][dim]. */
export function gaussianRows(count: number, dim: number, seed = 1): Float32Array {
  const random = new Random(seed);
  return Float32Array.from({ length: count * dim }, () => normal(random));
}

/** Replaces rows that are zero, which the cosine metric refuses, by ones. */
export function withoutZeroRows(matrix: Float32Array, dim: number): Float32Array {
  const copy = matrix.slice();
  for (let start = 0; start < copy.length; start += dim) {
    if (copy.subarray(start, start + dim).every((x) => x === 0)) copy.fill(1, start, start + dim);
  }
  return copy;
}

function fill(matrix: Float32Array, value: (index: number) => number): void {
  for (let i = 0; i < matrix.length; i++) matrix[i] = value(i);
}
