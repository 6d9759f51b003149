// A model to try the service with: the shape of EnCodec at 24 kHz, codewords of Gaussian noise. Real ones come from
// `rvq train`, `ResidualQuantizer.train` or `quantizerFromCheckpoint`.

import { ResidualQuantizer } from "rvq";

export const dim = 128;
const codebookSize = 1024;
/** What a stage leaves over, in parts of its input. */
const decline = 0.9;

export function demoModel(stages, choice) {
  const noise = gaussian(1);
  const codebooks = Array.from({ length: stages }, (_, stage) =>
    Float32Array.from({ length: codebookSize * dim }, () => noise() * decline ** stage),
  );
  return ResidualQuantizer.fromCodebooks(codebooks, { dim, ...choice, metadata: { about: "noise, to try with" } });
}

/** Numbers of roughly standard normal distribution, always the same for a seed. */
export function gaussian(seed) {
  let state = seed;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  return () => (uniform() + uniform() + uniform() + uniform() - 2) * Math.sqrt(3);
}
