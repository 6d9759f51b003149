// A step of codebook learning by statistics of a batch that were made elsewhere.

import { firstBadInput } from "./bad-input.js";
import { invalidArgument } from "./errors.js";
import type { Statistics } from "./mergeable-statistics.js";
import { modelId } from "./model-file.js";
import { averageSteps, decayAt, type StageState } from "./moving-average.js";
import { runInSlices } from "./time-slice.js";
import type { TrainerPart, TrainerState } from "./training-step.js";

/** The state after the step, in the memory of `spare`; without rows it is the same state. */
export async function stepByStatistics(
  { model, state }: TrainerPart,
  spare: readonly StageState[],
  statistics: Statistics,
): Promise<TrainerState> {
  const { dim, metric, weights, rule } = model;
  const codebooks = state.stages.map(({ codebook }) => codebook);
  if (statistics.quantizerId !== modelId({ dim, metric, weights, codebooks })) {
    throw invalidArgument("statistics", "ones by the quantizer of this very step", "ones by another");
  }
  if (statistics.rows === 0) return state;

  const decay = decayAt(rule.decay, state.steps);
  const averageRule = { form: rule.average, epsilon: rule.epsilon, metric };
  for (const [stage, sums] of statistics.stageSums.entries()) {
    await runInSlices(averageSteps(state.stages[stage], sums, decay, averageRule, spare[stage]));
    // Statistics may come from bytes, and bytes from anywhere.
    if (firstBadInput(spare[stage].codebook, dim, metric === "cosine") !== null) {
      throw invalidArgument("statistics", "sums of vectors of their range", "sums that no codeword survives");
    }
  }
  return { steps: state.steps + 1, random: state.random, stages: spare };
}
