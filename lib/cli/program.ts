// The commands of `rvq`, their options, and how failures end: one line on stderr and an exit code.

import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { isHop, maxHop } from "../audio/mdct.js";
import { demoRecipe, newSpeakersRecipe } from "../audio/recipe.js";
import { maxSampleRate, minSampleRate } from "../audio/wav.js";
import { backendNames } from "../backend.js";
import { limits } from "../check.js";
import { type BackendChoice, RvqError, status } from "../index.js";
import type { CommandContext, Output } from "./context.js";
import { convertCommand } from "./convert.js";
import { decodeCommand } from "./decode.js";
import { demoCommand } from "./demo.js";
import { doctorCommand } from "./doctor.js";
import { encodeCommand } from "./encode.js";
import { infoCommand } from "./info.js";
import { inspectCommand } from "./inspect.js";
import { searchCommand } from "./search.js";
import { trainCommand } from "./train.js";
import { trimCommand } from "./trim.js";

export interface RunOptions {
  readonly stdout: Output;
  readonly stderr: Output;
  readonly signal: AbortSignal;
}

/** What the numbers on the command line may be: a mistake in one should not cost an hour of reading files first. */
const ranges = {
  // As many as any backend takes.
  threads: [1, 1024],
  // One codeword carries no information; more than 16 bits a codebook want more frames than there is speech.
  codewords: [2, 65_536],
  stages: [1, limits.stages],
  iterations: [1, 1_000_000],
  seed: [0, Number.MAX_SAFE_INTEGER],
  rate: [minSampleRate, maxSampleRate],
  // Printed, one line each.
  neighbours: [1, 1_000_000],
} as const;

const exitCodes = { success: 0, failure: 1, usage: 2, stopped: 130 } as const;

/** Runs `rvq` with these arguments; never throws. The exit code is 0, 1 (failure), 2 (wrong usage) or 130 (stopped). */
export async function run(args: readonly string[], options: RunOptions): Promise<number> {
  try {
    await makeProgram(options).parseAsync(args, { from: "user" });
    return exitCodes.success;
  } catch (error) {
    if (options.signal.aborted) {
      options.stderr.write("rvq: stopped\n");
      return exitCodes.stopped;
    }
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.success : exitCodes.usage;
    // What rvq throws on purpose says all there is to say; anything else is a bug, and its stack helps to find it.
    const text =
      error instanceof Error && !(error instanceof RvqError) ? (error.stack ?? error.message) : messageOf(error);
    options.stderr.write(`rvq: ${text}\n`);
    return exitCodes.failure;
  }
}

