// The options of `rvq train`.

import { type Command, Option } from "commander";
import { evenHop, fraction, integerIn, ranges } from "./arguments.js";
import { audioDefaults, emaDefaults, vectorDefaults } from "./training-plan.js";

/** What decides the codebooks is undefined where it is not given: its default depends on the data, or it is in a checkpoint. */
export interface TrainCommandOptions {
  readonly out: string;
  readonly learn?: "kmeans" | "ema";
  readonly codewords?: number;
  readonly stages?: number;
  readonly iterations?: number;
  readonly epochs?: number;
  readonly batch?: number;
  readonly decay?: number;
  readonly seed?: number;
  readonly rate?: number;
  readonly hop?: number;
  readonly otherRates: "resample" | "refuse";
  readonly checkpoint?: string;
  readonly every?: number;
  readonly resume?: string;
  readonly checkOnly: boolean;
  readonly report?: string;
}

/** `--every`, where it is not given. */
export const stepsToCheckpoint = 100;

const { codebookSize, seed } = audioDefaults.training;
const either = (key: "stages" | "iterations") =>
  `(default: ${audioDefaults.training[key]}, of .npy files ${vectorDefaults.training[key]})`;

export function addTrainOptions(command: Command): Command {
  return command
    .argument("<paths...>", "WAV files, and folders that are searched for them; or .npy files of vectors, [count][dim]")
    .option("-o, --out <file>", "the model to write", "model.rvqm")
    .addOption(
      new Option(
        "--learn <how>",
        "kmeans, stage after stage; or ema: after that, moving averages over batches (default: kmeans)",
      ).choices(["kmeans", "ema"]),
    )
    .option("--codewords <n>", `codewords in each codebook (default: ${codebookSize})`, integerIn(ranges.codewords))
    .option("--stages <n>", `codebooks ${either("stages")}`, integerIn(ranges.stages))
    .option("--iterations <n>", `k-means iterations a codebook ${either("iterations")}`, integerIn(ranges.iterations))
    .option(
      "--epochs <n>",
      `ema: how often it goes over the data (default: ${emaDefaults.epochs})`,
      integerIn(ranges.epochs),
    )
    .option("--batch <n>", `ema: vectors a step (default: ${emaDefaults.batch})`, integerIn(ranges.batch))
    .option("--decay <n>", `ema: what a step keeps of the averages (default: ${emaDefaults.decay})`, fraction)
    .option("--seed <n>", `seed of the training (default: ${seed})`, integerIn(ranges.seed))
    .option(
      "--rate <hz>",
      `WAV: sample rate to train at (default: ${audioDefaults.sampleRate})`,
      integerIn(ranges.rate),
    )
    .option(
      "--hop <samples>",
      `WAV: samples a frame, and the dimension of the vectors (default: ${audioDefaults.hop})`,
      evenHop,
    )
    .addOption(
      new Option("--other-rates <what>", "WAV: what happens to recordings at another sample rate")
        .choices(["resample", "refuse"])
        .default("resample"),
    )
    .option("--checkpoint <file>", "ema: where to write checkpoints, also on Ctrl-C")
    .option(
      "--every <n>",
      `ema: steps from one checkpoint to the next (default: ${stepsToCheckpoint})`,
      integerIn(ranges.steps),
    )
    .option("--resume <file>", "ema: go on from this checkpoint, with the same data and options")
    .option("--check-only", "check the recordings and train nothing", false)
    .option("--report <file>", "write what the check found as JSON; a name ending in .html: a page about the training");
}
