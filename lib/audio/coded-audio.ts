// The coded-audio file `.rvq`: what was coded, by which model, the packed codes, and a SHA-256 over all of it.

import { createHash } from "node:crypto";
import { writeFileAtomic } from "../atomic-file.js";
import { invalidArgument, RvqError } from "../errors.js";
import { type Codes, packCodes, packedSizeBytes, unpackCodes } from "../index.js";
import { readRegularFile } from "./regular-file.js";
import { maxSampleRate, minSampleRate } from "./wav.js";

// Layout, all integers little-endian:
//   0   8 bytes   "RVQaudio"
//   8   uint32    version, 1
//   12  uint32    sample rate in Hz
//   16  uint32    hop: samples a frame
//   20  uint32    S: stages that are stored
//   24  uint64    samples of the signal; frames = ceil(samples / hop) + 1, or 0 of 0
//   32  32 bytes  the model's id
//   64  uint32×S  codebook sizes K_s
//       then      the codes of all frames, packed as by packCodes
//       32 bytes  SHA-256 of everything before
const magic = "RVQaudio";
const version = 1;
const fixedHeaderBytes = 64;
const digestBytes = 32;

/** The largest hop there is a use for; with it, sample counts follow from the file's size. */
const maxHop = 65_536;
const maxCodebookSize = 2 ** 24;

export interface CodedAudio {
  /** Hz. */
  readonly sampleRate: number;
  /** Samples a frame. */
  readonly hop: number;
  /** Samples of the signal, of which the codes hold ceil(sampleCount / hop) + 1 frames. */
  readonly sampleCount: number;
  /** Hex id of the model that coded it. */
  readonly modelId: string;
  /** K_s ≥ 2 of each stage in `codes`. */
  readonly codebookSizes: readonly number[];
  readonly codes: Codes;
}

/** The bytes of a coded-audio file. */
export function codedAudioToBytes(audio: CodedAudio): Uint8Array {
  const { sampleRate, hop, sampleCount, modelId, codebookSizes, codes } = audio;
  const expected = frameCount(sampleCount, hop);
  if (codes.count !== expected) throw invalidArgument("codes.count", `${expected} frames`, codes.count);
  if (codes.stages !== codebookSizes.length) {
    throw invalidArgument("codebookSizes", `${codes.stages} sizes, one a stage`, codebookSizes);
  }
  // A stage with one codeword takes no bits, and then a file's size would no longer bound what it can make a reader
  // allocate.
  if (codebookSizes.some((size) => size < 2))
    throw invalidArgument("codebookSizes", "sizes of at least 2", codebookSizes);
  if (!/^[0-9a-f]{64}$/.test(modelId)) throw invalidArgument("modelId", "64 hexadecimal digits", modelId);

  const packed = packCodes(codes, codebookSizes);
  const headerBytes = fixedHeaderBytes + 4 * codebookSizes.length;
  const bytes = Buffer.alloc(headerBytes + packed.length + digestBytes);
  bytes.write(magic, 0, "latin1");
  bytes.writeUInt32LE(version, 8);
  bytes.writeUInt32LE(sampleRate, 12);
  bytes.writeUInt32LE(hop, 16);
  bytes.writeUInt32LE(codebookSizes.length, 20);
  bytes.writeBigUInt64LE(BigInt(sampleCount), 24);
  bytes.write(modelId, 32, "hex");
  for (const [stage, size] of codebookSizes.entries()) bytes.writeUInt32LE(size, fixedHeaderBytes + 4 * stage);
  bytes.set(packed, headerBytes);
  digest(bytes).copy(bytes, bytes.length - digestBytes);
  return bytes;
}

/**
 * Reads a coded-audio file. Every field is checked against the file's size before anything is allocated by it. Throws
 * `RvqError` INVALID_STREAM that names the file and the field.
 */
