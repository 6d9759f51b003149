// `rvq encode` of a `.npy` file: its rows, coded by a model of any class.

import { stat } from "node:fs/promises";
import { writeFileAtomic } from "../atomic-file.js";
import { type Codes, loadQuantizer, rvqBytes } from "../index.js";
import { type CommandContext, printLine } from "./context.js";
import type { EncodeCommandOptions } from "./encode.js";
import { startProgress } from "./progress.js";
import { decibels } from "./stage-lines.js";
import { readVectorFiles } from "./vector-files.js";
import { WrongUsage } from "./wrong-usage.js";

export async function encodeVectors(
  { stdout, stderr, signal, backend }: CommandContext,
  input: string,
  output: string,
  { model, stages, kbps, coding, beam }: EncodeCommandOptions,
): Promise<void> {
  if (kbps !== undefined) throw new WrongUsage("--kbps", "no rate for .npy files, whose rows come at none", kbps);
  const quantizer = await loadQuantizer(model, backend);
  const like = { dim: quantizer.dim, name: model };
  const { vectors, dim } = await readVectorFiles([input], { like, signal });
  const count = vectors.length / dim;
  const progress = startProgress(stderr, "encoding", count);
  let codes: Codes;
  try {
    codes = await quantizer.encode(vectors, { stages, beam, signal, onProgress: (done) => progress.update(done) });
  } finally {
    progress.stop();
  }
  const distortion = await quantizer.distortion(vectors, codes, { signal });
  signal.throwIfAborted();

  const codebookSizes = quantizer.codebookSizes.slice(0, codes.stages);
  await writeFileAtomic(output, rvqBytes([codes], { modelId: quantizer.id, codebookSizes, coding }));
  const { size } = await stat(output);
  const each = `${((8 * size) / count).toFixed(2)} bits a vector`;
  const snr = decibels(distortion[distortion.length - 1].snrDb);
  printLine(stdout, `${input}: ${count.toLocaleString("en")} vectors of ${dim}`);
  printLine(stdout, `${output}: ${codes.stages} codes each, ${size} bytes, ${each}, SNR ${snr}`);
}
