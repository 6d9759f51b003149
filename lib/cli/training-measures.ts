// What trained codebooks make of the vectors that they were trained on, stage by stage.

import type { ResidualQuantizer } from "../index.js";
import type { CommandContext } from "./context.js";
import { startProgress } from "./progress.js";
import type { MeasuredStage } from "./stage-lines.js";

export async function measureTraining(
  { stderr, signal }: CommandContext,
  quantizer: ResidualQuantizer,
  vectors: Float32Array,
): Promise<MeasuredStage[]> {
  const progress = startProgress(stderr, "measuring", vectors.length / quantizer.dim);
  try {
    const codes = await quantizer.encode(vectors, { signal, onProgress: (done) => progress.update(done) });
    const distortion = await quantizer.distortion(vectors, codes, { signal });
    return quantizer.usage(codes).map(({ counts, perplexity }, stage) => {
      const { mse, snrDb } = distortion[stage];
      return { mse, snrDb, perplexity, counts };
    });
  } finally {
    progress.stop();
  }
}
