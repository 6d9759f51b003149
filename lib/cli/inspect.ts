// `rvq inspect`: what a `.rvq` file consists of, stage by stage, and whether all of it is sound.

import { bitsPerCode, type ChunkFacts, RvqError, RvqReader } from "../index.js";
import { type CommandContext, printLine } from "./context.js";
import { textList, textTable } from "./table.js";

interface StageFacts {
  readonly stage: number;
  readonly codebookSize: number;
  readonly bytes: number;
  readonly bitsPerCode: number;
  readonly packedBitsPerCode: number;
  /** How many chunks have the stage in each coding. */
  readonly codings: Readonly<Record<string, number>>;
}

/** Exit code 1 for a damaged file, after all has been printed. */
export async function inspectCommand(
  { stdout, signal }: CommandContext,
  path: string,
  { json }: { readonly json: boolean },
): Promise<void> {
  const reader = await RvqReader.open(path);
  try {
    const damage = await reader.verify({ signal });
    const chunks: ChunkFacts[] = [];
    for (let i = 0; i < reader.chunkCount; i++) {
      signal.throwIfAborted();
      const facts = await reader.chunkFacts(i);
      if (facts !== null) chunks.push(facts);
    }
    const stages = stageFacts(reader, chunks);
    const { modelId, frameRate, metadata } = reader.header;
    const { frameCount: frames, chunkCount, summary, sizeBytes } = reader;
    const seconds = frameRate === null ? null : frames / frameRate;
    const bitsPerSecond = seconds ? (8 * sizeBytes) / seconds : null;
    const facts = { bytes: sizeBytes, modelId, frames, frameRate, seconds, bitsPerSecond, chunks: chunkCount };
    const messages = damage.map(({ message }) => message);
    if (json) {
      printLine(stdout, JSON.stringify({ ...facts, metadata, summary, stages, damage }, null, 2));
    } else {
      const entries = Object.entries({
        ...facts,
        metadata: JSON.stringify(metadata),
        summary: JSON.stringify(summary),
      });
      printLine(stdout, textList(entries.map(([name, value]) => [name, showFact(value)] as const)));
      printLine(stdout, `\n${stageTable(stages)}\n`);
      printLine(stdout, messages.length === 0 ? "sound: every checksum fits" : messages.join("\n"));
    }
    if (messages.length > 0) {
      throw new RvqError("INVALID_STREAM", `${path}: expected a sound file, got ${messages.length} places of damage`);
    }
  } finally {
    await reader.close();
  }
}

function stageFacts(reader: RvqReader, chunks: readonly ChunkFacts[]): StageFacts[] {
  return reader.header.codebookSizes.map((codebookSize, stage) => {
    const sections = chunks.map((chunk) => chunk.stages[stage]);
    const bytes = sections.reduce((sum, section) => sum + section.bytes, 0);
    const frames = chunks.reduce((sum, chunk) => sum + chunk.frames, 0);
    const codings: Record<string, number> = {};
    for (const { coding } of sections) codings[coding] = (codings[coding] ?? 0) + 1;
    const bits = frames > 0 ? (8 * bytes) / frames : 0;
    return { stage, codebookSize, bytes, bitsPerCode: bits, packedBitsPerCode: bitsPerCode(codebookSize), codings };
  });
}

function stageTable(stages: readonly StageFacts[]): string {
  const heading = ["stage", "K", "bytes", "bits a frame", "packed", "coding (chunks)"];
  const rows = stages.map((one) => [
    String(one.stage),
    String(one.codebookSize),
    String(one.bytes),
    one.bitsPerCode.toFixed(2),
    String(one.packedBitsPerCode),
    Object.entries(one.codings)
      .map(([coding, count]) => `${coding} ${count}`)
      .join(", "),
  ]);
  return textTable([heading, ...rows], new Set([0, 1, 2, 3, 4]));
}

function showFact(value: unknown): string {
  return typeof value === "number" && !Number.isInteger(value) ? value.toFixed(2) : String(value);
}
