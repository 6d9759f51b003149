// The contract: the handful of operations every backend offers, with shapes, ties, rounding and errors.
//
// The TypeScript backend (`lib/js/`) is the executable meaning of what is written here; a native backend may compute
// any way it likes as long as every byte it writes is the same (`docs/exactness.md`).
//
// What stays on a device is in `lib/resident.ts`.
//
// Conventions. All matrices are row-major and dense. N vectors of dimension D, S stages, K_s codewords in stage s.
// Requests have been validated (types, lengths, code ranges, no shared or detached memory) by `lib/check.ts`; a
// backend may rely on that. The caller keeps the arrays of a request alive and does not touch them until the call
// settles. What a backend does check, because it reads every element anyway, is the *content* of `vectors`: the first
// element (in row-major order) that is NaN or infinite, or with the cosine metric the first row that is all zero, is
// returned as a `BadInput`, and the contents of the outputs are then unspecified.

import type { HeldRows, ResidentCodebooks, SeedDraws, SeedDrawsRequest } from "./resident.js";

/** Backend names in the order in which `"auto"` tries them. */
export const backendNames = ["cuda", "cpu", "js"] as const;
export type BackendName = (typeof backendNames)[number];

/** `l2`: squared Euclidean distance, optionally weighted per dimension. `cosine`: l2 between unit-length vectors. */
export type Metric = "l2" | "cosine";

/** A code is one unsigned integer; 16 bits hold it while every K_s ≤ 65536. */
export type CodeArray = Uint16Array | Uint32Array;

/** What a quantizer is made of. Codebooks are finite, and with the cosine metric no codeword is zero. */
export interface CodebookSpec {
  /** D ≥ 1. */
  readonly dim: number;
  readonly metric: Metric;
  /** weights[D], finite and ≥ 0; null: all ones. Only with the l2 metric. */
  readonly weights: Float32Array | null;
  /** codebooks[S], each [K_s][D]. */
  readonly codebooks: readonly Float32Array[];
}

/** The first offending row and column of an input; `zero` only with the cosine metric (column is then 0). */
export interface BadInput {
  readonly kind: "not finite" | "zero";
  readonly row: number;
  readonly column: number;
}

/** Of requests that may read rows which are held. */
export interface HeldRequest {
  /** What `Backend.hold` gave for an array of which `vectors` is a part. */
  readonly held?: HeldRows | null | undefined;
}

/** What the requests of one long call share. */
export interface ChunkRequest {
  /**
   * The call that this is a chunk of: requests under way with the same object use `threads` threads together. Without one, each
   * uses so many.
   */
  readonly chunkOf?: object | undefined;
}

/**
 * Residual search. r_0 = x; for each stage s: codes[n][s] = the smallest k with the smallest d64(r_s, c_{s,k}), then
 * r_{s+1} = fround(r_s − c_{s,k}) element by element.
 *
 * d64(x, c): in float64, every operation rounded on its own, t_i = x_i − c_i, t_i = t_i·t_i, with weights
 * t_i = w_i·t_i; eight partial sums, lane i mod 8, each in increasing i from +0; then
 * ((s0+s4)+(s2+s6))+((s1+s5)+(s3+s7)). A distance that is not smaller than every earlier one (also NaN) does not win,
 * and the search starts from code 0 at +infinity: so a residual that overflowed to infinity gets code 0.
 *
 * Cosine: both sides are first brought to unit length, u_i = fround(x_i / sqrt(n)), n = Σ x_i² by the same lanes; the
 * residual that is passed on is that of the vectors and codewords as given. A residual that is exactly zero gets
 * code 0 (a *vector* that is zero is a BadInput).
 *
 * Beam search, where `beam` n is 2 or more (only with the l2 metric). A hypothesis is codes for the stages so far and its
 * residual; first there is one, x itself. In each stage every hypothesis h has children: the codewords that do not equal
 * an earlier one (element by element where the weight is not zero, −0 being 0), at the distance d64(r_h, c_{s,k}); a
 * hypothesis whose residual is not finite has the child k = 0 alone, at +infinity. The n children with the smallest (distance,
 * place of h, k), compared in that order, are the hypotheses of the next stage, in that order, with r = fround(r_h − c_{s,k}).
 * After the last stage the first of them is compared with the greedy path by the weighted d64(x, x̂), x̂ as decoded from
 * all these stages: its codes are the answer if its distance is the smaller number, else the greedy ones are.
 */
