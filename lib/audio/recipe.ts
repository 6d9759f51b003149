// How codebooks for speech are trained unless asked otherwise; docs/demo.md says how each number was chosen.

import type { TrainOptions } from "../index.js";

/** The options of `ResidualQuantizer.train` that decide the codebooks, all of them given. */
export type AudioTraining = Required<
  Pick<TrainOptions, "stages" | "iterations" | "init" | "sampleSize" | "shrinkage" | "minClusterSize" | "seed">
> & { readonly codebookSize: number };

export interface AudioRecipe {
  /** Hz. */
  readonly sampleRate: number;
  /** Samples a frame, and the dimension of the vectors. */
  readonly hop: number;
  readonly training: AudioTraining;
  /** How often each recording is framed, each time beginning hop / shifts samples later. */
  readonly shifts: number;
  /** Whether every frame is learned with both signs. */
  readonly negated: boolean;
}

const stages = 32;

/** Learns the frames of the recordings as they are: the rate–distortion table of the benchmark. */
export const speechRecipe: AudioRecipe = {
  sampleRate: 16_000,
  hop: 160,
  training: {
    codebookSize: 256,
    stages,
    iterations: 16,
    init: "k-means++",
    // k-means++ on 8 vectors a codeword: as good as on all of them, and quicker.
    sampleSize: 2048,
    shrinkage: 1.5,
    // The first stage sees whole frames, of which a few odd ones must not each get a codeword.
    minClusterSize: [8, ...new Array<number>(stages - 1).fill(2)],
    seed: 1,
  },
  shifts: 1,
  negated: false,
};

/** Gives up SNR on the speakers that it learns from for SNR on others: what `rvq train` does. */
export const newSpeakersRecipe: AudioRecipe = {
  ...speechRecipe,
  training: { ...speechRecipe.training, iterations: 5, shrinkage: 4, minClusterSize: 4 },
  negated: true,
};

/** The demo has under three minutes of speech to learn from, and time for eight times as many frames. */
export const demoRecipe: AudioRecipe = { ...newSpeakersRecipe, shifts: 4 };
