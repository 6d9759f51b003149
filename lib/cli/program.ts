// The commands of `rvq`, their options, and how failures end: one line on stderr and an exit code.

import { Command, CommanderError, Option } from "commander";
import { demoRecipe } from "../audio/recipe.js";
import { backendNames } from "../backend.js";
import { RvqError, status } from "../index.js";
import { integerIn, positiveNumber, ranges } from "./arguments.js";
import { benchCommand } from "./bench.js";
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
import { addTrainOptions } from "./train-options.js";
import { trimCommand } from "./trim.js";
import { WrongUsage } from "./wrong-usage.js";

export interface RunOptions {
  readonly stdout: Output;
  readonly stderr: Output;
  readonly signal: AbortSignal;
}

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
    return error instanceof WrongUsage ? exitCodes.usage : exitCodes.failure;
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
    .option("--device <n>", "the GPU that the backend cuda uses; default: the first that can", integerIn(ranges.device))
    .exitOverride()
    .configureOutput({ writeOut: (text) => stdout.write(text), writeErr: (text) => stderr.write(`rvq: ${text}`) });

  const context = (): CommandContext => {
    return { stdout, stderr, signal, backend: program.opts<CommandContext["backend"]>() };
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

  addTrainOptions(program.command("train"))
    .description("check recordings and train codebooks on them, or train on vectors")
    .action((paths: string[], options) => trainCommand(context(), paths, options));

  program
    .command("encode")
    .description("code a WAV file, or the vectors of a .npy file, with a trained model")
    .argument("<in>", "a .wav or .npy file")
    .argument("<out.rvq>")
    .requiredOption("-m, --model <file>", "the model, from rvq train or rvq demo")
    .option("--stages <n>", "codebooks to use; default: all", integerIn(ranges.stages))
    .option("--beam <n>", "partial codes kept in the search: more of them, a smaller error", integerIn(ranges.beam), 1)
    .option("--kbps <n>", "WAV: choose each frame's codebooks to fill this rate before entropy coding", positiveNumber)
    .addOption(
      new Option("--coding <name>", "how codes are coded: mixed is the smallest, packed the fastest")
        .choices(["mixed", "adaptive", "packed"])
        .default("mixed"),
    )
    .action((input: string, output: string, options) => encodeCommand(context(), input, output, options));

  program
    .command("decode")
    .description("rebuild a WAV file from coded audio, or vectors from their codes")
    .argument("<in.rvq>")
    .argument("<out>", "a .wav file, or a .npy file: the vectors themselves, of audio the frames")
    .requiredOption("-m, --model <file>", "the model that coded it")
    .option("--stages <n>", "codebooks to use; default: all that were stored", integerIn(ranges.stages))
    .option("--recover", "decode what is intact of a damaged file: lost frames are silent, lost vectors zero", false)
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
    .description("quantizers from one form into another: .rvqm, .npy, .safetensors; from codecs' checkpoints too")
    .argument("<in>", "a .rvqm, .npy or .safetensors file")
    .argument("<out>", "likewise; its ending says which form")
    .option("--quantizer <name>", "only this quantizer of a checkpoint that has several")
    .addOption(
      new Option("--metric <name>", "the metric of codebooks from a .npy file, or of vector-quantize-pytorch").choices([
        "l2",
        "cosine",
      ]),
    )
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
    .command("bench")
    .description("measure every backend on this machine, beside what its processors and its GPU allow")
    .option("--shape <text>", "only shapes whose name contains this, such as EnCodec or D96", "")
    .option("--seconds <n>", "for each row of the table", positiveNumber, 0.5)
    .option("--vectors <n>", "vectors of a call at most", integerIn(ranges.vectors), ranges.vectors[1])
    .option("--json", "as JSON", false)
    .action((options) => benchCommand(context(), options));

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
