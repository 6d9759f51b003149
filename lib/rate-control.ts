// Rate control: how many stages each frame gets, by a bit rate, an error ceiling, or the worth of a bit, within a leaky bucket.

import { checkFloat64, checkInteger, checkNumber, checkRequiredOptions, mapList } from "./check.js";
import { invalidArgument } from "./errors.js";
import { bitsPerCode } from "./pack-layout.js";

export interface PlanOptions {
  /** Frames (vectors) a second. */
  readonly frameRate: number;
  /** Thousands of bits a second that there are. */
  readonly kbps: number;
}

/** What a quantizer can do with a bit rate; codes are counted as packed. */
export interface Plan {
  /** The most stages that every frame can have; 0: not even one. */
  readonly stages: number;
  /** Bits a second of that. */
  readonly bitsPerSecond: number;
  /** Stages that a frame can have on the average where they may differ (`allocateStages`). */
  readonly averageStages: number;
  /** For the first 1, 2, … stages. */
  readonly rates: readonly {
    readonly stages: number;
    readonly bitsPerFrame: number;
    readonly bitsPerSecond: number;
    readonly fits: boolean;
  }[];
}

/** What `frameRate` and `kbps` allow with codebooks of these sizes. */
export function planRate(codebookSizes: readonly number[], options: PlanOptions): Plan {
  checkRequiredOptions("options", options);
  const frameRate = checkNumber("frameRate", options.frameRate, Number.MIN_VALUE, "a positive number");
  const kbps = checkNumber("kbps", options.kbps, 0, "a number that is not negative");
  const available = (1000 * kbps) / frameRate;
  const bits = cumulativeBits(codebookSizes.map(bitsPerCode));
  const rates = codebookSizes.map((_, stage) => {
    const bitsPerFrame = bits[stage + 1];
    return {
      stages: stage + 1,
      bitsPerFrame,
      bitsPerSecond: bitsPerFrame * frameRate,
      fits: bitsPerFrame <= available,
    };
  });
  const stages = rates.filter(({ fits }) => fits).length;
  const left = available - bits[stages];
  const average = stages === codebookSizes.length ? stages : stages + left / (bits[stages + 1] - bits[stages]);
  return { stages, bitsPerSecond: bits[stages] * frameRate, averageStages: average, rates };
}

export interface AllocateOptions {
  readonly frameRate: number;
  /** The bit rate to fill, or with `maxError` or `weight` the one to stay under; the bucket drains at it. */
  readonly kbps?: number;
  /** How much the stream may run ahead of its rate, in seconds of it; default 1. The delay that a receiver at that rate has to bear. */
  readonly bucketSeconds?: number;
  /** Bits in the bucket at the first frame; default 0. Pass the `bucketBits` of the call before to go on. */
  readonly bucketBits?: number;
  /** Each frame gets the fewest stages whose squared error is at most this. */
  readonly maxError?: number;
  /** The squared error that a bit is worth: each frame gets the stages with the least error + weight · bits. */
  readonly weight?: number;
  /** Stages of every frame at least; default 1. */
  readonly minStages?: number;
  /** Stages of every frame at most; default all. The same as `minStages`: a constant number. */
  readonly maxStages?: number;
}

export interface Allocation {
  /** stageCounts[frames]: for `RvqWriter`, `rvqBytes` and `decode`, beside the codes. */
  readonly stageCounts: Uint16Array;
  readonly bits: number;
  readonly bitsPerSecond: number;
  /** Bits left in the bucket after the last frame. */
  readonly bucketBits: number;
  /** Sum of the squared errors of all frames. */
  readonly error: number;
}

/** What every frame is chosen by. */
interface Rules {
  /** bits[n] of n stages. */
  readonly bits: Float64Array;
  readonly min: number;
  readonly max: number;
  /** Bits a frame by which the bucket drains. */
  readonly drain: number;
  readonly capacity: number;
  readonly startBits: number;
  readonly maxError: number | null;
}

/**
 * Chooses the number of stages of each frame.
 * @param errors errors[frames][S + 1]: squared error of a frame from its first 0, 1, … S stages (`frameErrors`)
 * @param bitsPerStage bits of a code of each of the S stages: `bitsPerCode`, or what entropy coding makes of them
 * @throws RvqError INVALID_ARGUMENT, also where `minStages` take more than the bit rate
 */
export function allocateStages(
  errors: Float64Array,
  bitsPerStage: readonly number[],
  options: AllocateOptions,
): Allocation {
  checkRequiredOptions("options", options);
  const frameRate = checkNumber("frameRate", options.frameRate, Number.MIN_VALUE, "a positive number");
  const rules = checkRules(bitsPerStage, frameRate, options);
  const width = rules.bits.length;
  const plain = checkFloat64("errors", errors);
  if (plain.length % width !== 0) {
    throw invalidArgument("errors", `a Float64Array of a multiple of ${width} elements`, errors);
  }
  const bad = plain.findIndex((error) => !(error >= 0 && error < Infinity));
  if (bad >= 0) throw invalidArgument(`errors[${bad}]`, "a finite number that is not negative", plain[bad]);
  const { kbps, weight, maxError } = options;
  if (kbps === undefined && weight === undefined && maxError === undefined && rules.min !== rules.max) {
    throw invalidArgument("options", "kbps, maxError, weight, or minStages equal to maxStages", options);
  }
  if (weight !== undefined) checkNumber("weight", weight, 0, "a number that is not negative");
  const fill = kbps !== undefined && weight === undefined && maxError === undefined;
  const found = fill ? fillRate(plain, rules) : allocate(plain, rules, weight ?? 0);
  const frames = plain.length / width;
  return { ...found, bitsPerSecond: frames > 0 ? (found.bits * frameRate) / frames : 0 };
}

