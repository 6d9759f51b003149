// The contract of `lib/backend.ts` for rows that stay on a device.

import type { BadInput, CodeArray } from "./backend.js";

/** Rows of an array on a device at most: kernels count them in 31 bits, twice. */
export const mostResidentRows = 2 ** 30 - 1;

/** Bytes on a device; a call in flight keeps what it uses. */
export interface DeviceMemory {
  /** Copies an array to the bytes from `offset` on. */
  upload(copy: { source: Float32Array | Float64Array | CodeArray; offset: number }): Promise<void>;
  /** Fills an array from there. */
  download(copy: { target: Float32Array | Float64Array | CodeArray; offset: number }): Promise<void>;
  dispose(): void;
}

/** How long the kernels of a call took, in milliseconds by the device's own clock. */
export interface DeviceTime {
  readonly kernelMs: number;
}

/** The operations on arrays that stay on a device, shaped as those of the other requests; `wide`: codes have 32 bits, else 16. */
export interface ResidentCodebooks {
  /** The number of the device. */
  readonly device: number;
  allocate(bytes: number): DeviceMemory;
  encode(request: {
    readonly vectors: DeviceMemory;
    /** Rows of all arrays before those that are meant; default 0. Rows of a `BadInput` count from there. */
    readonly first?: number | undefined;
    readonly count: number;
    readonly stages: number;
    readonly codes: DeviceMemory;
    readonly wide: boolean;
    /** Where the residuals after the last stage go, where they are wanted; may be `vectors`, which a `BadInput` or a failure spoils. */
    readonly residuals?: DeviceMemory | undefined;
  }): Promise<DeviceTime & { readonly bad: BadInput | null }>;
  decode(request: {
    readonly codes: DeviceMemory;
    readonly wide: boolean;
    readonly count: number;
    readonly codeStages: number;
    readonly stages: number;
    readonly vectors: DeviceMemory;
  }): Promise<DeviceTime>;
  /** `AccumulateRequest` with the codes of one stage out of `codeStages`; counts and sums come to the host. */
  accumulate(request: {
    readonly vectors: DeviceMemory;
    readonly count: number;
    readonly dim: number;
    readonly codes: DeviceMemory;
    readonly wide: boolean;
    readonly codeStages: number;
    readonly stage: number;
    readonly numCodewords: number;
    readonly gridExponents: Int32Array;
    readonly counts: Float64Array;
    readonly sums: Float64Array;
  }): Promise<DeviceTime>;
  /** magnitudes[i] = max(magnitudes[i], |vectors[n][i]|) over all rows n; NaN raises nothing. */
  magnitudes(request: {
    readonly vectors: DeviceMemory;
    readonly count: number;
    readonly dim: number;
    /** In and out magnitudes[D], on the host. */
    readonly magnitudes: Float32Array;
  }): Promise<void>;
  /** magnitudes[s][i] = the largest |c_i| of the codewords of stage s. */
  codewordMagnitudes(request: {
    /** Output magnitudes[S][D], on the host. */
    readonly magnitudes: Float32Array;
  }): Promise<void>;
  /**
   * One stage of a step of learning; it changes the codewords of these codebooks, as `loadCodewords` does. They are for one caller then,
   * who makes one call of `resident` after the other; stages may overlap.
   */
  learn(request: LearnRequest): Promise<void>;
  /** The end of an iteration of k-means; it changes the codewords too. */
  means(request: MeansRequest): Promise<void>;
  /** The codewords of a stage become source[K][D], finite, with the cosine metric none zero. */
  loadCodewords(request: { readonly stage: number; readonly source: Float32Array }): Promise<void>;
  /** Fills target[K][D] with the codewords of a stage. */
  readCodewords(request: { readonly stage: number; readonly target: Float32Array }): Promise<void>;
}

/**
 * Rows on a device with their codes in a stage. c being codeword codes[n][stage]: distances[n] = d64(vectors[n], c) with weights,
 * plainDistances[n] the same without.
 */
