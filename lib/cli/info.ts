// `rvq info`: what is in a model or in a `.rvq` file.

import { open, stat } from "node:fs/promises";
import { ioError } from "../audio/io-error.js";
import { isRvq } from "../bitstream/stream-header.js";
import {
  type AnyQuantizer,
  GroupedQuantizer,
  loadQuantizer,
  type ProjectedDescription,
  ProjectedQuantizer,
  packedSizeBytes,
  RvqError,
  RvqReader,
} from "../index.js";
import { type CommandContext, printLine } from "./context.js";
import { textList } from "./table.js";

export async function infoCommand(
  { stdout, signal, backend }: CommandContext,
  path: string,
  { json }: { readonly json: boolean },
): Promise<void> {
  const { head, sizeBytes } = await lookAt(path);
  signal.throwIfAborted();
  const facts = isRvq(head)
    ? await streamFacts(path, sizeBytes)
    : modelFacts(await loadQuantizer(path, backend), sizeBytes);
  if (json) printLine(stdout, JSON.stringify(facts, null, 2));
  else printLine(stdout, textList(Object.entries(facts).map(([name, value]) => [name, show(value)] as const)));
}

type Facts = Record<string, unknown>;

/** What the header, the index and the summary say; `rvq inspect` reads the rest. */
async function streamFacts(path: string, sizeBytes: number): Promise<Facts> {
  const reader = await RvqReader.open(path);
  await reader.close();
  const { frameCount: frames, stages, summary, damage } = reader;
  const { modelId, codebookSizes, frameRate, metadata } = reader.header;
  const { audio: given, ...others } = metadata;
  const audio = typeof given === "object" && given !== null ? (given as Facts) : undefined;
  const samples = Number(summary?.sampleCount) / Number(audio?.sampleRate);
  const seconds = Number.isFinite(samples) ? samples : frameRate === null ? null : frames / frameRate;
  return {
    type: audio !== undefined ? "coded audio" : "coded vectors",
    bytes: sizeBytes,
    seconds,
    frames,
    frameRate,
    stages,
    codebookSizes,
    packedBytes: packedSizeBytes(frames, codebookSizes),
    bitsPerSecond: seconds ? (8 * sizeBytes) / seconds : null,
    modelId,
    ...others,
    ...audio,
    ...summary,
    ...(damage.length > 0 ? { damage: damage.map(({ message }) => message).join("; ") } : {}),
  };
}

function modelFacts(quantizer: AnyQuantizer, sizeBytes: number): Facts {
  const { dim, metric, weighted, stages, codebookSizes, log2Capacity } = quantizer.describe();
  const { metadata, id } = quantizer;
  const projected = quantizer instanceof ProjectedQuantizer;
  const parts = projected ? ofParts(quantizer.describe()) : {};
  quantizer.dispose();
  return {
    type: projected ? "model with projections" : "model",
    bytes: sizeBytes,
    dim,
    ...(quantizer instanceof GroupedQuantizer ? { groups: quantizer.groups } : {}),
    ...parts,
    metric,
    weighted,
    stages,
    codebookSizes,
    log2Capacity,
    id,
    ...metadata,
  };
}

/** The dimensions in which the parts search, and how many stages each has. */
function ofParts({ arrangement, parts }: ProjectedDescription): Facts {
  return { arrangement, partDims: parts.map(({ dim }) => dim), partStages: parts.map((part) => part.stages) };
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
