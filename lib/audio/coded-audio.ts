// Coded audio: a `.rvq` file whose metadata say how its frames become sound.

import { writeFileAtomic } from "../atomic-file.js";
import type { ByteSource } from "../bitstream/byte-source.js";
import { readCodes } from "../bitstream/read-codes.js";
import { invalidArgument, RvqError, show } from "../errors.js";
import { type Codes, type Coding, type Frames, RvqReader, rvqBytes, type WritableCodes } from "../index.js";
import { isHop } from "./mdct.js";
import { maxSampleRate, minSampleRate } from "./wav.js";

// metadata: { audio: { sampleRate, hop } }; summary: { sampleCount }, so that what is recorded can be written as it comes.

/** A reader refuses longer signals: a few bytes can hold very many frames that are all alike. */
const maxSamples = 2 ** 30;

export interface CodedAudio {
  /** Hz. */
  readonly sampleRate: number;
  /** Samples a frame. */
  readonly hop: number;
  /** Samples of the signal, of which the codes hold ceil(sampleCount / hop) + 1 frames. */
  readonly sampleCount: number;
  /** Hex id of the model that coded it. */
  readonly modelId: string;
  /** K_s of each stage in `codes`. */
  readonly codebookSizes: readonly number[];
  readonly codes: WritableCodes;
}

/** Coded audio as it was read. */
export interface ReadAudio extends CodedAudio {
  readonly codes: Frames;
  /** Stages in the file. */
  readonly storedStages: number;
  /** What is damaged, a sentence each. */
  readonly damage: readonly string[];
}

export interface ReadAudioOptions {
  /** Read the first so many stages; default: all. */
  readonly stages?: number;
  /** Read what is intact of a damaged file: lost frames have no stages, those with damaged stages fewer. */
  readonly recover?: boolean;
  readonly signal?: AbortSignal;
}

/** Writes a coded-audio file whole or not at all; returns its size in bytes. */
export async function writeCodedAudio(
  path: string,
  audio: CodedAudio,
  { coding }: { readonly coding?: Coding } = {},
): Promise<number> {
  let sizeBytes = 0;
  async function* counted(): AsyncGenerator<Uint8Array> {
    for await (const piece of codedAudioBytes(audio, coding)) {
      sizeBytes += piece.length;
      yield piece;
    }
  }
  await writeFileAtomic(path, counted());
  return sizeBytes;
}

/** The bytes of a coded-audio file, in pieces. */
export function codedAudioBytes(
  { sampleRate, hop, sampleCount, modelId, codebookSizes, codes }: CodedAudio,
  coding?: Coding,
): AsyncGenerator<Uint8Array> {
  const expected = frameCount(sampleCount, hop);
  if (codes.count !== expected) throw invalidArgument("codes.count", `${expected} frames`, codes.count);
  const metadata = { audio: { sampleRate, hop } };
  const options = { modelId, codebookSizes, frameRate: sampleRate / hop, metadata, summary: { sampleCount }, coding };
  return rvqBytes([codes], options);
}

/** Reads coded audio. Throws `RvqError` IO, or INVALID_STREAM for any other file, and for a damaged one unless `recover` is set. */
export async function readCodedAudio(
  input: string | Uint8Array | ByteSource,
  options: ReadAudioOptions = {},
): Promise<ReadAudio> {
  const name = typeof input === "string" ? input : "bytes";
  const reader = await RvqReader.open(input);
  try {
    const { modelId, codebookSizes } = reader.header;
    const { sampleRate, hop } = audioMetadata(reader, name);
    const sampleCount = checkSampleCount(reader, hop, name, options.recover === true);
    const stages = options.stages ?? reader.stages;
    const { codes, damage } = await readCodes(reader, {
      stages,
      recover: options.recover === true,
      signal: options.signal,
    });
    const sizes = codebookSizes.slice(0, stages);
    return { sampleRate, hop, sampleCount, modelId, codebookSizes: sizes, codes, storedStages: reader.stages, damage };
  } finally {
    await reader.close();
  }
}

/** The first `stages` stages of each frame: a stream of fewer stages is a prefix of each frame's codes. */
export function firstStages(audio: CodedAudio & { readonly codes: Codes }, stages: number): CodedAudio {
  const { codes } = audio;
  if (!Number.isInteger(stages) || stages < 1 || stages > codes.stages) {
    throw invalidArgument("stages", `an integer from 1 to ${codes.stages}`, stages);
  }
  const data = codes.data.slice(0, codes.count * stages);
  for (let row = 0; row < codes.count; row++) {
    for (let stage = 0; stage < stages; stage++) data[row * stages + stage] = codes.data[row * codes.stages + stage];
  }
  return { ...audio, codebookSizes: audio.codebookSizes.slice(0, stages), codes: { count: codes.count, stages, data } };
}

function audioMetadata(reader: RvqReader, name: string): { sampleRate: number; hop: number } {
  const { audio } = reader.header.metadata;
  const { sampleRate, hop } = (typeof audio === "object" ? (audio ?? {}) : {}) as Record<string, unknown>;
  const rates = `a sample rate of ${minSampleRate} to ${maxSampleRate} Hz`;
  if (typeof sampleRate !== "number" || !(sampleRate >= minSampleRate && sampleRate <= maxSampleRate)) {
    throw invalidStream(name, `coded audio with ${rates} in its metadata`, show(sampleRate));
  }
  if (!isHop(hop)) throw invalidStream(name, "coded audio with an even hop in its metadata", show(hop));
  return { sampleRate, hop };
}

/** The summary's sample count, or where the end of the file is lost as many samples as there are frames for. */
function checkSampleCount(reader: RvqReader, hop: number, name: string, recover: boolean): number {
  const { summary, frameCount: frames } = reader;
  if (frames * hop > maxSamples) throw invalidStream(name, `at most ${maxSamples} samples`, String(frames * hop));
  if (summary === null && recover) return Math.max(0, frames - 1) * hop;
  const sampleCount = summary === null ? Number.NaN : summary.sampleCount;
  if (summary !== null && (!Number.isInteger(sampleCount) || frameCount(sampleCount as number, hop) !== frames)) {
    throw invalidStream(name, `the sample count of ${frames} frames in the summary`, show(sampleCount));
  }
  // Of a file without its end, reading the codes says what is wrong.
  return sampleCount as number;
}

function frameCount(sampleCount: number, hop: number): number {
  return sampleCount === 0 ? 0 : Math.ceil(sampleCount / hop) + 1;
}

function invalidStream(name: string, expected: string, got: string): RvqError {
  return new RvqError("INVALID_STREAM", `${name}: expected ${expected}, got ${got}`);
}
