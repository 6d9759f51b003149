// Runs one job: finds its output made and sound, or makes it, whole or not at all, and keeps a record beside it.

import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { pipeline } from "node:stream/promises";
import { writeFileAtomic } from "../atomic-file.js";
import { type ClusterJob, checkOutcome, type JobOutcome } from "./job.js";
import { type JobContext, makeOutput } from "./job-outputs.js";

/** @throws RvqError; the signal's reason when aborted: nothing but whole outputs is left behind */
export async function runJob(job: ClusterJob, context: JobContext): Promise<JobOutcome> {
  const file = await context.folders.newOutput(job.output);
  const recordFile = await context.folders.newOutput(recordName(job.output));
  const made = await madeBefore(job, file, recordFile);
  if (made !== null) return made;

  const { bytes, facts } = await makeOutput(job, context);
  const hash = createHash("sha256");
  let sizeBytes = 0;
  async function* hashed(): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const piece of bytes instanceof Uint8Array ? [bytes] : bytes) {
      context.signal?.throwIfAborted();
      hash.update(piece);
      sizeBytes += piece.length;
      yield piece;
    }
  }
  try {
    await writeFileAtomic(file, hashed());
  } catch (error) {
    // An abort in mid-write would look like a file that cannot be written.
    context.signal?.throwIfAborted();
    throw error;
  }
  const outcome = { identity: job.identity, sha256: hash.digest("hex"), sizeBytes, facts };
  await writeFileAtomic(recordFile, Buffer.from(`${JSON.stringify(outcome)}\n`));
  return outcome;
}

/** The record of an output: a file in the folder `records` beside it. */
function recordName(output: string): string {
  const { dir, base } = path.posix.parse(output);
  return path.posix.join(dir, "records", `${base}.json`);
}

/** What the record says, where it is of this job and the output is what it says; null: it is to be made. */
async function madeBefore(job: ClusterJob, file: string, recordFile: string): Promise<JobOutcome | null> {
  try {
    const outcome = checkOutcome(JSON.parse(await readFile(recordFile, "utf8")), job);
    const hash = createHash("sha256");
    await pipeline(createReadStream(file), hash);
    return hash.digest("hex") === outcome.sha256 ? outcome : null;
  } catch {
    // Missing, damaged or of another job: all the same.
    return null;
  }
}
