// `rvq decode`: coded audio to a WAV file, from all of its stages or the first few.

import { writeFileAtomic } from "../atomic-file.js";
import { audioSettings, decodeSignal } from "../audio/audio-model.js";
import { readCodedAudio } from "../audio/coded-audio.js";
import { encodeWav } from "../audio/wav-write.js";
import { ResidualQuantizer, RvqError } from "../index.js";
import { type CommandContext, printLine } from "./context.js";

export interface DecodeCommandOptions {
  readonly model: string;
  readonly stages?: number;
}

export async function decodeCommand(
  { stdout, signal, backend }: CommandContext,
  input: string,
  output: string,
  options: DecodeCommandOptions,
): Promise<void> {
  const coded = await readCodedAudio(input, { signal });
  const quantizer = await ResidualQuantizer.load(options.model, backend);
  if (coded.modelId !== quantizer.id) {
    const got = `${options.model}, which is ${quantizer.id.slice(0, 16)}`;
    throw new RvqError(
      "INVALID_STREAM",
      `${input}: expected the model ${coded.modelId.slice(0, 16)} that coded it, got ${got}`,
    );
  }
  const { sampleRate, hop } = audioSettings(quantizer);
  if (coded.hop !== hop || coded.sampleRate !== sampleRate) {
    const got = `${coded.sampleRate} Hz and hop ${coded.hop}`;
    throw new RvqError("INVALID_STREAM", `${input}: expected the model's ${sampleRate} Hz and hop ${hop}, got ${got}`);
  }
  const stages = options.stages ?? coded.codes.stages;
  if (stages > coded.codes.stages) {
    const stored = `at most the ${coded.codes.stages} stages that ${input} holds`;
    throw new RvqError("INVALID_ARGUMENT", `--stages: expected ${stored}, got ${stages}`);
  }
  const samples = await decodeSignal(quantizer, coded.codes, coded.sampleCount, { stages, signal });
  signal.throwIfAborted();
  await writeFileAtomic(output, encodeWav(samples, sampleRate));
  const seconds = (samples.length / sampleRate).toFixed(2);
  printLine(stdout, `${output}: ${seconds} s at ${sampleRate} Hz from ${stages} of ${coded.codes.stages} stages`);
}
