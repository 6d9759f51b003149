// Moves codebooks by exponential moving averages of the rows that codewords serve, in the simple form and in EnCodec's.
//
// With γ the decay, and of the rows of codeword k in a batch the count n'_k (or the sum of their weights) and the sum s_k (of rows
// times weights, exact up to its grid), all in float64 in the order written:
//
//   both      n_k ← γ·n_k + (1−γ)·n'_k
//   encodec   m_k ← γ·m_k + (1−γ)·s_k;   c_k = m_k / (((n_k + ε) / (Σn + K·ε))·Σn), Laplace smoothing (Défossez et al., 2022)
//   simple    m_k ← γ·m_k + (1−γ)·(s_k / n'_k) where n'_k > 0, else as it is;   c_k = m_k
//
// c_k is rounded to float32 once; m_k is kept in float64, so that steps smaller than a float32 digit add up. In the simple form n_k
// only tells dead codewords.

import type { Metric } from "./backend.js";
import { isZeroRow } from "./check.js";
import { massesOf, type StageSums } from "./stage-sums.js";
import { StepMeter, type Steps } from "./time-slice.js";

export type AverageForm = "encodec" | "simple";

/** What training knows of one stage with K codewords. */
export interface StageState {
  /** usage[K]: n, rows per step (or their weights). All zero: from elsewhere, and not used yet. */
  readonly usage: Float64Array;
  /** averages[K][D]: m. */
  readonly averages: Float64Array;
  /** codebook[K][D]: c. */
  readonly codebook: Float32Array;
}

export interface AverageRule {
  readonly form: AverageForm;
  /** ε > 0, only in the form "encodec". */
  readonly epsilon: number;
  readonly metric: Metric;
}

export function emptyState(numCodewords: number, dim: number): StageState {
  return {
    usage: new Float64Array(numCodewords),
    averages: new Float64Array(numCodewords * dim),
    codebook: new Float32Array(numCodewords * dim),
  };
}

/** Sets usage and averages so that codeword k stands for `usage[k]` rows: the sums are the mean times the count. */
export function* standFor(state: StageState, usage: Float64Array, form: AverageForm): Steps<void> {
  const dim = state.codebook.length / usage.length;
  const meter = new StepMeter();
  state.usage.set(usage);
  for (let k = 0; k < usage.length; k++) {
    setAverage(state, k, dim, form);
    if (meter.add(2 * dim)) yield;
  }
}

/** averages[k] of a codeword that stands for usage[k] rows. */
export function setAverage({ usage, averages, codebook }: StageState, k: number, dim: number, form: AverageForm): void {
  const factor = form === "encodec" ? usage[k] : 1;
  for (let i = k * dim; i < (k + 1) * dim; i++) averages[i] = factor * codebook[i];
}

/**
 * Writes the state after a step to `after`. A stage that no row counted in stays as it is. Codewords from elsewhere start as if they
 * had been used equally.
 */
export function* averageSteps(
  before: StageState,
  sums: StageSums,
  decay: number,
  { form, epsilon, metric }: AverageRule,
  after: StageState,
): Steps<void> {
  const { usage, averages, codebook } = after;
  const numCodewords = usage.length;
  const dim = codebook.length / numCodewords;
  const meter = new StepMeter();
  const masses = massesOf(sums);
  const totalMass = sum(masses);
  codebook.set(before.codebook);
  usage.set(before.usage);
  averages.set(before.averages);
  if (totalMass === 0) return;
  if (sum(usage) === 0)
    yield* standFor(
      after,
      usage.map(() => totalMass / numCodewords),
      form,
    );

  // n and m.
  const grids = Float64Array.from(sums.statistics.gridExponents, (exponent) => 2 ** exponent);
  const added = sums.statistics.sums;
  const rest = 1 - decay;
  for (let k = 0; k < numCodewords; k++) {
    const mass = masses[k];
    usage[k] = decay * usage[k] + rest * mass;
    if (form === "encodec") {
      for (let i = 0, j = k * dim; i < dim; i++, j++) averages[j] = decay * averages[j] + rest * (added[j] * grids[i]);
    } else if (mass > 0) {
      for (let i = 0, j = k * dim; i < dim; i++, j++) {
        averages[j] = decay * averages[j] + rest * ((added[j] * grids[i]) / mass);
      }
    }
    if (meter.add(3 * dim)) yield;
  }

  // c.
  const total = sum(usage);
  for (let k = 0; k < numCodewords; k++) {
    const smoothed = form === "encodec" ? ((usage[k] + epsilon) / (total + numCodewords * epsilon)) * total : 1;
    for (let j = k * dim; j < (k + 1) * dim; j++) codebook[j] = averages[j] / smoothed;
    // With the cosine metric a codeword needs a direction: where the average is exactly zero it keeps its earlier value.
    if (metric === "cosine" && isZeroRow(codebook, k * dim, dim)) {
      codebook.set(before.codebook.subarray(k * dim, (k + 1) * dim), k * dim);
    }
    if (meter.add(2 * dim)) yield;
  }
}

/** γ, or a straight line from one to another over so many steps, and then the other. */
export type Decay = number | { readonly from: number; readonly to: number; readonly steps: number };

/** The decay of step `step`, from 0. */
export function decayAt(decay: Decay, step: number): number {
  if (typeof decay === "number") return decay;
  if (step >= decay.steps) return decay.to;
  return decay.from + (decay.to - decay.from) * (step / decay.steps);
}

/** Sums run in index order. */
export function sum(values: Float64Array): number {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += values[i];
  return total;
}