function makeProgram({ stdout, stderr, signal }: RunOptions): Command {
  const program = new Command("rvq")
    .description("Vector quantization for Node: residual codebooks for speech, on CUDA, CPU SIMD or plain TypeScript.")
    .version(status().version)
    .addOption(
      new Option("--backend <name>", "what computes; the answer never depends on it")
        .choices(["auto", ...backendNames])
        .default("auto"),
    )
    .option("--threads <n>", "threads to use at most; the answer never depends on it", integerIn(ranges.threads))
    .exitOverride()
    .configureOutput({ writeOut: (text) => stdout.write(text), writeErr: (text) => stderr.write(`rvq: ${text}`) });

  const context = (): CommandContext => {
    const { backend, threads } = program.opts<{ backend: BackendChoice; threads?: number }>();
    return { stdout, stderr, signal, backend: threads === undefined ? { backend } : { backend, threads } };
  };

  // Subcommands are made by `command`, so that they inherit the settings above.
  program
    .command("demo")
    .description("train on bundled speech, then hear and see a clip rebuilt from 4, 8, 16 and 32 codebooks")
    .argument("[clip]", "a WAV file to rebuild; default: a bundled speaker who was not trained on")
    .option("--out <folder>", "where the report and the audio go", "rvq-demo")
    .option("--quick", "small codebooks and three seconds of audio, to see that everything works", false)
    .option("--seed <n>", "seed of the training", integerIn(ranges.seed), demoRecipe.training.seed)
    .action((clip: string | undefined, options) => demoCommand(context(), clip, options));

  program
    .command("train")
    .description("check recordings and train codebooks on them")
    .argument("<paths...>", "WAV files, and folders that are searched for them")
    .option("-o, --out <file>", "the model to write", "model.rvqm")
    .option(
      "--codewords <n>",
      "codewords in each codebook",
      integerIn(ranges.codewords),
      newSpeakersRecipe.training.codebookSize,
    )
    .option("--stages <n>", "codebooks", integerIn(ranges.stages), newSpeakersRecipe.training.stages)
    .option(
      "--iterations <n>",
      "k-means iterations a codebook",
      integerIn(ranges.iterations),
      newSpeakersRecipe.training.iterations,
    )
    .option("--seed <n>", "seed of the training", integerIn(ranges.seed), newSpeakersRecipe.training.seed)
    .option("--rate <hz>", "sample rate to train at", integerIn(ranges.rate), newSpeakersRecipe.sampleRate)
    .option("--hop <samples>", "samples a frame, and the dimension of the vectors", evenHop, newSpeakersRecipe.hop)
    .addOption(
      new Option("--other-rates <what>", "what happens to recordings at another sample rate")
        .choices(["resample", "refuse"])
        .default("resample"),
    )
    .option("--check-only", "check the recordings and train nothing", false)
    .option("--report <file>", "write what the check found as JSON")
    .action((paths: string[], options) => trainCommand(context(), paths, options));

  program
    .command("encode")
    .description("code a WAV file with a trained model")
    .argument("<in.wav>")
    .argument("<out.rvq>")
    .requiredOption("-m, --model <file>", "the model, from rvq train or rvq demo")
    .option("--stages <n>", "codebooks to use; default: all", integerIn(ranges.stages))
    .option("--kbps <n>", "choose each frame's codebooks to fill this rate before entropy coding", positiveNumber)
    .addOption(
      new Option("--coding <name>", "how codes are coded: mixed is the smallest, packed the fastest")
        .choices(["mixed", "adaptive", "packed"])
        .default("mixed"),
    )
    .action((input: string, output: string, options) => encodeCommand(context(), input, output, options));

  program
    .command("decode")
    .description("rebuild a WAV file from coded audio")
    .argument("<in.rvq>")
    .argument("<out.wav>")
    .requiredOption("-m, --model <file>", "the model that coded it")
    .option("--stages <n>", "codebooks to use; default: all that were stored", integerIn(ranges.stages))
    .option("--recover", "decode what is intact of a damaged file: lost frames are silent", false)
    .action((input: string, output: string, options) => decodeCommand(context(), input, output, options));

  program
    .command("trim")
    .description("keep the first few codebooks of coded audio, without coding it anew")
    .argument("<in.rvq>")
    .argument("<out.rvq>")
    .requiredOption("--stages <n>", "codebooks to keep", integerIn(ranges.stages))
    .action((input: string, output: string, options) => trimCommand(context(), input, output, options));

  program
    .command("inspect")
    .description("show what a .rvq file consists of, and check all of it; exit code 1: it is damaged")
    .argument("<file.rvq>")
    .option("--json", "as JSON", false)
    .action((file: string, options) => inspectCommand(context(), file, options));

  program
    .command("convert")
    .description("codebooks from one form into another: .rvqm, .npy, .safetensors; from codecs' checkpoints too")
    .argument("<in>", "a .rvqm, .npy or .safetensors file")
    .argument("<out>", "likewise; its ending says which form")
    .option("--quantizer <name>", "which quantizer of a checkpoint that has several")
    .addOption(new Option("--metric <name>", "the metric of codebooks from a .npy file").choices(["l2", "cosine"]))
    .action((input: string, output: string, options) => convertCommand(context(), input, output, options));

  program
    .command("search")
    .description("find the coded vectors that are nearest to queries, without decoding them")
    .argument("<in.rvq>")
    .argument("<queries.npy>", "one vector, or a row each")
    .requiredOption("-m, --model <file>", "the model that coded them")
    .option("-k, --neighbours <n>", "how many for each query", integerIn(ranges.neighbours), 10)
    .addOption(
      new Option("--metric <name>", "l2: the smallest distance; ip: the largest inner product")
        .choices(["l2", "ip"])
        .default("l2"),
    )
    .option("--stages <n>", "codebooks to search by; default: all that were stored", integerIn(ranges.stages))
    .option("--vectors <file.npy>", "the originals: the best candidates are ranked again by them")
    .option("--rerank <n>", "how many candidates are; default: ten times --neighbours", integerIn(ranges.neighbours))
    .option("--json", "as JSON", false)
    .action((input: string, queries: string, options) => searchCommand(context(), input, queries, options));

  program
    .command("info")
    .description("show what is in a model or in coded audio")
    .argument("<file>")
    .option("--json", "as JSON", false)
    .action((file: string, options) => infoCommand(context(), file, options));

  program
    .command("doctor")
    .description("show which backends run on this machine, and what to do about those that do not")
    .option("--json", "as JSON", false)
    .action((options) => doctorCommand(context(), options));

  return program;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function integerIn([smallest, largest]: readonly [number, number]): (text: string) => number {
  return (text) => {
    const value = integerFrom(text);
    if (value >= smallest && value <= largest) return value;
    throw new InvalidArgumentError(`expected an integer from ${smallest} to ${largest}.`);
  };
}

function evenHop(text: string): number {
  const value = integerFrom(text);
  if (isHop(value)) return value;
  throw new InvalidArgumentError(`expected an even integer from 2 to ${maxHop}.`);
}

function positiveNumber(text: string): number {
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  if (value > 0 && value < Infinity) return value;
  throw new InvalidArgumentError("expected a positive number.");
}

/** NaN for anything but digits. */
function integerFrom(text: string): number {
  return /^\d+$/.test(text) ? Number(text) : Number.NaN;
}
