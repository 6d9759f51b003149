// `rvq decode`: coded audio to a WAV file, from all of its stages or the first few; or what codes stand for to a `.npy` file.

import { writeFileAtomic } from "../atomic-file.js";
import { audioSettings, decodeSignal } from "../audio/audio-model.js";
import { readCodedAudio } from "../audio/coded-audio.js";
import { encodeWav } from "../audio/wav-write.js";
import { RvqError, RvqReader } from "../index.js";
import { type CommandContext, printLine } from "./context.js";
import { decodeVectors } from "./decode-vectors.js";
import { loadAudioModel } from "./load-model.js";
import { checkSameModel } from "./same-model.js";
import { checkStoredStages } from "./stored-stages.js";
import { isVectorFile } from "./vector-files.js";
import { requireOtherFile } from "./wrong-usage.js";

export interface DecodeCommandOptions {
  readonly model: string;
  readonly stages?: number;
  readonly recover: boolean;
}

export async function decodeCommand(
  context: CommandContext,
  input: string,
  output: string,
  options: DecodeCommandOptions,
): Promise<void> {
  const { stdout, stderr, signal, backend } = context;
  await requireOtherFile("out", output, { "in.rvq": input, "--model": options.model });
  if (isVectorFile(output)) return decodeVectors(context, input, output, options);
  await checkStages(input, options.stages);
  const { stages, recover } = options;
  const coded = await readCodedAudio(input, { stages, recover, signal });
  const quantizer = await loadAudioModel(options.model, backend);
  checkSameModel(input, coded.modelId, options.model, quantizer);
  const { sampleRate, hop } = audioSettings(quantizer);
  if (coded.hop !== hop || coded.sampleRate !== sampleRate) {
    const got = `${coded.sampleRate} Hz and hop ${coded.hop}`;
    throw new RvqError("INVALID_STREAM", `${input}: expected the model's ${sampleRate} Hz and hop ${hop}, got ${got}`);
  }
  for (const message of coded.damage) printLine(stderr, `${input}: ${message}`);
  const samples = await decodeSignal(quantizer, coded.codes, coded.sampleCount, { signal });
  signal.throwIfAborted();
  await writeFileAtomic(output, encodeWav(samples, sampleRate));
  const seconds = (samples.length / sampleRate).toFixed(2);
  const used = `${coded.codes.stages} of ${coded.storedStages} stages`;
  printLine(stdout, `${output}: ${seconds} s at ${sampleRate} Hz from ${used}`);
}

/** Before all the codes are read. */
async function checkStages(input: string, stages: number | undefined): Promise<void> {
  const reader = await RvqReader.open(input);
  await reader.close();
  checkStoredStages(input, stages, reader.stages);
}
