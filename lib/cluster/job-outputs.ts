// What jobs make: codes, ranges, residuals and statistics of rows.

import { createHash } from "node:crypto";
import { assignRows, newAssignment } from "../assign-rows.js";
import { rvqBytes } from "../bitstream/byte-pieces.js";
import { invalidArgument, RvqError } from "../errors.js";
import { codesToNpy } from "../interop/npy.js";
import { openBackend } from "../open-backend.js";
import { sumsOfBlocks } from "../proportional-draw.js";
import type { BackendChoiceOptions } from "../quantizer-options.js";
import { ResidualQuantizer } from "../residual-quantizer.js";
import { subtractStage } from "../residual-rows.js";
import { addRows, emptySums, raiseToMagnitudes, stageGrids } from "../stage-sums.js";
import { statisticsToBytes } from "../statistics-file.js";
import type { SharedFolders } from "./folders.js";
import {
  type ClusterJob,
  type EncodeJob,
  type JobFacts,
  type ModelFile,
  type ResidualJob,
  rowsOf,
  type StatisticsJob,
} from "./job.js";
import { bytesOf, RowReader } from "./row-file.js";

/** What jobs are run with. */
export interface JobContext extends BackendChoiceOptions {
  readonly folders: SharedFolders;
  readonly models: ModelCache;
  readonly signal: AbortSignal | undefined;
}

export interface JobOutput {
  readonly bytes: Uint8Array | AsyncIterable<Uint8Array>;
  readonly facts: JobFacts;
}

export async function makeOutput(job: ClusterJob, context: JobContext): Promise<JobOutput> {
  const quantizer = job.kind === "range" ? null : await context.models.load(job.model, job.input.dim);
  const { side, dim, segments } = job.input;
  const reader = new RowReader(context.folders, side, dim);
  let vectors: Float32Array;
  try {
    vectors = await reader.read(segments, quantizer?.metric === "cosine");
  } finally {
    await reader.close();
  }
  context.signal?.throwIfAborted();
  if (job.kind === "range" || quantizer === null) return rangeOf(vectors, dim);
  if (job.kind === "encode") return encodePart(job, quantizer, vectors, context);
  if (job.kind === "residual") return residuals(job, quantizer, vectors, context);
  return statistics(job, quantizer, vectors, context);
}

async function encodePart(
  job: EncodeJob,
  quantizer: ResidualQuantizer,
  vectors: Float32Array,
  { signal }: JobContext,
): Promise<JobOutput> {
  const { stages, beam, format, coding, input } = job;
  const codes = await quantizer.encode(vectors, { stages, beam, signal });
  if (format === "npy") return { bytes: codesToNpy(codes), facts: {} };
  const codebookSizes = quantizer.codebookSizes.slice(0, stages);
  const metadata = { segments: input.segments };
  return { bytes: rvqBytes([codes], { modelId: quantizer.id, codebookSizes, coding, metadata }), facts: {} };
}

function rangeOf(vectors: Float32Array, dim: number): JobOutput {
  const magnitudes = magnitudesOf(vectors, dim);
  return { bytes: Buffer.from(`${JSON.stringify({ magnitudes })}\n`), facts: { magnitudes } };
}

async function residuals(
  job: ResidualJob,
  quantizer: ResidualQuantizer,
  vectors: Float32Array,
  { backend, threads, signal }: JobContext,
): Promise<JobOutput> {
  const { dim } = job.input;
  const engine = openBackend(backend, threads);
  const spec = { dim, metric: quantizer.metric, weights: quantizer.weights() };
  for (const codebook of quantizer.codebooks()) {
    await subtractStage(engine, { ...spec, codebooks: [codebook] }, vectors, signal);
  }
  return { bytes: bytesOf(vectors), facts: { magnitudes: magnitudesOf(vectors, dim) } };
}

async function statistics(
  job: StatisticsJob,
  quantizer: ResidualQuantizer,
  vectors: Float32Array,
  { backend, threads, signal }: JobContext,
): Promise<JobOutput> {
  const { range, input } = job;
  const { dim } = input;
  if (quantizer.stages !== 1 || quantizer.metric !== "l2") {
    throw invalidArgument("job.model", "one of a single stage with metric l2", `${quantizer.stages} stages`);
  }
  const rows = rowsOf(job);
  if (rows > range.rows) throw invalidArgument("job.range", `a range of at least ${rows} rows`, range.rows);
  const magnitudes = magnitudesOf(vectors, dim);
  const outside = magnitudes.findIndex((magnitude, i) => magnitude > range.magnitudes[i]);
  if (outside >= 0) {
    const expected = `magnitudes of at most ${range.magnitudes[outside]} in column ${outside}`;
    throw invalidArgument("job.input", expected, magnitudes[outside]);
  }

  // Assign, measure, sum up.
  const engine = openBackend(backend, threads);
  const spec = { dim, metric: quantizer.metric, weights: quantizer.weights(), codebooks: quantizer.codebooks() };
  const [numCodewords] = quantizer.codebookSizes;
  const assignment = newAssignment(rows, numCodewords, spec.weights);
  const { codes, distances, plainDistances } = assignment;
  const prepared = engine.prepare(spec);
  try {
    await assignRows(engine, prepared, vectors, assignment, numCodewords, signal);
  } finally {
    prepared.dispose();
  }
  const [grid] = await stageGrids("job.range", range, spec);
  const sums = emptySums(numCodewords, grid, false);
  await addRows(engine, sums, vectors, codes, null);

  const facts = {
    codes: createHash("sha256").update(bytesOf(codes)).digest("hex"),
    squaredError: plainDistances.reduce((sum, distance) => sum + distance, 0),
    blockSums: [...sumsOfBlocks(distances)],
  };
  return { bytes: statisticsToBytes({ dim, quantizerId: quantizer.id, range, rows, stages: [sums] }), facts };
}

function magnitudesOf(vectors: Float32Array, dim: number): number[] {
  const magnitudes = new Float32Array(dim);
  raiseToMagnitudes(magnitudes, vectors, 0, vectors.length);
  return [...magnitudes];
}

/** The last model that was loaded: jobs of a run share one. */
export class ModelCache {
  private last: ResidualQuantizer | null = null;

  constructor(
    private readonly folders: SharedFolders,
    private readonly choice: BackendChoiceOptions,
  ) {}

  /** @throws RvqError INVALID_MODEL also for another model than the job names, IO */
  async load({ file, id }: ModelFile, dim: number): Promise<ResidualQuantizer> {
    let model = this.last;
    if (model?.id !== id) {
      model = await ResidualQuantizer.load(await this.folders.outputPath(file), this.choice);
      if (model.id !== id) throw new RvqError("INVALID_MODEL", `${file}: expected the model ${id}, got ${model.id}`);
      this.last = model;
    }
    if (model.dim !== dim) throw invalidArgument("job.input.dim", `${model.dim}, as the model has`, dim);
    return model;
  }
}
