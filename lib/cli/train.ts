// `rvq train`: checks recordings, says what it skips and why, and trains codebooks on the rest.

import { writeFileAtomic } from "../atomic-file.js";
import { findRecordings } from "../audio/find-recordings.js";
import { type AudioRecipe, newSpeakersRecipe } from "../audio/recipe.js";
import { checkRecordings, type RecordingsReport, type Signal } from "../audio/recordings.js";
import { runStoppable } from "../audio/stoppable.js";
import { trainingFramesSteps } from "../audio/training-frames.js";
import { ResidualQuantizer, RvqError } from "../index.js";
import { openBackend } from "../open-backend.js";
import { type TrainOptions, trainCodebooks } from "../train.js";
import { type CommandContext, printLine } from "./context.js";
import { startProgress } from "./progress.js";
import { formatSeconds, recordingsText } from "./recordings-table.js";

export interface TrainCommandOptions {
  readonly out: string;
  readonly codewords: number;
  readonly stages: number;
  readonly iterations: number;
  readonly seed: number;
  readonly rate: number;
  readonly hop: number;
  readonly otherRates: "resample" | "refuse";
  readonly checkOnly: boolean;
  readonly report?: string;
}

export async function trainCommand(
  context: CommandContext,
  paths: readonly string[],
  options: TrainCommandOptions,
): Promise<void> {
  const { stdout, signal } = context;
  const { report, signals } = await checkWithProgress(context, paths, options.rate, options.otherRates);
  printLine(stdout, recordingsText(report));
  if (options.report !== undefined) {
    await writeFileAtomic(options.report, Buffer.from(`${JSON.stringify(report, null, 2)}\n`));
  }
  if (options.checkOnly) return;
  requireSignals(report, signals);

  const start = performance.now();
  const { rate: sampleRate, hop, codewords, stages, iterations, seed } = options;
  const training = { ...newSpeakersRecipe.training, codebookSize: codewords, stages, iterations, seed };
  const recipe = { ...newSpeakersRecipe, sampleRate, hop, training };
  const { quantizer, snrDb } = await trainOnSignals(
    context,
    signals.map(({ samples }) => samples),
    recipe,
  );
  signal.throwIfAborted();
  await quantizer.save(options.out);
  const elapsed = formatSeconds((performance.now() - start) / 1000);
  const speech = formatSeconds(report.usedSeconds);
  printLine(stdout, `Trained ${stages} codebooks of ${codewords} on ${speech} in ${elapsed} (${quantizer.backend}).`);
  printLine(stdout, `SNR on the training frames: ${snrDb.toFixed(2)} dB.`);
  printLine(stdout, `Wrote ${options.out} (model ${quantizer.id.slice(0, 16)}).`);
}

/** Finds and checks the recordings, with progress. */
export async function checkWithProgress(
  context: CommandContext,
  paths: readonly string[],
  sampleRate: number,
  otherRates: "resample" | "refuse",
): Promise<{ report: RecordingsReport; signals: Signal[] }> {
  const { stderr, signal } = context;
  const { files, unreadable } = await findRecordings(paths, { signal });
  const progress = startProgress(stderr, "checking", files.length);
  try {
    return await checkRecordings(files, {
      sampleRate,
      otherRates,
      unreadable,
      signal,
      onProgress: (done) => progress.update(done),
    });
  } finally {
    progress.stop();
  }
}

/** Throws `RvqError` INVALID_AUDIO, with the first reason, where no recording is fit to train on. */
export function requireSignals(report: RecordingsReport, signals: readonly Signal[]): void {
  if (signals.length > 0) return;
  const [first] = report.recordings;
  const reason = first === undefined ? "no WAV file was found" : `${first.path}: ${first.skipped}`;
  const more = report.skipped > 1 ? ` (and ${report.skipped - 1} more were skipped)` : "";
  throw new RvqError("INVALID_AUDIO", `no recording to train on: ${reason}${more}`);
}

/** Trains codebooks by the recipe with a progress bar; `snrDb` is that of the last iteration. */
export async function trainOnSignals(
  { stderr, signal, backend }: CommandContext,
  signals: readonly Float32Array[],
  recipe: AudioRecipe,
): Promise<{ quantizer: ResidualQuantizer; snrDb: number }> {
  const { sampleRate, hop, training, shifts, negated } = recipe;
  const seconds = signals.reduce((sum, samples) => sum + samples.length, 0) / sampleRate;
  const frames = await runStoppable(trainingFramesSteps(signals, recipe), signal);
  const progress = startProgress(stderr, "training", training.stages);
  let snrDb = Number.NaN;
  try {
    const options: TrainOptions = {
      dim: hop,
      ...training,
      signal,
      onProgress: (at) => {
        snrDb = at.snrDb;
        const note = `codebook ${at.stage + 1}/${at.stages} · ${at.snrDb.toFixed(2)} dB`;
        progress.update(at.stage + (at.iteration + 1) / at.iterations, note);
      },
    };
    // What `ResidualQuantizer.train` does, but for its copy of the frames: they take most of the memory.
    const engine = openBackend(backend.backend, backend.threads);
    const { codebooks } = await trainCodebooks(engine, frames, options, "overwrite");
    const metadata = { audio: { sampleRate, hop }, training: { seconds, shifts, negated, ...training } };
    const quantizer = ResidualQuantizer.fromCodebooks(codebooks, { dim: hop, ...backend, metadata });
    progress.update(training.stages);
    return { quantizer, snrDb };
  } finally {
    progress.stop();
  }
}