export function codedAudioFromBytes(source: Uint8Array, name: string): CodedAudio {
  const bytes = Buffer.from(source.buffer, source.byteOffset, source.byteLength);
  const smallest = fixedHeaderBytes + digestBytes;
  checkMagic(bytes, name);
  if (bytes.length < smallest) throw invalidStream(name, `at least ${smallest} bytes`, String(bytes.length));
  const found = bytes.readUInt32LE(8);
  if (found !== version) throw invalidStream(name, `version ${version}`, String(found));

  const sampleRate = bytes.readUInt32LE(12);
  const hop = bytes.readUInt32LE(16);
  const stages = bytes.readUInt32LE(20);
  const sampleCount = Number(bytes.readBigUInt64LE(24));
  if (sampleRate < minSampleRate || sampleRate > maxSampleRate) {
    throw invalidStream(name, `a sample rate of ${minSampleRate} to ${maxSampleRate} Hz`, String(sampleRate));
  }
  if (hop === 0 || hop > maxHop) throw invalidStream(name, `a hop of 1 to ${maxHop}`, String(hop));
  if (stages === 0 || smallest + 4 * stages > bytes.length) {
    throw invalidStream(name, `stages that fit ${bytes.length} bytes`, String(stages));
  }
  const headerBytes = fixedHeaderBytes + 4 * stages;
  const codebookSizes = Array.from({ length: stages }, (_, stage) => bytes.readUInt32LE(fixedHeaderBytes + 4 * stage));
  for (const [stage, size] of codebookSizes.entries()) {
    if (size < 2 || size > maxCodebookSize) {
      throw invalidStream(name, `2 to ${maxCodebookSize} codewords in stage ${stage}`, String(size));
    }
  }
  const count = frameCount(sampleCount, hop);
  // A frame takes at least a bit. Counts beyond that, up to 2^64, are not multiplied out.
  if (count > 8 * bytes.length) {
    const expected = `at least ${Math.ceil(count / 8)} bytes for ${count} frames`;
    throw invalidStream(name, expected, `${bytes.length}: a truncated file`);
  }
  const expectedBytes = headerBytes + packedSizeBytes(count, codebookSizes) + digestBytes;
  if (bytes.length !== expectedBytes) {
    const what = bytes.length < expectedBytes ? "a truncated file" : "a file that is too long";
    throw invalidStream(name, `${expectedBytes} bytes for ${count} frames`, `${bytes.length}: ${what}`);
  }
  if (!digest(bytes).equals(bytes.subarray(bytes.length - digestBytes))) {
    throw invalidStream(name, "content that fits its SHA-256", "damaged content");
  }
  return {
    sampleRate,
    hop,
    sampleCount,
    modelId: bytes.toString("hex", 32, 64),
    codebookSizes,
    codes: unpackNamed(bytes.subarray(headerBytes, bytes.length - digestBytes), count, codebookSizes, name),
  };
}

/** Reads a coded-audio file; of a large file that is none, only the first bytes. Throws `RvqError` IO or INVALID_STREAM. */
export async function readCodedAudio(
  path: string,
  { signal }: { readonly signal?: AbortSignal } = {},
): Promise<CodedAudio> {
  const checkHead = (head: Uint8Array) => checkMagic(head, path);
  const expected = "coded audio (.rvq)";
  return codedAudioFromBytes(
    await readRegularFile(path, { expected, code: "INVALID_STREAM", checkHead, signal }),
    path,
  );
}

/** Writes a coded-audio file whole or not at all; returns its size in bytes. */
export async function writeCodedAudio(path: string, audio: CodedAudio): Promise<number> {
  const bytes = codedAudioToBytes(audio);
  await writeFileAtomic(path, bytes);
  return bytes.length;
}

/** Whether a file that begins with these bytes is coded audio. */
export function isCodedAudio(bytes: Uint8Array): boolean {
  return Buffer.from(bytes.subarray(0, magic.length)).toString("latin1") === magic;
}

/** The first `stages` stages of each frame: a stream of fewer stages is a prefix of each frame's codes. */
export function firstStages(audio: CodedAudio, stages: number): CodedAudio {
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

function checkMagic(bytes: Uint8Array, name: string): void {
  if (!isCodedAudio(bytes)) throw invalidStream(name, "coded audio (.rvq)", "a file that begins otherwise");
}

/** A file with a fitting checksum can still hold codes that no codebook has. */
function unpackNamed(packed: Uint8Array, count: number, codebookSizes: readonly number[], name: string): Codes {
  try {
    return unpackCodes(packed, count, codebookSizes);
  } catch (error) {
    if (!(error instanceof RvqError)) throw error;
    throw new RvqError("INVALID_STREAM", `${name}: packed codes: ${error.message}`, { cause: error });
  }
}

function frameCount(sampleCount: number, hop: number): number {
  return sampleCount === 0 ? 0 : Math.ceil(sampleCount / hop) + 1;
}

function digest(bytes: Buffer): Buffer {
  return createHash("sha256")
    .update(bytes.subarray(0, bytes.length - digestBytes))
    .digest();
}

function invalidStream(name: string, expected: string, got: string): RvqError {
  return new RvqError("INVALID_STREAM", `${name}: expected ${expected}, got ${got}`);
}
