// `rvq train`: checks recordings, says what it skips and why, and trains codebooks on the rest; or trains on vectors as they are.

import { stat } from "node:fs/promises";
import { resolve } from "node:path";
import { writeFileAtomic } from "../atomic-file.js";
import { runStoppable } from "../audio/stoppable.js";
import { trainingFramesSteps } from "../audio/training-frames.js";
import { invalidArgument } from "../errors.js";
import { type ResidualQuantizer, status } from "../index.js";
import { type CommandContext, printLine } from "./context.js";
import { formatSeconds, recordingsText } from "./recordings-table.js";
import { decibels, type MeasuredStage, stageTable } from "./stage-lines.js";
import { trainByAverages } from "./train-ema.js";
import { trainByKmeans } from "./train-kmeans.js";
import { stepsToCheckpoint, type TrainCommandOptions } from "./train-options.js";
import { checkWithProgress, requireSignals, totalSeconds } from "./training-audio.js";
import { type ReadCheckpoint, readCheckpoint } from "./training-checkpoint.js";
import { measureTraining } from "./training-measures.js";
import { type AudioFraming, planFrom, planMetadata, requireSamePlan, type TrainingPlan } from "./training-plan.js";
import { averagesCurves, kmeansCurves, type TrainingCurves, trainingReportPage } from "./training-report.js";
import { isVectorFile, readVectorFiles } from "./vector-files.js";
import { requireOtherFile, WrongUsage } from "./wrong-usage.js";

export async function trainCommand(
  context: CommandContext,
  paths: readonly string[],
  options: TrainCommandOptions,
): Promise<void> {
  const { stdout, signal, backend } = context;
  const ofVectors = requireOneKind(paths);
  requireUsable(options, ofVectors);
  await requireOwnFiles(paths, options);
  await requireNewCheckpoint(options);
  const resumed = options.resume === undefined ? null : await readCheckpoint(options.resume, backend);
  if (resumed !== null) requireSamePlan(options, resumed.plan);
  const plan = resumed?.plan ?? planFrom(options, !ofVectors);
  if (ofVectors !== (plan.audio === null)) {
    throw invalidArgument("paths", `${plan.audio === null ? ".npy" : "WAV"} files, as of the checkpoint`, paths[0]);
  }

  const data =
    plan.audio === null ? await readVectors(context, paths) : await readAudio(context, paths, plan.audio, options);
  if (data === null || options.checkOnly) return;
  const start = performance.now();
  const resumedAt = resumed === null ? null : resumed.trainer.steps;
  const { quantizer, snrDb, stages, curves } = await train(context, paths, data, { plan, resumed, options });
  signal.throwIfAborted();
  await quantizer.save(options.out);
  const elapsedSeconds = (performance.now() - start) / 1000;
  const elapsed = formatSeconds(elapsedSeconds);
  const { stages: count, codebookSize } = plan.training;
  const what = `${count} codebooks of ${codebookSize} on ${data.described}`;
  printLine(stdout, `Trained ${what} in ${elapsed} (${quantizer.backend}).`);
  if (stages !== null) printLine(stdout, `\n${stageTable(stages)}\n`);
  printLine(stdout, `SNR on the training ${ofVectors ? "vectors" : "frames"}: ${decibels(snrDb)}.`);
  printLine(stdout, `Wrote ${options.out} (model ${quantizer.id.slice(0, 16)}).`);
  if (stages === null || options.report === undefined || !isPage(options.report)) return;
  const { backend: name, id: modelId } = quantizer;
  const about = ofVectors ? data.described : `${data.described} of recordings`;
  const report = { plan, data: about, elapsedSeconds, resumedAt, curves, stages, backend: name, modelId };
  const page = await trainingReportPage({ version: status().version, ...report });
  await writeFileAtomic(options.report, Buffer.from(page));
  printLine(stdout, `Wrote ${options.report}.`);
}

interface TrainingData {
  /** vectors[N][dim] */
  readonly vectors: Float32Array;
  readonly dim: number;
  /** For the model's metadata. */
  readonly amount: { readonly seconds: number } | { readonly vectors: number };
  /** The amount in words. */
  readonly described: string;
}

interface Trained {
  readonly quantizer: ResidualQuantizer;
  readonly snrDb: number;
  /** Null where the vectors are gone: k-means keeps them only for a report. */
  readonly stages: readonly MeasuredStage[] | null;
  readonly curves: TrainingCurves;
}

interface TrainingRun {
  readonly plan: TrainingPlan;
  readonly resumed: ReadCheckpoint | null;
  readonly options: TrainCommandOptions;
}

