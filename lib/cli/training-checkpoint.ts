// Checkpoints of `rvq train`: those of the trainer, whose metadata also tell what the data were and how the training went.

import { createHash } from "node:crypto";
import { writeFileAtomic } from "../atomic-file.js";
import { runStoppable } from "../audio/stoppable.js";
import { RvqError } from "../errors.js";
import { type BackendChoiceOptions, CodebookTrainer } from "../index.js";
import { readSealedFile } from "../sealed-bytes.js";
import { inPieces } from "../time-slice.js";
import { checkpointFromBytes, checkpointToBytes } from "../trainer-file.js";
import { TrainingHistory } from "./training-history.js";
import { planOfMetadata, type TrainingPlan } from "./training-plan.js";

export interface TrainingCheckpoint {
  readonly trainer: CodebookTrainer;
  readonly history: TrainingHistory;
  /** Of the training vectors. */
  readonly vectorsSha256: string;
}

export interface ReadCheckpoint extends TrainingCheckpoint {
  readonly plan: TrainingPlan;
}

/** @throws RvqError INVALID_ARGUMENT, IO */
export async function writeCheckpoint(path: string, training: TrainingCheckpoint): Promise<void> {
  const { trainer, history, vectorsSha256 } = training;
  const checkpoint = checkpointFromBytes(path, trainer.toBytes());
  const run = { vectorsSha256, history: history.toRecord() };
  await writeFileAtomic(path, checkpointToBytes({ ...checkpoint, metadata: { ...checkpoint.metadata, run } }));
}

/** @throws RvqError IO, INVALID_CHECKPOINT, BACKEND_UNAVAILABLE */
export async function readCheckpoint(path: string, backend: BackendChoiceOptions): Promise<ReadCheckpoint> {
  const { name, bytes } = await readSealedFile(path);
  const checkpoint = checkpointFromBytes(name, bytes);
  // The trainer's own metadata become those of the model, which must not depend on where a run was interrupted.
  const { run, ...metadata } = checkpoint.metadata;
  const plan = planOfMetadata(name, metadata);
  const { vectorsSha256, history } = (run ?? {}) as Record<string, unknown>;
  if (typeof vectorsSha256 !== "string") {
    throw new RvqError("INVALID_CHECKPOINT", `${name}: expected the SHA-256 of the training vectors, got none`);
  }
  const stages = checkpoint.parts[0].state.stages.length;
  return {
    plan,
    trainer: CodebookTrainer.fromBytes(checkpointToBytes({ ...checkpoint, metadata }), backend),
    history: TrainingHistory.fromRecord(name, history, stages),
    vectorsSha256,
  };
}

/** The SHA-256 of vectors[N][dim] as they lie in memory, in hexadecimal digits. */
export async function vectorsHash(vectors: Float32Array, dim: number, signal: AbortSignal): Promise<string> {
  const hash = createHash("sha256").update(`${dim}\n`);
  const steps = inPieces(vectors.length, 1, (from, to) => {
    hash.update(new Uint8Array(vectors.buffer, vectors.byteOffset + 4 * from, 4 * (to - from)));
  });
  await runStoppable(steps, signal);
  return hash.digest("hex");
}
