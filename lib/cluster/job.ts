// What travels through the queue: jobs and their outcomes, checked on arrival, whoever has put them there.

import { checkInteger, checkRequiredOptions, limits } from "../check.js";
import { invalidArgument } from "../errors.js";
import type { VectorRange } from "../stage-sums.js";
import { checkRange } from "../statistics-file.js";
import type { JobInput } from "./corpus.js";
import { checkFileName } from "./folders.js";

/** A model file among the outputs, and the `id` that it must have. */
export interface ModelFile {
  readonly file: string;
  readonly id: string;
}

export const codesFormats = ["rvq", "npy"] as const;
/** `.rvq` containers, or `.npy` arrays [rows][stages] of 16 or 32 bits. */
export type CodesFormat = (typeof codesFormats)[number];

/** Those that need nothing but the codes. */
export const codings = ["mixed", "adaptive", "packed"] as const;
export type PartCoding = (typeof codings)[number];

interface JobBase {
  /** SHA-256 (hex) of all that decides the output's bytes: an output with this identity need not be made again. */
  readonly identity: string;
  /** The file to write, below the outputs. */
  readonly output: string;
  readonly input: JobInput;
}

/** Codes of rows. */
export interface EncodeJob extends JobBase {
  readonly kind: "encode";
  readonly model: ModelFile;
  readonly stages: number;
  readonly beam: number;
  readonly format: CodesFormat;
  readonly coding: PartCoding;
}

/** The range of rows: their number and the largest magnitude of each dimension. */
export interface RangeJob extends JobBase {
  readonly kind: "range";
}

/** What all stages of the model leave of rows, raw float32, and its range. */
export interface ResidualJob extends JobBase {
  readonly kind: "residual";
  readonly model: ModelFile;
}

/** Statistics of rows by the model's only stage, on the grids of the range of all rows; facts about the assignment. */
export interface StatisticsJob extends JobBase {
  readonly kind: "statistics";
  readonly model: ModelFile;
  readonly range: VectorRange;
}

export type ClusterJob = EncodeJob | RangeJob | ResidualJob | StatisticsJob;

/** What a job says of its rows. */
export interface JobFacts {
  /** Of "range" and "residual": magnitudes[D]. */
  readonly magnitudes?: readonly number[];
  /** Of "statistics": SHA-256 (hex) of the codes, and Σ d64 without weights. */
  readonly codes?: string;
  readonly squaredError?: number;
  /** Of "statistics": the sums of the distances that decide, by blocks of `ProportionalDraw`. */
  readonly blockSums?: readonly number[];
}

export interface JobOutcome {
  readonly identity: string;
  /** Of the output. */
  readonly sha256: string;
  readonly sizeBytes: number;
  readonly facts: JobFacts;
}

/** 1 GiB of rows. */
const mostElements = 2 ** 28;
const mostSegments = 2 ** 20;

/** @throws RvqError INVALID_ARGUMENT */
export function checkJob(value: unknown): ClusterJob {
  const job = checkObject("job", value);
  const base = {
    identity: checkDigest("job.identity", job.identity),
    output: checkFileName("job.output", job.output),
    input: checkInput(job.input),
  };
  switch (job.kind) {
    case "encode":
      return {
        ...base,
        kind: job.kind,
        model: checkModelFile(job.model),
        stages: checkInteger("job.stages", job.stages, 1, limits.stages),
        beam: checkInteger("job.beam", job.beam, 1, limits.beam),
        format: checkName("job.format", job.format, codesFormats),
        coding: checkName("job.coding", job.coding, codings),
      };
    case "range":
      return { ...base, kind: job.kind };
    case "residual":
      return { ...base, kind: job.kind, model: checkModelFile(job.model) };
    case "statistics": {
      const range = checkRange("job.range", job.range, base.input.dim);
      return { ...base, kind: job.kind, model: checkModelFile(job.model), range };
    }
    default:
      throw invalidArgument("job.kind", '"encode", "range", "residual" or "statistics"', job.kind);
  }
}

/** @throws RvqError INVALID_ARGUMENT for what is not the outcome of the job */
export function checkOutcome(value: unknown, job: ClusterJob): JobOutcome {
  const outcome = checkObject("outcome", value);
  const facts = checkObject("outcome.facts", outcome.facts);
  const identity = checkDigest("outcome.identity", outcome.identity);
  if (identity !== job.identity) throw invalidArgument("outcome.identity", job.identity, identity);
  const base = {
    identity,
    sha256: checkDigest("outcome.sha256", outcome.sha256),
    sizeBytes: checkInteger("outcome.sizeBytes", outcome.sizeBytes, 0, Number.MAX_SAFE_INTEGER),
  };
  switch (job.kind) {
    case "encode":
      return { ...base, facts: {} };
    case "statistics": {
      const codes = checkDigest("outcome.facts.codes", facts.codes);
      const [squaredError] = checkNumbers("outcome.facts.squaredError", [facts.squaredError]);
      return { ...base, facts: { codes, squaredError, blockSums: checkNumbers("blockSums", facts.blockSums) } };
    }
    default: {
      const magnitudes = checkNumbers("outcome.facts.magnitudes", facts.magnitudes);
      if (magnitudes.length !== job.input.dim) {
        throw invalidArgument("outcome.facts.magnitudes", `${job.input.dim} numbers`, magnitudes.length);
      }
      return { ...base, facts: { magnitudes } };
    }
  }
}

export function checkName<Name extends string>(what: string, value: unknown, names: readonly Name[]): Name {
  const known = names.find((name) => name === value);
  if (known === undefined) throw invalidArgument(what, names.map((name) => `"${name}"`).join(" or "), value);
  return known;
}

export function rowsOf({ input }: ClusterJob): number {
  return input.segments.reduce((sum, { rows }) => sum + rows, 0);
}

function checkInput(value: unknown): JobInput {
  const input = checkObject("job.input", value);
  const dim = checkInteger("job.input.dim", input.dim, 1, limits.dim);
  const { segments } = input;
  if (!Array.isArray(segments) || segments.length === 0 || segments.length > mostSegments) {
    throw invalidArgument("job.input.segments", `an array of 1 to ${mostSegments}`, segments);
  }
  let left = Math.floor(mostElements / dim);
  const checked = Array.from(segments, (item: unknown, i) => {
    const segment = checkObject(`job.input.segments[${i}]`, item);
    const rows = checkInteger(`job.input.segments[${i}].rows`, segment.rows, 1, left);
    left -= rows;
    return {
      file: checkFileName(`job.input.segments[${i}].file`, segment.file),
      firstRow: checkInteger(`job.input.segments[${i}].firstRow`, segment.firstRow, 0, 2 ** 48),
      rows,
    };
  });
  return { side: checkName("job.input.side", input.side, ["inputs", "outputs"]), dim, segments: checked };
}

function checkModelFile(value: unknown): ModelFile {
  const model = checkObject("job.model", value);
  return { file: checkFileName("job.model.file", model.file), id: checkDigest("job.model.id", model.id) };
}

function checkDigest(name: string, value: unknown): string {
  if (typeof value === "string" && /^[0-9a-f]{64}$/.test(value)) return value;
  throw invalidArgument(name, "a SHA-256 in hexadecimal", value);
}

function checkNumbers(name: string, value: unknown): number[] {
  if (Array.isArray(value) && value.every((number) => typeof number === "number" && number >= 0)) return value;
  throw invalidArgument(name, "an array of numbers ≥ 0", value);
}

function checkObject(name: string, value: unknown): Record<string, unknown> {
  checkRequiredOptions(name, value);
  return value as Record<string, unknown>;
}
