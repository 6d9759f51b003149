// `rvq demo`: trains on the bundled speech, rebuilds a clip from 4, 8, 16 and 32 codebooks, and writes a report page.

import { mkdir } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { writeFileAtomic } from "../atomic-file.js";
import { decodeSignal, signalToNoiseDb } from "../audio/audio-model.js";
import { type CodedAudio, firstStages, writeCodedAudio } from "../audio/coded-audio.js";
import { ioError } from "../audio/io-error.js";
import { Mdct } from "../audio/mdct.js";
import { type AudioRecipe, demoRecipe } from "../audio/recipe.js";
import { resampleSteps } from "../audio/resample.js";
import { runStoppable } from "../audio/stoppable.js";
import { trainingFramesSteps } from "../audio/training-frames.js";
import { describeFormat, monoSteps, readWav } from "../audio/wav.js";
import { encodeWav } from "../audio/wav-write.js";
import { type ResidualQuantizer, RvqError, status } from "../index.js";
import { type CommandContext, printLine } from "./context.js";
import type { DemoReport, Reconstruction, Sound } from "./demo-report.js";
import { startProgress } from "./progress.js";
import { formatSeconds, recordingsText } from "./recordings-table.js";
import { reportPage } from "./report-page.js";
import { textTable } from "./table.js";
import { trainByKmeans } from "./train-kmeans.js";
import { checkWithProgress, requireSignals, totalSeconds } from "./training-audio.js";
import { planMetadata } from "./training-plan.js";

export interface DemoOptions {
  readonly out: string;
  readonly quick: boolean;
  readonly seed: number;
}

/** From lib/cli and dist/cli alike. */
const speechFolder = resolve(__dirname, "../../data/speech16k");
const trainingFiles = ["train_it_male.wav", "train_ru_female.wav"];
/** A speaker, a language and a recording chain that the training files do not have. */
const unseenFile = "dev_librivox.wav";

const reconstructedStages = [4, 8, 16, 32];

/** The page holds five copies of the clip; a minute of it is enough to judge, and keeps the page under 15 MB. */
const longestClipSeconds = 60;

/** Small enough for a few seconds in plain TypeScript; the sound is poor. */
const quick = { training: { codebookSize: 64, iterations: 3 }, trainingSeconds: 10, clipSeconds: 3 } as const;

export async function demoCommand(
  context: CommandContext,
  clipPath: string | undefined,
  options: DemoOptions,
): Promise<void> {
  const { stdout, signal } = context;
  const { seed } = options;
  const training = { ...demoRecipe.training, seed, ...(options.quick ? quick.training : {}) };
  const recipe: AudioRecipe = { ...demoRecipe, training };

  // The clip first: a file that cannot be read should not cost a training run.
  const clipSeconds = options.quick ? quick.clipSeconds : longestClipSeconds;
  const clip = await readClip(clipPath, recipe.sampleRate, clipSeconds, signal);
  await makeFolder(options.out);

  const paths = trainingFiles.map((name) => join(speechFolder, name));
  const { report: recordings, signals } = await checkWithProgress(context, paths, recipe.sampleRate, "refuse");
  printLine(stdout, `${recordingsText(recordings)}\n`);
  requireSignals(recordings, signals);
  const longest = options.quick ? quick.trainingSeconds * recipe.sampleRate : Number.POSITIVE_INFINITY;
  const trainingSignals = signals.map(({ samples }) => samples.subarray(0, longest));

  const trainingStart = performance.now();
  const quantizer = await trainOnSignals(context, trainingSignals, recipe);
  const trainingSeconds = (performance.now() - trainingStart) / 1000;
  const { backend } = quantizer;
  printLine(
    stdout,
    `Trained ${training.stages} codebooks of ${training.codebookSize} in ${formatSeconds(trainingSeconds)} (${backend}).`,
  );
  const modelBytes = quantizer.toBytes();
  await writeFileAtomic(join(options.out, "model.rvqm"), modelBytes);

  const encoded = await encodeClip(context, quantizer, clip.samples, recipe);
  const asTheyAre = { hop: recipe.hop, shifts: 1, negated: false };
  const plainFrames = await runStoppable(trainingFramesSteps(trainingSignals, asTheyAre), signal);
  const measured = await measure(quantizer, plainFrames, encoded, signal);
  const { reconstructions, sounds } = await reconstruct(context, quantizer, clip.samples, encoded.coded, options.out);

  const report: DemoReport = {
    version: status().version,
    quick: options.quick,
    backend,
    model: {
      id: quantizer.id,
      sampleRate: recipe.sampleRate,
      hop: recipe.hop,
      codewords: training.codebookSize,
      stages: training.stages,
      log2Capacity: quantizer.describe().log2Capacity,
      fileBytes: modelBytes.length,
    },
    training: {
      recordings: {
        ...recordings,
        recordings: recordings.recordings.map((one) => ({ ...one, path: basename(one.path) })),
      },
      frames: plainFrames.length / recipe.hop,
      recipe,
      elapsedSeconds: trainingSeconds,
    },
    clip: {
      name: clip.name,
      format: clip.format,
      seconds: clip.samples.length / recipe.sampleRate,
      changes: clip.changes,
    },
    encoding: {
      elapsedSeconds: encoded.elapsedSeconds,
      timesRealTime: clip.samples.length / recipe.sampleRate / encoded.elapsedSeconds,
    },
    ...measured,
    reconstructions,
  };
  quantizer.dispose();
  const page = await reportPage(report, sounds, { signal });
  signal.throwIfAborted();
  await writeFileAtomic(join(options.out, "report.json"), Buffer.from(`${JSON.stringify(report, null, 2)}\n`));
  await writeFileAtomic(join(options.out, "report.html"), Buffer.from(page));
  printSummary(context, report, options.out);
}