export interface EncodeRequest extends ChunkRequest {
  /** vectors[count][D]. */
  readonly vectors: Float32Array;
  readonly count: number;
  /** How many stages to search, 1 … S. */
  readonly stages: number;
  /** n ≥ 1 hypotheses; undefined: 1, the greedy search. */
  readonly beam?: number | undefined;
  /** Output codes[count][stages]. */
  readonly codes: CodeArray;
  /** Output residuals[count][D] after the last stage, where wanted; may be the same array as `vectors`. */
  readonly residuals?: Float32Array;
}

/** Reconstruction: out = 0; for s in stage order: out = fround(out + c_{s,code}) element by element. */
export interface DecodeRequest extends ChunkRequest {
  /** codes[count][codeStages], each below K_s (but see `Backend.checksCodes`). */
  readonly codes: CodeArray;
  readonly count: number;
  /** Row stride of `codes`, ≥ stages. */
  readonly codeStages: number;
  /** How many stages to add up, 1 … S. */
  readonly stages: number;
  /** Output vectors[count][D]. */
  readonly vectors: Float32Array;
}

/**
 * distances[n][s] = d64(x_n, x̂_{n,s+1}), x̂_{n,s+1} the reconstruction from the first s+1 stages (rounded as in decode).
 * Without `weighted`, weights count as ones; the metric plays no part.
 */
export interface DistanceRequest extends ChunkRequest {
  /** vectors[count][D]. */
  readonly vectors: Float32Array;
  readonly count: number;
  /** codes[count][codeStages], each below K_s. */
  readonly codes: CodeArray;
  readonly codeStages: number;
  readonly stages: number;
  readonly weighted: boolean;
  /** Output distances[count][stages]. */
  readonly distances: Float64Array;
}

/**
 * The assignment step of k-means over the first stage: codes[n] as by `encode` with one stage, distances[n] as by `distances` with one
 * stage and `weighted`. The vectors have been checked: they are finite, and with the cosine metric not zero.
 *
 * Codebooks that were prepared with a `previous` codebook are for vectors that have their codes by it: codes[n] is on entry what
 * `encode` gave with that codebook. A backend may use it to search less; what comes out is the same. In k-means, ever more codewords
 * stay where they are from one iteration to the next.
 */
export interface AssignRequest extends HeldRequest {
  /** vectors[count][D]. */
  readonly vectors: Float32Array;
  readonly count: number;
  /** Output codes[count]; also input with `previous`, each then below K. */
  readonly codes: CodeArray;
  /** Output distances[count]. */
  readonly distances: Float64Array;
  /** Output plainDistances[count], the same without weights, where wanted. */
  readonly plainDistances?: Float64Array;
}

/**
 * Statistics of one stage, on a grid q_i = 2^gridExponents[i] for each dimension i: for every row n,
 * counts[codes[n]] += 1 and sums[codes[n]][i] += roundHalfEven(x_{n,i} / q_i). The outputs are added to, not cleared. With
 * `previousCodes` the rows are in the statistics already, under those codes, and move: the same is taken away there. The caller
 * chooses the grids so that |x_{n,i}| / q_i · (all rows ever added) ≤ 2^51: every sum is then an exact integer and
 * independent of order. It belongs to the backend and not to prepared codebooks because it needs no codeword.
 */
