// What `rvq train` is to do: from options and defaults, or from the metadata of a checkpoint.

import { isHop } from "../audio/mdct.js";
import { type AudioTraining, newSpeakersRecipe } from "../audio/recipe.js";
import { maxSampleRate, minSampleRate } from "../audio/wav.js";
import { checkInteger, limits } from "../check.js";
import { invalidArgument, RvqError, show } from "../errors.js";
import type { TrainCommandOptions } from "./train-options.js";
import { WrongUsage } from "./wrong-usage.js";

export interface TrainingPlan {
  /** Null where the vectors are given as such. */
  readonly audio: AudioFraming | null;
  readonly training: AudioTraining;
  /** Null for k-means alone. */
  readonly ema: EmaPlan | null;
}

/** How recordings become vectors. */
export interface AudioFraming {
  readonly sampleRate: number;
  readonly hop: number;
  readonly shifts: number;
  readonly negated: boolean;
}

export interface EmaPlan {
  readonly epochs: number;
  /** Vectors a step at most. */
  readonly batch: number;
  readonly decay: number;
}

export const audioDefaults = newSpeakersRecipe;

/** Of any vectors: the library's own defaults, and codebooks of the same size as for speech. */
export const vectorDefaults: { readonly training: AudioTraining } = {
  training: {
    codebookSize: newSpeakersRecipe.training.codebookSize,
    stages: 8,
    iterations: 20,
    init: "k-means++",
    sampleSize: 65_536,
    shrinkage: 0,
    minClusterSize: 2,
    seed: newSpeakersRecipe.training.seed,
  },
};

/** 16 vectors a codeword and step with codebooks of 256. */
export const emaDefaults: EmaPlan = { epochs: 10, batch: 4096, decay: 0.99 };

export function planFrom(options: TrainCommandOptions, ofAudio: boolean): TrainingPlan {
  const { rate, hop, codewords, stages, iterations, seed, epochs, batch, decay } = options;
  const { sampleRate, hop: defaultHop, shifts, negated } = audioDefaults;
  const { training } = ofAudio ? audioDefaults : vectorDefaults;
  if (!ofAudio) {
    if (rate !== undefined) throw new WrongUsage("--rate", "no sample rate for .npy files", rate);
    if (hop !== undefined) throw new WrongUsage("--hop", "no frames of .npy files, whose rows are the vectors", hop);
  }
  return {
    audio: ofAudio ? { sampleRate: rate ?? sampleRate, hop: hop ?? defaultHop, shifts, negated } : null,
    training: {
      ...training,
      codebookSize: codewords ?? training.codebookSize,
      stages: stages ?? training.stages,
      iterations: iterations ?? training.iterations,
      seed: seed ?? training.seed,
    },
    ema:
      options.learn !== "ema"
        ? null
        : {
            epochs: epochs ?? emaDefaults.epochs,
            batch: batch ?? emaDefaults.batch,
            decay: decay ?? emaDefaults.decay,
          },
  };
}

/** The metadata of models and checkpoints: `amount` is how much data there was. */
export function planMetadata(
  { audio, training, ema }: TrainingPlan,
  amount: { readonly seconds: number } | { readonly vectors: number },
): Record<string, unknown> {
  if (audio === null) return { training: { ...amount, ...training, ...(ema === null ? {} : { ema }) } };
  const { sampleRate, hop, shifts, negated } = audio;
  const learned = { ...amount, shifts, negated, ...training, ...(ema === null ? {} : { ema }) };
  return { audio: { sampleRate, hop }, training: learned };
}

/**
 * The plan that these metadata of a checkpoint tell.
 * @throws RvqError INVALID_CHECKPOINT
 */
export function planOfMetadata(name: string, metadata: Readonly<Record<string, unknown>>): TrainingPlan {
  try {
    const training = object("training", metadata.training);
    const ema = object("ema", training.ema);
    const decay = ema.decay;
    if (typeof decay !== "number") throw invalidArgument("decay", "a number", decay);
    return {
      audio: metadata.audio === undefined ? null : framing(object("audio", metadata.audio), training),
      // The trainer holds what these decided; they are here for comparison and for the model's metadata.
      training: {
        ...(training as unknown as AudioTraining),
        codebookSize: checkInteger("codebookSize", training.codebookSize, 1, limits.codebookSize),
        stages: checkInteger("stages", training.stages, 1, limits.stages),
        iterations: checkInteger("iterations", training.iterations, 1, Number.MAX_SAFE_INTEGER),
        seed: checkInteger("seed", training.seed, 0, Number.MAX_SAFE_INTEGER),
      },
      ema: {
        epochs: checkInteger("epochs", ema.epochs, 1, Number.MAX_SAFE_INTEGER),
        batch: checkInteger("batch", ema.batch, 1, Number.MAX_SAFE_INTEGER),
        decay,
      },
    };
  } catch (cause) {
    const message = `${name}: expected a checkpoint that rvq train wrote, got another one (${(cause as Error).message})`;
    throw new RvqError("INVALID_CHECKPOINT", message, { cause });
  }
}

/** Throws `RvqError` INVALID_ARGUMENT where an option that is given says something else than the plan of the checkpoint. */
export function requireSamePlan(options: TrainCommandOptions, { audio, training, ema }: TrainingPlan): void {
  const pairs: [string, unknown, unknown][] = [
    ["--learn", options.learn, "ema"],
    ["--codewords", options.codewords, training.codebookSize],
    ["--stages", options.stages, training.stages],
    ["--iterations", options.iterations, training.iterations],
    ["--seed", options.seed, training.seed],
    ["--epochs", options.epochs, ema?.epochs],
    ["--batch", options.batch, ema?.batch],
    ["--decay", options.decay, ema?.decay],
    ["--rate", options.rate, audio?.sampleRate],
    ["--hop", options.hop, audio?.hop],
  ];
  for (const [name, given, planned] of pairs) {
    if (given === undefined || given === planned) continue;
    throw invalidArgument(name, `${show(planned)}, as in the checkpoint, or nothing`, given);
  }
}

function framing(audio: Record<string, unknown>, training: Record<string, unknown>): AudioFraming {
  const { hop } = audio;
  if (!isHop(hop)) throw invalidArgument("hop", "an even integer", hop);
  if (typeof training.negated !== "boolean") throw invalidArgument("negated", "true or false", training.negated);
  return {
    sampleRate: checkInteger("sampleRate", audio.sampleRate, minSampleRate, maxSampleRate),
    hop,
    shifts: checkInteger("shifts", training.shifts, 1, hop),
    negated: training.negated,
  };
}

function object(name: string, value: unknown): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw invalidArgument(name, "an object", value);
  }
  return value as Record<string, unknown>;
}