/** The frames, more of them than of anything else, are gone when it returns. */
async function trainOnSignals(
  context: CommandContext,
  signals: readonly Float32Array[],
  recipe: AudioRecipe,
): Promise<ResidualQuantizer> {
  const { hop, sampleRate, training } = recipe;
  const metadata = planMetadata({ audio: recipe, training, ema: null }, { seconds: totalSeconds(signals, sampleRate) });
  const frames = await runStoppable(trainingFramesSteps(signals, recipe), context.signal);
  const { quantizer } = await trainByKmeans(context, frames, { dim: hop, training, metadata, keepVectors: false });
  return quantizer;
}

interface Clip {
  readonly name: string;
  readonly format: string;
  readonly samples: Float32Array;
  readonly changes: readonly string[];
}

async function readClip(
  path: string | undefined,
  sampleRate: number,
  longestSeconds: number,
  signal: AbortSignal,
): Promise<Clip> {
  const wav = await readWav(path ?? join(speechFolder, unseenFile), { signal });
  if (wav.count === 0) throw new RvqError("INVALID_AUDIO", `${wav.name}: expected at least one sample, got none`);
  const changes: string[] = [];
  if (wav.missing > 0) changes.push("truncated file: what is there is used");
  if (wav.layout.channels > 1) changes.push(`${wav.layout.channels} channels mixed to one`);
  if (wav.sampleRate !== sampleRate) changes.push(`resampled from ${wav.sampleRate} to ${sampleRate} Hz`);
  if (wav.count > longestSeconds * wav.sampleRate) changes.push(`cut to its first ${longestSeconds} s`);

  const kept = { ...wav, count: Math.min(wav.count, longestSeconds * wav.sampleRate) };
  const mono = await runStoppable(monoSteps(kept), signal);
  return {
    name: basename(wav.name),
    format: describeFormat(wav),
    samples: await runStoppable(resampleSteps(mono, wav.sampleRate, sampleRate), signal),
    changes,
  };
}

interface EncodedClip {
  readonly frames: Float32Array;
  readonly coded: CodedAudio;
  readonly elapsedSeconds: number;
}

async function encodeClip(
  { stderr, signal }: CommandContext,
  quantizer: ResidualQuantizer,
  samples: Float32Array,
  { sampleRate, hop }: AudioRecipe,
): Promise<EncodedClip> {
  const frames = await runStoppable(new Mdct(hop).analyseSteps(samples), signal);
  const progress = startProgress(stderr, "encoding", frames.length / hop);
  try {
    const start = performance.now();
    const codes = await quantizer.encode(frames, { signal, onProgress: (done) => progress.update(done) });
    const elapsedSeconds = (performance.now() - start) / 1000;
    const { id: modelId, codebookSizes } = quantizer;
    const coded = { sampleRate, hop, sampleCount: samples.length, modelId, codebookSizes, codes };
    return { frames, coded, elapsedSeconds };
  } finally {
    progress.stop();
  }
}