export interface AccumulateRequest extends HeldRequest {
  /** vectors[count][D]. */
  readonly vectors: Float32Array;
  readonly count: number;
  readonly dim: number;
  /** codes[count], each below numCodewords. */
  readonly codes: CodeArray;
  /** previousCodes[count], of the same type as `codes` and each below numCodewords; rows whose code is the same stay as they are. */
  readonly previousCodes?: CodeArray;
  readonly numCodewords: number;
  /** gridExponents[D], each −149 … 1000. */
  readonly gridExponents: Int32Array;
  /** In and out counts[K], integers. */
  readonly counts: Float64Array;
  /** In and out sums[K][D], integers, in units of q_i. */
  readonly sums: Float64Array;
}

/** distances[n] = min(distances[n], d64(vectors[n], centre)): the step of k-means++ seeding. */
export interface LowerDistancesRequest extends HeldRequest {
  /** vectors[count][D]. */
  readonly vectors: Float32Array;
  readonly count: number;
  readonly dim: number;
  /** weights[D] or null. */
  readonly weights: Float32Array | null;
  /** centre[D]. */
  readonly centre: Float32Array;
  /** In and out distances[count], +infinity at first. */
  readonly distances: Float64Array;
}

/** A linear map of vectors, as codecs have around their codebooks. */
export interface Projection {
  /** weight[outDim][inDim], finite. */
  readonly weight: Float32Array;
  readonly outDim: number;
  readonly inDim: number;
  /** bias[outDim], finite; null: zeros. */
  readonly bias: Float32Array | null;
}

/**
 * p[n][o] = fround(s_inDim), in float64: s_0 = bias[o], s_{i+1} = s_i + weight[o][i]·x[n][i], each addition rounded. A product of two
 * float32 is exact in float64: a fused multiply-add gives the same bits. `into` says what becomes of p, element by element:
 * projected = p, fround(projected + p) or fround(projected − p). What overflows float32 becomes infinite.
 */
export interface ProjectRequest extends ChunkRequest {
  /** vectors[count][inDim]; apart from `projected`. */
  readonly vectors: Float32Array;
  readonly count: number;
  /** projected[count][outDim]: output, and but for "replace" input. */
  readonly projected: Float32Array;
  readonly into: "replace" | "add" | "subtract";
}

/** Codebooks in the form a backend searches: packed, centred, with norms. Made once, used by every call, then disposed. */
export interface PreparedCodebooks {
  encode(request: EncodeRequest): Promise<BadInput | null>;
  encodeSync(request: EncodeRequest): BadInput | null;
  decode(request: DecodeRequest): Promise<void>;
  decodeSync(request: DecodeRequest): void;
  distances(request: DistanceRequest): Promise<void>;
  distancesSync(request: DistanceRequest): void;
  assign(request: AssignRequest): Promise<void>;
  /** For arrays that stay on a device; only backends that have one. */
  resident?(): ResidentCodebooks;
  /** Frees native memory now; a call in flight finishes first. A second call does nothing. */
  dispose(): void;
}

/** A projection in the form a backend computes with. Made once, used by every call, then disposed. */
export interface PreparedProjection {
  /** A vector that is not finite is a `BadInput`. */
  project(request: ProjectRequest): Promise<BadInput | null>;
  projectSync(request: ProjectRequest): BadInput | null;
  /** Frees native memory now; a call in flight finishes first. A second call does nothing. */
  dispose(): void;
}

/** Memory for the copies of rows that are made for the time of a call, which a backend reads and writes faster than other memory. */
export interface StagingMemory {
  /** So many bytes or more, of unspecified content, for one chunk at a time; null where they have to come from elsewhere. */
  take(bytes: number): ArrayBuffer | null;
  /** Takes them back, when nothing that has been asked of the backend uses them any more. */
  giveBack(room: ArrayBuffer): void;
  /** target = source, of as many elements. Both may be the caller's: neither is touched after the return. */
  copy<Elements extends Float32Array | CodeArray>(source: Elements, target: Elements): void;
}