async function train(
  context: CommandContext,
  paths: readonly string[],
  { vectors, dim, amount }: TrainingData,
  { plan, resumed, options }: TrainingRun,
): Promise<Trained> {
  const { training, ema } = plan;
  const metadata = planMetadata(plan, amount);
  if (ema === null) {
    const keepVectors = options.report !== undefined && isPage(options.report);
    const run = { dim, training, metadata, keepVectors };
    const { quantizer, snrDb, mse, perplexity } = await trainByKmeans(context, vectors, run);
    const curves = kmeansCurves(mse, perplexity);
    if (!keepVectors) return { quantizer, snrDb, stages: null, curves };
    const stages = await measureTraining(context, quantizer, vectors);
    return { quantizer, snrDb: stages[stages.length - 1].snrDb, stages, curves };
  }
  const path = options.checkpoint ?? options.resume;
  const resumeCommand = path === undefined ? "" : commandToResume(paths, path, options);
  const checkpoint = path === undefined ? null : { path, every: options.every ?? stepsToCheckpoint, resumeCommand };
  const { trainer, history } = await trainByAverages(context, vectors, dim, {
    plan: { ...plan, ema },
    metadata,
    resumed,
    checkpoint,
  });
  const quantizer = trainer.quantizer();
  const stages = await measureTraining(context, quantizer, vectors);
  return { quantizer, snrDb: stages[stages.length - 1].snrDb, stages, curves: averagesCurves(history) };
}

async function readVectors({ stdout, signal }: CommandContext, paths: readonly string[]): Promise<TrainingData> {
  const { vectors, dim } = await readVectorFiles(paths, { signal });
  const count = vectors.length / dim;
  const described = `${count.toLocaleString("en")} vectors of ${dim}`;
  printLine(stdout, `${described} from ${paths.join(", ")}.`);
  return { vectors, dim, amount: { vectors: count }, described };
}

/** Null where the recordings are only to be checked. */
async function readAudio(
  context: CommandContext,
  paths: readonly string[],
  framing: AudioFraming,
  options: TrainCommandOptions,
): Promise<TrainingData | null> {
  const { stdout, signal } = context;
  const { sampleRate, hop } = framing;
  const { report, signals } = await checkWithProgress(context, paths, sampleRate, options.otherRates);
  printLine(stdout, recordingsText(report));
  if (options.report !== undefined && !isPage(options.report)) {
    await writeFileAtomic(options.report, Buffer.from(`${JSON.stringify(report, null, 2)}\n`));
  }
  if (options.checkOnly) return null;
  requireSignals(report, signals);
  const samples = signals.map((one) => one.samples);
  const vectors = await runStoppable(trainingFramesSteps(samples, framing), signal);
  const amount = { seconds: totalSeconds(samples, sampleRate) };
  return { vectors, dim: hop, amount, described: formatSeconds(report.usedSeconds) };
}

/** Whether the paths are `.npy` files; recordings and vectors do not mix. */
function requireOneKind(paths: readonly string[]): boolean {
  const vectorFiles = paths.filter(isVectorFile).length;
  if (vectorFiles === 0 || vectorFiles === paths.length) return vectorFiles > 0;
  const other = paths.find((path) => !isVectorFile(path));
  throw new WrongUsage("paths", "either .npy files or WAV files and folders", other);
}

function requireUsable(options: TrainCommandOptions, ofVectors: boolean): void {
  const { learn, checkpoint, resume, epochs, batch, decay, every, report } = options;
  if (learn !== "ema" && resume === undefined) {
    const given = Object.entries({ checkpoint, epochs, batch, decay, every }).find(([, value]) => value !== undefined);
    if (given !== undefined) throw new WrongUsage(`--${given[0]}`, "--learn ema beside it", given[1]);
  }
  if (ofVectors && report !== undefined && !isPage(report)) {
    throw new WrongUsage("--report", "a name ending in .html: of .npy files there is no check to report", report);
  }
}

/** Nothing that is written may take the place of what is read, or of something else that is written. */
async function requireOwnFiles(
  paths: readonly string[],
  { out, report, checkpoint, resume }: TrainCommandOptions,
): Promise<void> {
  const read = Object.fromEntries(paths.map((path) => [path, path]));
  await requireOtherFile("--out", out, { ...read, "the checkpoint": checkpoint, "the checkpoint to resume": resume });
  if (checkpoint !== undefined) await requireOtherFile("--checkpoint", checkpoint, read);
  if (report === undefined) return;
  await requireOtherFile("--report", report, { ...read, "--out": out, "--checkpoint": checkpoint, "--resume": resume });
}

/** Hours of training must not go because the first command was typed again instead of the one that resumes. */
async function requireNewCheckpoint({ checkpoint, resume }: TrainCommandOptions): Promise<void> {
  if (checkpoint === undefined || (resume !== undefined && resolve(checkpoint) === resolve(resume))) return;
  const entry = await stat(checkpoint).catch(() => null);
  if (entry === null || !entry.isFile()) return;
  throw new WrongUsage("--checkpoint", "a new file, or --resume to go on from this one", checkpoint);
}

function isPage(path: string): boolean {
  return /\.html?$/i.test(path);
}

/** What to type to go on; the checkpoint has all other options. */
function commandToResume(paths: readonly string[], path: string, options: TrainCommandOptions): string {
  const { out, otherRates, report, every = stepsToCheckpoint } = options;
  const words = ["rvq", "train", ...paths, "--resume", path, "--every", String(every), "--out", out];
  if (otherRates !== "resample") words.push("--other-rates", otherRates);
  if (report !== undefined) words.push("--report", report);
  return words.map((word) => (/^[\w./:=@%+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(" ");
}