/** Error and use of the codewords, stage by stage, on the frames trained on and on the clip's. */
async function measure(
  quantizer: ResidualQuantizer,
  plainFrames: Float32Array,
  { frames, coded }: EncodedClip,
  signal: AbortSignal,
): Promise<Pick<DemoReport, "curve" | "usage">> {
  const trainingCodes = await quantizer.encode(plainFrames, { signal });
  const training = await quantizer.distortion(plainFrames, trainingCodes, { signal });
  const clip = await quantizer.distortion(frames, coded.codes, { signal });
  const clipUsage = quantizer.usage(coded.codes);
  return {
    curve: clip.map(({ stages, snrDb }, index) => ({
      stages,
      bitsPerSecond: (quantizer.bitsPerVector(stages) * coded.sampleRate) / coded.hop,
      trainingSnrDb: finiteOrNull(training[index].snrDb),
      clipSnrDb: finiteOrNull(snrDb),
    })),
    usage: quantizer.usage(trainingCodes).map(({ perplexity, used }, stage) => ({
      training: { perplexity, used },
      clip: { perplexity: clipUsage[stage].perplexity, used: clipUsage[stage].used },
    })),
  };
}

/** Writes the original, and for each number of codebooks the coded audio and what it decodes to. */
async function reconstruct(
  { signal }: CommandContext,
  quantizer: ResidualQuantizer,
  original: Float32Array,
  coded: CodedAudio,
  folder: string,
): Promise<{ reconstructions: Reconstruction[]; sounds: Sound[] }> {
  const originalWav = encodeWav(original, coded.sampleRate);
  await writeFileAtomic(join(folder, "original.wav"), originalWav);
  const sounds: Sound[] = [{ stages: 0, samples: original, wav: originalWav }];
  const reconstructions: Reconstruction[] = [];
  const seconds = original.length / coded.sampleRate;
  for (const stages of reconstructedStages) {
    const suffix = String(stages).padStart(2, "0");
    const wavFile = `reconstruction-${suffix}.wav`;
    const codesFile = `codes-${suffix}.rvq`;
    const part = firstStages(coded, stages);
    const fileBytes = await writeCodedAudio(join(folder, codesFile), part);
    const samples = await decodeSignal(quantizer, part.codes, original.length, { signal });
    const wav = encodeWav(samples, coded.sampleRate);
    await writeFileAtomic(join(folder, wavFile), wav);
    sounds.push({ stages, samples, wav });
    reconstructions.push({
      stages,
      snrDb: finiteOrNull(signalToNoiseDb(original, samples)),
      nominalBitsPerSecond: (quantizer.bitsPerVector(stages) * coded.sampleRate) / coded.hop,
      fileBytes,
      fileBitsPerSecond: (8 * fileBytes) / seconds,
      wavFile,
      codesFile,
    });
  }
  return { reconstructions, sounds };
}

function printSummary(
  { stdout }: CommandContext,
  { clip, encoding, reconstructions }: DemoReport,
  folder: string,
): void {
  const speed = `${encoding.timesRealTime.toFixed(0)} × real time`;
  printLine(stdout, `Coded ${clip.name} (${clip.seconds.toFixed(1)} s, not trained on) at ${speed}.\n`);
  const heading = ["codebooks", "SNR dB", "kbit/s", "file bytes", "file kbit/s"];
  const rows = reconstructions.map((one) => [
    String(one.stages),
    one.snrDb === null ? "–" : one.snrDb.toFixed(2),
    (one.nominalBitsPerSecond / 1000).toFixed(2),
    String(one.fileBytes),
    (one.fileBitsPerSecond / 1000).toFixed(2),
  ]);
  printLine(stdout, textTable([heading, ...rows], new Set([0, 1, 2, 3, 4])));
  printLine(stdout, `\nListen and look: ${resolve(folder, "report.html")}`);
}

async function makeFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true });
  } catch (error) {
    throw ioError(folder, "made", error);
  }
}

function finiteOrNull(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}