export interface Backend {
  readonly name: BackendName;
  /** One line for people: file, instruction set, threads or device. */
  readonly description: string;
  /**
   * Rows worth handing over in one call: enough to keep the backend busy, few enough that staging them (a copy of at most
   * a few MiB) and waiting for them keeps the event loop and the abort signal responsive. Rows that are not `copied` (default: they
   * are) may be more.
   */
  chunkRows(dim: number, codewordsPerVector: number, copied?: boolean): number;
  /** Calls worth having under way at once, so that the backend finds the next one waiting. */
  readonly chunksInFlight: number;
  /** Only backends that have memory of their own for it. Any other will do as well. */
  readonly staging?: StagingMemory;
  /**
   * `decode` rejects where a code of the stages that it adds up is not below its K_s, with outputs that are then unspecified. The
   * check is for the caller where this is not so, in requests that are answered at once, and to say which code it is.
   */
  readonly checksCodes?: true;
  /** `previous`: another codebook [K_0][D] of the first stage, by which the vectors that will be assigned have their codes. */
  prepare(spec: CodebookSpec, previous?: Float32Array): PreparedCodebooks;
  prepareProjection(projection: Projection): PreparedProjection;
  /**
   * Brings vectors[…][D] to where the backend computes, for many calls to read; null where that is not worth it or impossible. Only
   * backends that compute elsewhere have it.
   */
  hold?(vectors: Float32Array, dim: number): Promise<HeldRows | null>;
  /**
   * Starts draws from rows that are held, the first `count` of them; null where that is not worth it, or the device has no room for the
   * distances. Draws may fail for what the device lacks: then it is for the caller to draw in another way.
   */
  drawSeeds?(held: HeldRows, request: SeedDrawsRequest): SeedDraws | null;
  /**
   * Whether a step of learning, or an iteration of k-means, whose search takes so many multiply-adds is to be done by `resident` codebooks. Only backends that have
   * a device have it.
   */
  stepsOnDevice?(multiplyAdds: number): boolean;
  accumulate(request: AccumulateRequest): Promise<void>;
  lowerDistances(request: LowerDistancesRequest): Promise<void>;
  /** Only backends that are faster than lib/search/scan-codes.ts, which defines it. */
  scanCodes?(request: ScanCodesRequest): Promise<void>;
}

/**
 * Offers every coded vector to every query by its key: with norms (l2) |x̂|² + T_0 + T_1 + …, without (inner product) 0 + T_0 + …, in stage
 * order, T_s = factor · ⟨query, codeword s⟩; all in float64 as `docs/search.md` says. The smallest keys win, of equal ones the lower id.
 */
export interface ScanCodesRequest {
  /** The codes, below their codebook sizes. */
  readonly columns: CodeColumns;
  /** norms[vectors], or null. */
  readonly norms: Float64Array | null;
  /** codebooks[stages][K_s][dim], of the stages of the columns. */
  readonly codebooks: readonly Float32Array[];
  readonly dim: number;
  /** queries[count][dim], weighted. */
  readonly queries: Float64Array;
  readonly count: number;
  /** A power of two or minus one: products with it are exact. */
  readonly factor: number;
  /** At most the vectors there are. */
  readonly candidates: number;
  /** Written: keys[count][candidates] and the ids of their vectors, the smallest first. */
  readonly keys: Float64Array;
  readonly ids: Uint32Array;
}

/** Codes of `vectors` vectors, column by column. */
export interface CodeColumns {
  readonly vectors: number;
  readonly stages: number;
  /**
   * words[⌊stages / 4⌋][vectors] = the codes of stages 4g … 4g + 3 of a vector, the first in the lowest byte, which are read in a quarter
   * of the loads; empty where a code may be above 255.
   */
  readonly words: Int32Array;
  /** singles[stages that are left][vectors] = the code of a vector in one stage. */
  readonly singles: Uint8Array | Uint16Array | Uint32Array;
}

/** Options that every backend understands. */
export interface BackendOptions {
  /**
   * Threads that one call may use; default: the processors this process may run on, with `js` only the calling thread. The
   * answer never depends on it.
   */
  readonly threads?: number;
  /** The number of the GPU that `cuda` uses; default: the first that can. */
  readonly device?: number;
}