type Found = Omit<Allocation, "bitsPerSecond">;

/** Every frame in turn: the best number of stages for which there is room in the bucket. */
function allocate(errors: Float64Array, rules: Rules, weight: number): Found {
  const { bits, min, max, drain, capacity, startBits, maxError } = rules;
  const width = bits.length;
  const stageCounts = new Uint16Array(errors.length / width);
  let total = 0;
  let error = 0;
  let level = startBits;
  for (let frame = 0; frame < stageCounts.length; frame++) {
    const start = frame * width;
    // A bucket that is too full already gets what it must.
    const room = capacity + drain - level;
    let best = min;
    for (let n = min + 1; n <= max && bits[n] <= room; n++) {
      if (maxError !== null && errors[start + best] <= maxError) break;
      const gain = errors[start + best] - errors[start + n];
      if (gain > weight * (bits[n] - bits[best])) best = n;
    }
    stageCounts[frame] = best;
    total += bits[best];
    error += errors[start + best];
    level = Math.max(0, level + bits[best] - drain);
  }
  return { stageCounts, bits: total, bucketBits: level, error };
}

/** The smallest weight of a bit, to 40 binary digits of its ratio to the largest that matters, that does not exceed the rate. */
function fillRate(errors: Float64Array, rules: Rules): Found {
  const { bits, drain, startBits } = rules;
  const frames = errors.length / bits.length;
  // What is in the bucket has been spent, but not yet sent.
  const budget = frames * drain - startBits;
  let found = allocate(errors, rules, 0);
  if (found.bits <= budget) return found;
  let high = largestGain(errors, bits);
  let low = high * 2 ** -60;
  found = allocate(errors, rules, high);
  for (let step = 0; step < 48; step++) {
    // The geometric mean: square roots are rounded in the same way everywhere.
    const middle = Math.sqrt(low) * Math.sqrt(high);
    const tried = allocate(errors, rules, middle);
    if (tried.bits <= budget) {
      found = tried;
      high = middle;
    } else {
      low = middle;
    }
  }
  return found;
}

/** No frame takes a stage for less than this a bit. */
function largestGain(errors: Float64Array, bits: Float64Array): number {
  let most = 1;
  for (let i = 0; i < errors.length; i++) most = Math.max(most, errors[i]);
  const positive = bits.filter((one) => one > 0);
  return (2 * most) / Math.min(1, ...positive);
}

function checkRules(bitsPerStage: unknown, frameRate: number, options: AllocateOptions): Rules {
  if (!Array.isArray(bitsPerStage)) throw invalidArgument("bitsPerStage", "an array, one number a stage", bitsPerStage);
  const stages = checkInteger("bitsPerStage.length", bitsPerStage.length, 1, 65_535);
  const bits = cumulativeBits(
    mapList(bitsPerStage, (one, stage) =>
      checkNumber(`bitsPerStage[${stage}]`, one, 0, "a number that is not negative"),
    ),
  );
  checkNumber("the sum of bitsPerStage", bits[stages], 0, "a finite number");
  const max = checkInteger("maxStages", options.maxStages ?? stages, 0, stages);
  const min = checkInteger("minStages", options.minStages ?? Math.min(1, max), 0, max);
  const { kbps, maxError = null } = options;
  if (maxError !== null) checkNumber("maxError", maxError, 0, "a number that is not negative");
  const startBits = checkNumber("bucketBits", options.bucketBits ?? 0, 0, "a number that is not negative");
  const seconds = checkNumber("bucketSeconds", options.bucketSeconds ?? 1, 0, "a number that is not negative");
  if (kbps === undefined) return { bits, min, max, drain: Infinity, capacity: Infinity, startBits, maxError };
  checkNumber("kbps", kbps, Number.MIN_VALUE, "a positive number");
  const drain = (1000 * kbps) / frameRate;
  if (bits[min] > drain) {
    const least = (bits[min] * frameRate) / 1000;
    throw invalidArgument(
      "kbps",
      `at least ${least}, which minStages ${min} take at ${frameRate} frames a second`,
      kbps,
    );
  }
  return { bits, min, max, drain, capacity: seconds === 0 ? 0 : 1000 * kbps * seconds, startBits, maxError };
}

/** Of the first 0, 1, … stages. */
function cumulativeBits(bitsPerStage: readonly number[]): Float64Array {
  const bits = new Float64Array(bitsPerStage.length + 1);
  for (const [stage, one] of bitsPerStage.entries()) bits[stage + 1] = bits[stage] + one;
  return bits;
}
