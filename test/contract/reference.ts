// The definition in as few lines as possible: no tiles, no screens, no early exit. What every backend is compared with.

import type { Metric, Projection, ProjectRequest } from "../../lib/backend.js";

/** d64 of docs/exactness.md. */
export function d64(x: Float32Array, c: Float32Array, weights: Float32Array | null = null): number {
  const s = [0, 0, 0, 0, 0, 0, 0, 0];
  for (let i = 0; i < x.length; i++) {
    const t = x[i] - c[i];
    s[i % 8] += weights === null ? t * t : weights[i] * (t * t);
  }
  return s[0] + s[4] + (s[2] + s[6]) + (s[1] + s[5] + (s[3] + s[7]));
}

function unit(x: Float32Array): Float32Array {
  const length = Math.sqrt(d64(x, new Float32Array(x.length)));
  return x.map((value) => value / length);
}

/** The rows as the metric compares them. */
function searched(rows: Float32Array, dim: number, metric: Metric): Float32Array {
  if (metric === "l2") return rows;
  const units = new Float32Array(rows.length);
  for (let start = 0; start < rows.length; start += dim) units.set(unit(rows.subarray(start, start + dim)), start);
  return units;
}

export function nearest(x: Float32Array, codebook: Float32Array, metric: Metric, weights: Float32Array | null): number {
  return nearestOf(searched(x, x.length, metric), searched(codebook, x.length, metric), weights);
}

function nearestOf(query: Float32Array, codebook: Float32Array, weights: Float32Array | null): number {
  const dim = query.length;
  let code = 0;
  let smallest = Infinity;
  for (let k = 0; k < codebook.length / dim; k++) {
    const distance = d64(query, codebook.subarray(k * dim, (k + 1) * dim), weights);
    if (distance < smallest) {
      smallest = distance;
      code = k;
    }
  }
  return code;
}

export interface Encoded {
  /** codes[count][stages] */
  readonly codes: number[];
  /** residuals[count][dim] after the last stage */
  readonly residuals: Float32Array;
  /** reconstructions[stages][count][dim] from the first 1, 2, … stages */
  readonly reconstructions: Float32Array[];
}

export function encode(
  vectors: Float32Array,
  codebooks: readonly Float32Array[],
  dim: number,
  metric: Metric,
  weights: Float32Array | null,
): Encoded {
  const codes: number[] = [];
  const residuals = vectors.slice();
  const reconstructions = codebooks.map(() => new Float32Array(vectors.length));
  const compared = codebooks.map((codebook) => searched(codebook, dim, metric));
  for (let start = 0; start < vectors.length; start += dim) {
    const residual = residuals.subarray(start, start + dim);
    const sum = new Float32Array(dim);
    codebooks.forEach((codebook, stage) => {
      const k = nearestOf(searched(residual, dim, metric), compared[stage], weights);
      codes.push(k);
      for (let i = 0; i < dim; i++) {
        residual[i] -= codebook[k * dim + i];
        sum[i] += codebook[k * dim + i];
      }
      reconstructions[stage].set(sum, start);
    });
  }
  return { codes, residuals, reconstructions };
}

/** Beam search: codes[count][stages] and the residuals that they leave. */
export function encodeBeam(
  vectors: Float32Array,
  codebooks: readonly Float32Array[],
  dim: number,
  weights: Float32Array | null,
  beam: number,
): { readonly codes: number[]; readonly residuals: Float32Array } {
  const greedy = encode(vectors, codebooks, dim, "l2", weights).codes;
  const different = codebooks.map((codebook) => differentCodes(codebook, dim, weights));
  const codes: number[] = [];
  const residuals = vectors.slice();
  for (let start = 0; start < vectors.length; start += dim) {
    const x = vectors.subarray(start, start + dim);
    let hypotheses = [{ residual: x, path: [] as number[] }];
    codebooks.forEach((codebook, stage) => {
      const codeword = (k: number) => codebook.subarray(k * dim, (k + 1) * dim);
      const children = hypotheses.flatMap(({ residual }, h) =>
        residual.every(Number.isFinite)
          ? different[stage].map((k) => ({ distance: d64(residual, codeword(k), weights), h, k }))
          : [{ distance: Infinity, h, k: 0 }],
      );
      // Infinities are equal; their difference would be NaN.
      children.sort((a, b) => (a.distance === b.distance ? a.h - b.h || a.k - b.k : a.distance - b.distance));
      hypotheses = children.slice(0, beam).map(({ h, k }) => ({
        residual: hypotheses[h].residual.map((value, i) => value - codebook[k * dim + i]),
        path: [...hypotheses[h].path, k],
      }));
    });

    const rest = (path: readonly number[], sign: number, from: Float32Array) =>
      path.reduce((sum, k, stage) => sum.map((value, i) => value + sign * codebooks[stage][k * dim + i]), from);
    const error = (path: readonly number[]) => d64(x, rest(path, 1, new Float32Array(dim)), weights);
    const greedyPath = greedy.slice(codes.length, codes.length + codebooks.length);
    const path = error(hypotheses[0].path) < error(greedyPath) ? hypotheses[0].path : greedyPath;
    codes.push(...path);
    residuals.set(rest(path, -1, x), start);
  }
  return { codes, residuals };
}

/** The codes whose codeword does not equal an earlier one where there is weight. */
function differentCodes(codebook: Float32Array, dim: number, weights: Float32Array | null): number[] {
  const seen = new Set<string>();
  return Array.from({ length: codebook.length / dim }, (_, k) => k).filter((k) => {
    const codeword = codebook.subarray(k * dim, (k + 1) * dim);
    // The text of −0 is that of 0.
    const key = codeword.map((value, i) => (weights?.[i] === 0 ? 0 : value)).join();
    return !seen.has(key) && seen.add(key);
  });
}

/** before[count][outDim] with the projections of vectors[count][inDim]: in their place, added or subtracted. */
export function project(
  vectors: Float32Array,
  { weight, bias, inDim, outDim }: Projection,
  before: Float32Array,
  into: ProjectRequest["into"],
): Float32Array {
  return before.map((value, at) => {
    const [n, o] = [Math.floor(at / outDim), at % outDim];
    let sum = bias === null ? 0 : bias[o];
    for (let i = 0; i < inDim; i++) sum += weight[o * inDim + i] * vectors[n * inDim + i];
    const p = Math.fround(sum);
    if (into === "replace") return p;
    return into === "add" ? value + p : value - p;
  });
}

/** Sums of round(x / 2^gridExponents[i]), ties to even, by BigInt: exact whatever the order. */
export function sums(
  vectors: Float32Array,
  codes: ArrayLike<number>,
  numCodewords: number,
  dim: number,
  gridExponents: Int32Array,
): bigint[] {
  const total = new Array<bigint>(numCodewords * dim).fill(0n);
  for (let n = 0; n < codes.length; n++) {
    for (let i = 0; i < dim; i++) {
      total[codes[n] * dim + i] += roundHalfEven(vectors[n * dim + i] * 2 ** -gridExponents[i]);
    }
  }
  return total;
}

function roundHalfEven(x: number): bigint {
  const floor = Math.floor(x);
  const rest = x - floor;
  const up = rest > 0.5 || (rest === 0.5 && floor % 2 !== 0);
  return BigInt(up ? floor + 1 : floor);
}
