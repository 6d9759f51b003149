// `rvq info`: what is in a model or in coded audio.

import { readFile } from "node:fs/promises";
import { codedAudioFromBytes, isCodedAudio } from "../audio/coded-audio.js";
import { ioError } from "../audio/io-error.js";
import { packedSizeBytes, ResidualQuantizer } from "../index.js";
import { type CommandContext, printLine } from "./context.js";
import { textList } from "./table.js";

export async function infoCommand(
  { stdout, backend }: CommandContext,
  path: string,
  { json }: { readonly json: boolean },
): Promise<void> {
  const bytes = await readWhole(path);
  const facts = isCodedAudio(bytes)
    ? codedAudioFacts(bytes, path)
    : modelFacts(await ResidualQuantizer.load(path, backend), bytes.length);
  if (json) printLine(stdout, JSON.stringify(facts, null, 2));
  else printLine(stdout, textList(Object.entries(facts).map(([name, value]) => [name, show(value)] as const)));
}

type Facts = Record<string, unknown>;

function codedAudioFacts(bytes: Uint8Array, path: string): Facts {
  const { sampleRate, sampleCount, hop, modelId, codebookSizes, codes } = codedAudioFromBytes(bytes, path);
  const seconds = sampleCount / sampleRate;
  return {
    type: "coded audio",
    bytes: bytes.length,
    seconds,
    sampleRate,
    hop,
    frames: codes.count,
    stages: codes.stages,
    codebookSizes,
    packedBytes: packedSizeBytes(codes.count, codebookSizes),
    bitsPerSecond: seconds > 0 ? (8 * bytes.length) / seconds : null,
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

async function readWhole(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (error) {
    throw ioError(path, "read", error);
  }
}
