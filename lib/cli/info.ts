// `rvq info`: what is in a model or in coded audio.

import { open, stat } from "node:fs/promises";
import { type CodedAudio, isCodedAudio, readCodedAudio } from "../audio/coded-audio.js";
import { ioError } from "../audio/io-error.js";
import { packedSizeBytes, ResidualQuantizer, RvqError } from "../index.js";
import { type CommandContext, printLine } from "./context.js";
import { textList } from "./table.js";

export async function infoCommand(
  { stdout, signal, backend }: CommandContext,
  path: string,
  { json }: { readonly json: boolean },
): Promise<void> {
  const { head, sizeBytes } = await lookAt(path);
  const facts = isCodedAudio(head)
    ? codedAudioFacts(await readCodedAudio(path, { signal }), sizeBytes)
    : modelFacts(await ResidualQuantizer.load(path, backend), sizeBytes);
  if (json) printLine(stdout, JSON.stringify(facts, null, 2));
  else printLine(stdout, textList(Object.entries(facts).map(([name, value]) => [name, show(value)] as const)));
}

type Facts = Record<string, unknown>;

function codedAudioFacts(coded: CodedAudio, sizeBytes: number): Facts {
  const { sampleRate, sampleCount, hop, modelId, codebookSizes, codes } = coded;
  const seconds = sampleCount / sampleRate;
  return {
    type: "coded audio",
    bytes: sizeBytes,
    seconds,
    sampleRate,
    hop,
    frames: codes.count,
    stages: codes.stages,
    codebookSizes,
    packedBytes: packedSizeBytes(codes.count, codebookSizes),
    bitsPerSecond: seconds > 0 ? (8 * sizeBytes) / seconds : null,
    modelId,
  };
}

function modelFacts(quantizer: ResidualQuantizer, sizeBytes: number): Facts {
  const { dim, metric, weighted, stages, codebookSizes, log2Capacity } = quantizer.describe();
  const { metadata, id } = quantizer;
  quantizer.dispose();
  return {
    type: "model",
    bytes: sizeBytes,
    dim,
    metric,
    weighted,
    stages,
    codebookSizes,
    log2Capacity,
    id,
    ...metadata,
  };
}

function show(value: unknown): string {
  if (Array.isArray(value)) {
    const same = value.every((item) => item === value[0]);
    return same && value.length > 1 ? `${value.length} × ${String(value[0])}` : value.join(", ");
  }
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : value.toFixed(2);
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** The first bytes say what it is. A pipe or a device is not opened: that could wait for ever. */
async function lookAt(path: string): Promise<{ head: Uint8Array; sizeBytes: number }> {
  try {
    const entry = await stat(path);
    if (!entry.isFile()) {
      throw new RvqError("IO", `${path}: expected a model or coded audio, got something that is not a regular file`);
    }
    const file = await open(path);
    try {
      const head = Buffer.alloc(8);
      const { bytesRead } = await file.read(head, 0, head.length, 0);
      return { head: head.subarray(0, bytesRead), sizeBytes: entry.size };
    } finally {
      await file.close();
    }
  } catch (error) {
    if (error instanceof RvqError) throw error;
    throw ioError(path, "read", error);
  }
}