export interface CodedRows {
  readonly vectors: DeviceMemory;
  readonly count: number;
  readonly codes: DeviceMemory;
  readonly wide: boolean;
  /** Of the step. */
  readonly codeStages: number;
  readonly stage: number;
  /** Output distances[count] of float64. */
  readonly distances: DeviceMemory;
  /** The same, only with weights. */
  readonly plainDistances?: DeviceMemory | undefined;
  /** gridExponents[D], each −149 … 1000. */
  readonly gridExponents: Int32Array;
}

/**
 * A stage of a step of learning, from the codes of its rows to its codewords after the step. residuals[n] = fround(vectors[n] − c)
 * element by element. Rows are summed up as in `AccumulateRequest`, and the state of the stage is averaged as by `averageSteps` of
 * lib/moving-average.ts. A row does not count whose stagesOfRow[n] ≤ stage, nor one with distancesBefore[n] = 0.
 */
export interface LearnRequest extends CodedRows {
  /** stagesOfRow[count], 16 bits each. */
  readonly stagesOfRow?: DeviceMemory | undefined;
  /** distancesBefore[count] of float64, of the stage before. */
  readonly distancesBefore?: DeviceMemory | undefined;
  /** Output residuals[count][D], where wanted; may be `vectors`. */
  readonly residuals?: DeviceMemory | undefined;
  readonly decay: number;
  readonly epsilon: number;
  /** The form "encodec", else "simple". */
  readonly encodec: boolean;
  /** The usage is all zero. */
  readonly unused: boolean;
  /** In and out usage[K] and averages[K][D] of float64. */
  readonly usage: DeviceMemory;
  readonly averages: DeviceMemory;
  /** Outputs masses[K] and usageAfter[K], on the host. */
  readonly masses: Float64Array;
  readonly usageAfter: Float64Array;
  /** Output { mass, weighted, plain, last } of lib/stage-errors.ts, on the host. */
  readonly errors: Float64Array;
}

/**
 * An iteration of k-means, from the codes of its rows to codewords that are their means: `accumulate` with `previousCodes`, and
 * `meanSteps` of lib/statistics.ts. With the cosine metric a codeword stays as it is where its mean is exactly zero.
 */
export interface MeansRequest extends CodedRows {
  /** The codes of the iteration before, of the same shape and width, under which the rows are in the sums; else these start from zero. */
  readonly previousCodes?: DeviceMemory | undefined;
  readonly shrinkage: number;
  /** In and out counts[K] and sums[K][D], integers of 64 bits. */
  readonly counts: DeviceMemory;
  readonly sums: DeviceMemory;
  /** Output countsAfter[K], on the host: the counts. */
  readonly countsAfter: Float64Array;
  /** Output { Σ distances without weights as `plain` of lib/stage-errors.ts, rows whose code is another }, on the host. */
  readonly totals: Float64Array;
}

/** Rows that a backend has where it computes too; their owner does not change them meanwhile. */
export interface HeldRows {
  /** Where `resident` codebooks of the same backend find them: vectors[…][D]. */
  readonly memory: DeviceMemory;
  /** Copies of these rows, in this order: [rows.length][D]. */
  gather(rows: Uint32Array): Promise<Float32Array>;
  dispose(): void;
}

/** The draws of k-means++ from all rows that are held. */
export interface SeedDrawsRequest {
  readonly count: number;
  readonly dim: number;
  /** weights[D] or null. */
  readonly weights: Float32Array | null;
  /** The row that has been drawn. */
  readonly first: number;
}

/** Draws rows that lie apart, where they are held. */
export interface SeedDraws {
  /**
   * For each of the fractions, in [0, 1): lowers the distance of every row, +infinity at first, to that from the row before, d64 with
   * weights; then draws a row by the fraction, as `draw` of lib/proportional-draw.ts. Fewer rows than fractions: after so many
   * all distances are zero.
   */
  draw(fractions: Float64Array): Promise<Uint32Array>;
  dispose(): void;
}
