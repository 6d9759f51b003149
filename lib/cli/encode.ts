// `rvq encode`: a WAV file to coded audio; of a `.npy` file its rows.

import { audioSettings, decodeSignal, encodeSignal, signalToNoiseDb } from "../audio/audio-model.js";
import { writeCodedAudio } from "../audio/coded-audio.js";
import { resampleSteps } from "../audio/resample.js";
import { runStoppable } from "../audio/stoppable.js";
import { describeFormat, monoSteps, readWav } from "../audio/wav.js";
import type { Coding } from "../index.js";
import { type CommandContext, printLine } from "./context.js";
import { encodeVectors } from "./encode-vectors.js";
import { loadAudioModel } from "./load-model.js";
import { startProgress } from "./progress.js";
import { decibels } from "./stage-lines.js";
import { isVectorFile } from "./vector-files.js";
import { requireOtherFile } from "./wrong-usage.js";

export interface EncodeCommandOptions {
  readonly model: string;
  readonly stages?: number;
  readonly coding: Coding;
  readonly kbps?: number;
  readonly beam?: number;
}

export async function encodeCommand(
  context: CommandContext,
  input: string,
  output: string,
  options: EncodeCommandOptions,
): Promise<void> {
  const { stdout, stderr, signal } = context;
  await requireOtherFile("out.rvq", output, { "the input": input, "--model": options.model });
  if (isVectorFile(input)) return encodeVectors(context, input, output, options);
  const quantizer = await loadAudioModel(options.model, context.backend);
  const { sampleRate, hop } = audioSettings(quantizer);
  const wav = await readWav(input, { signal });
  if (wav.missing > 0) printLine(stderr, `${input}: truncated; what is there is coded`);
  const mono = await runStoppable(monoSteps(wav), signal);
  const samples = await runStoppable(resampleSteps(mono, wav.sampleRate, sampleRate), signal);

  const progress = startProgress(stderr, "encoding", samples.length / hop);
  let codes: Awaited<ReturnType<typeof encodeSignal>>;
  try {
    codes = await encodeSignal(quantizer, samples, {
      stages: options.stages,
      kbps: options.kbps,
      beam: options.beam,
      signal,
      onProgress: (done) => progress.update(done),
    });
  } finally {
    progress.stop();
  }
  const snrDb = signalToNoiseDb(samples, await decodeSignal(quantizer, codes, samples.length, { signal }));
  signal.throwIfAborted();

  const codebookSizes = quantizer.codebookSizes.slice(0, codes.stages);
  const coded = { sampleRate, hop, sampleCount: samples.length, modelId: quantizer.id, codebookSizes, codes };
  const sizeBytes = await writeCodedAudio(output, coded, { coding: options.coding });
  const seconds = samples.length / sampleRate;
  const rate = seconds > 0 ? `, ${((8 * sizeBytes) / seconds / 1000).toFixed(2)} kbit/s` : "";
  printLine(stdout, `${input}: ${describeFormat(wav)}, ${seconds.toFixed(2)} s`);
  const { stageCounts } = codes;
  const used = stageCounts ? `on the average ${mean(stageCounts).toFixed(2)} of ${codes.stages}` : String(codes.stages);
  printLine(stdout, `${output}: ${used} stages, ${sizeBytes} bytes${rate}, SNR ${decibels(snrDb)}`);
}

function mean(counts: Uint16Array): number {
  return counts.reduce((sum, count) => sum + count, 0) / Math.max(1, counts.length);
}
