// `rvq convert`: codebooks between models, NumPy arrays and safetensors, and out of codecs' checkpoints.

import { extname } from "node:path";
import { writeFileAtomic } from "../atomic-file.js";
import { type AnyQuantizer, loadQuantizer, type Metric, ProjectedQuantizer } from "../index.js";
import { type Converted, npyFromQuantizer, quantizerFromNpy, quantizerFromTensors } from "./codebook-files.js";
import { type CommandContext, printLine } from "./context.js";
import { readNpyFile, readSafetensorsFile } from "./input-file.js";
import { tensorsFromQuantizer } from "./quantizer-tensors.js";
import { requireOtherFile, WrongUsage } from "./wrong-usage.js";

export interface ConvertCommandOptions {
  readonly quantizer?: string;
  readonly metric?: Metric;
}

const endings = [".rvqm", ".npy", ".safetensors"] as const;
type Ending = (typeof endings)[number];

export async function convertCommand(
  context: CommandContext,
  input: string,
  output: string,
  options: ConvertCommandOptions,
): Promise<void> {
  const { stdout, stderr, signal } = context;
  const [from, to] = [endingOf(input), endingOf(output)];
  await requireOtherFile("out", output, { in: input });
  const { result: quantizer, notes } = await readQuantizer(context, input, from, options);
  const written = bytesOf(output, to, quantizer);
  signal.throwIfAborted();
  await writeFileAtomic(output, written.result);
  for (const note of notes) printLine(stderr, `${input}: ${note}`);
  for (const note of written.notes) printLine(stderr, `${output}: ${note}`);
  const { codebookSizes, dim, metric, id } = quantizer;
  const what = quantizer instanceof ProjectedQuantizer ? "codebooks and projections of vectors" : "codebooks";
  const size = `${codebookSizes.length} ${what} of dimension ${dim}`;
  printLine(stdout, `${output}: ${size}, metric ${metric}, id ${id.slice(0, 16)}`);
  quantizer.dispose();
}

function endingOf(path: string): Ending {
  const ending = endings.find((one) => one === extname(path).toLowerCase());
  if (ending !== undefined) return ending;
  throw new WrongUsage("path", `a file that ends in ${endings.join(", ")}`, path);
}

async function readQuantizer(
  { signal, backend }: CommandContext,
  path: string,
  ending: Ending,
  { quantizer, metric }: ConvertCommandOptions,
): Promise<Converted<AnyQuantizer>> {
  // An option that would be ignored is a mistake.
  if (metric !== undefined && ending === ".rvqm") throw misplaced("--metric", "a .npy file or a checkpoint", path);
  if (quantizer !== undefined && ending !== ".safetensors") throw misplaced("--quantizer", "a checkpoint", path);
  if (ending === ".rvqm") return { result: await loadQuantizer(path, backend), notes: [] };
  if (ending === ".safetensors") {
    return quantizerFromTensors(path, await readSafetensorsFile(path, signal), { quantizer, metric, backend });
  }
  return { result: quantizerFromNpy(path, await readNpyFile(path, signal), metric ?? "l2", backend), notes: [] };
}

function misplaced(option: string, where: string, path: string): WrongUsage {
  return new WrongUsage(option, `only with ${where}`, path);
}

function bytesOf(path: string, ending: Ending, quantizer: AnyQuantizer): Converted<Uint8Array> {
  if (ending === ".npy") return npyFromQuantizer(path, quantizer);
  return { result: ending === ".rvqm" ? quantizer.toBytes() : tensorsFromQuantizer(quantizer), notes: [] };
}
