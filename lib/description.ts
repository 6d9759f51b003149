// What a quantizer says of itself: sizes, capacity, rates.

import type { CodebookSpec, Metric } from "./backend.js";
import { checkNumber, checkOptions } from "./check.js";
import { bitsPerCode } from "./pack-layout.js";

/** Sizes and rates of a quantizer; bits are information (log2 K) and, where said so, as packed (ceil(log2 K)). */
export interface Description {
  readonly dim: number;
  readonly metric: Metric;
  readonly weighted: boolean;
  readonly stages: number;
  readonly codebookSizes: readonly number[];
  /** Bytes of all codebooks in float32. */
  readonly codebookBytes: number;
  /** log2 of the number of different reconstructions: Σ log2 K_s. */
  readonly log2Capacity: number;
  /** For the first 1, 2, … stages. */
  readonly rates: readonly {
    readonly stages: number;
    readonly bitsPerVector: number;
    readonly packedBitsPerVector: number;
    /** bitsPerVector × frameRate; null where no rate was given. */
    readonly bitsPerSecond: number | null;
  }[];
}

export function describe(spec: CodebookSpec, frameRate: number | undefined): Description {
  const codebookSizes = spec.codebooks.map((codebook) => codebook.length / spec.dim);
  return {
    dim: spec.dim,
    metric: spec.metric,
    weighted: spec.weights !== null,
    stages: codebookSizes.length,
    codebookSizes,
    codebookBytes: spec.codebooks.reduce((sum, codebook) => sum + codebook.byteLength, 0),
    log2Capacity: informationBits(codebookSizes),
    rates: ratesOf(codebookSizes, 1, frameRate),
  };
}

export interface DescribeOptions {
  /** Vectors a second, for bit rates. */
  readonly frameRate?: number;
}

export function checkDescribeOptions(options: DescribeOptions): DescribeOptions["frameRate"] {
  checkOptions("options", options);
  const { frameRate } = options;
  if (frameRate !== undefined) checkNumber("frameRate", frameRate, Number.MIN_VALUE, "a positive number");
  return frameRate;
}

/** Rates of the first 1, 2, … stages, each of so many columns of the codes. */
export function ratesOf(
  codebookSizes: readonly number[],
  columnsPerStage: number,
  frameRate: number | undefined,
): Description["rates"] {
  return Array.from({ length: codebookSizes.length / columnsPerStage }, (_, stage) => {
    const sizes = codebookSizes.slice(0, (stage + 1) * columnsPerStage);
    const bitsPerVector = informationBits(sizes);
    const packed = sizes.reduce((sum, size) => sum + bitsPerCode(size), 0);
    const bitsPerSecond = frameRate === undefined ? null : bitsPerVector * frameRate;
    return { stages: stage + 1, bitsPerVector, packedBitsPerVector: packed, bitsPerSecond };
  });
}

/** Σ log2 K_s. */
export function informationBits(codebookSizes: readonly number[]): number {
  return codebookSizes.reduce((sum, size) => sum + Math.log2(size), 0);
}
