// Encodes a corpus: one job and one file a range of rows, and a manifest once all are there.

import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { writeFileAtomic } from "../atomic-file.js";
import { checkFunction, checkInteger, checkRequiredOptions, checkSignal } from "../check.js";
import { invalidArgument, RvqError } from "../errors.js";
import { checkBeam } from "../quantizer-options.js";
import { ResidualQuantizer } from "../residual-quantizer.js";
import { Corpus } from "./corpus.js";
import { checkFileName, type SharedFolders } from "./folders.js";
import { type CodesFormat, checkName, codesFormats, codings, type EncodeJob, type PartCoding } from "./job.js";
import type { JobRunner, RunOptions } from "./job-runner.js";

export type { CodesFormat } from "./job.js";

export interface ClusterEncodeOptions extends RunOptions {
  /** The folder, below the outputs, for the codes and their manifest: a new one, or that of an earlier run of the same. */
  readonly output: string;
  /** Default "rvq". */
  readonly format?: CodesFormat;
  /** Rows of one file, and of one job. Default 65,536. */
  readonly rowsPerPart?: number;
  /** Encode with the first so many stages; default all. */
  readonly stages?: number;
  /** As of `encode`. Default 1. */
  readonly beam?: number;
  /** Of `.rvq` files. Default "mixed". */
  readonly coding?: PartCoding;
}

/** The codes of consecutive rows of one input. */
export interface CorpusPart {
  /** Beside the manifest. */
  readonly file: string;
  readonly input: string;
  readonly firstRow: number;
  readonly rows: number;
  readonly sizeBytes: number;
  readonly sha256: string;
}

/** What `manifest.json` says: parts in the order of the inputs and their rows. */
export interface CorpusManifest {
  readonly format: CodesFormat;
  readonly modelId: string;
  /** The model's file, beside the manifest. */
  readonly model: string;
  readonly stages: number;
  readonly codebookSizes: readonly number[];
  readonly rows: number;
  readonly parts: readonly CorpusPart[];
}

/** @throws RvqError INVALID_ARGUMENT, IO, and what jobs fail with; the signal's reason when aborted */
export async function encodeCorpus(
  folders: SharedFolders,
  runner: JobRunner,
  quantizer: unknown,
  inputs: unknown,
  options: ClusterEncodeOptions,
): Promise<CorpusManifest> {
  if (!(quantizer instanceof ResidualQuantizer)) throw invalidArgument("quantizer", "a ResidualQuantizer", quantizer);
  checkRequiredOptions("options", options);
  const output = checkFileName("output", options.output);
  const format = checkName("format", options.format ?? "rvq", codesFormats);
  const coding = checkName("coding", options.coding ?? "mixed", codings);
  const rowsPerPart = checkInteger("rowsPerPart", options.rowsPerPart ?? 65_536, 1, 2 ** 28);
  const stages = checkInteger("stages", options.stages ?? quantizer.stages, 1, quantizer.stages);
  const beam = checkBeam(options.beam, quantizer.metric);
  const signal = checkSignal("signal", options.signal);
  const { onProgress } = options;
  checkFunction("onProgress", onProgress);
  const corpus = await Corpus.open(folders, inputs, quantizer.dim);

  // One job a range of a file: no part holds rows of two.
  const modelFile = `${quantizer.id}.rvqm`;
  const model = { file: `${output}/${modelFile}`, id: quantizer.id };
  const recipe = { kind: "encode", model: quantizer.id, stages, beam, format, coding } as const;
  const jobs: EncodeJob[] = [];
  for (const { file, rows, version } of corpus.files) {
    for (let firstRow = 0; firstRow < rows; firstRow += rowsPerPart) {
      const segment = { file, firstRow, rows: Math.min(rowsPerPart, rows - firstRow) };
      jobs.push({
        ...recipe,
        model,
        identity: digestOf({ ...recipe, segment, version }),
        output: `${output}/part-${String(jobs.length).padStart(6, "0")}.${format}`,
        input: { side: corpus.side, dim: corpus.dim, segments: [segment] },
      });
    }
  }
  await claimFolder(folders, output, digestOf(jobs.map(({ identity }) => identity)));
  await quantizer.save(await folders.newOutput(model.file));

  const outcomes = await runner.run(jobs, { onProgress, signal });
  const manifest = {
    format,
    modelId: quantizer.id,
    model: modelFile,
    stages,
    codebookSizes: quantizer.codebookSizes.slice(0, stages),
    rows: corpus.rows,
    parts: jobs.map(({ output: file, input: { segments } }, i) => {
      const [{ file: input, firstRow, rows }] = segments;
      const { sizeBytes, sha256 } = outcomes[i];
      return { file: file.slice(output.length + 1), input, firstRow, rows, sizeBytes, sha256 };
    }),
  };
  await writeFileAtomic(
    await folders.newOutput(`${output}/manifest.json`),
    Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`),
  );
  for (const folder of [output, `${output}/records`]) await folders.removeUnfinished(folder);
  return manifest;
}

/** SHA-256 (hex) of a JSON value. */
export function digestOf(value: unknown): string {
  return createHash("sha256").update(JSON.stringify(value)).digest("hex");
}

/** A folder belongs to one run: parts of two would be mixed up. */
async function claimFolder(folders: SharedFolders, output: string, identity: string): Promise<void> {
  const file = await folders.newOutput(`${output}/records/run.json`);
  const content = `${JSON.stringify({ identity })}\n`;
  const old = await readFile(file, "utf8").catch(() => null);
  if (old === content) return;
  if (old === null) return writeFileAtomic(file, Buffer.from(content));
  const got = "one of another model, options or inputs";
  const remedy = "take another folder, or remove this one";
  throw new RvqError(
    "INVALID_ARGUMENT",
    `output: expected a folder of this very run in ${output}, got ${got} (${remedy})`,
  );
}
