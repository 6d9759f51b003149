// EnCodec's plain code stream `.ecdc`, as its compressor writes it without a language model, of its two published models.

import { type Codes, checkBytes, checkCodeRange, checkCodes, checkInteger } from "../check.js";
import { invalidArgument, RvqError, show } from "../errors.js";
import { packCodes, unpackCodes } from "../pack-codes.js";
import { packedSizeBytes } from "../pack-layout.js";

// Layout: "ECDC", version 0 (1 byte), length of the JSON (4 bytes, big-endian), JSON { m: model, al: samples, nc: codebooks, lm: false };
// then for each segment of the audio: with the 48 kHz model its scale (float32, big-endian), and the codes of its frames, frame after
// frame, codebook after codebook, 10 bits each from the lowest bit up, to the next whole byte.

export interface EcdcSegment {
  /** What the codec divided the samples by; null with the 24 kHz model, which does not. */
  readonly scale: number | null;
  /** Codes below 1024 of the segment's frames. */
  readonly codes: Codes;
}

export interface Ecdc {
  readonly model: EcdcModel;
  /** Samples a channel. */
  readonly sampleCount: number;
  /** One for the 24 kHz model; seconds that overlap by a hundredth for the other; none without samples. */
  readonly segments: readonly EcdcSegment[];
}

export type EcdcModel = "encodec_24khz" | "encodec_48khz";

interface Geometry {
  readonly stages: number;
  /** Samples a frame. */
  readonly hop: number;
  /** Samples of a segment, and from the start of one to that of the next. */
  readonly segment: number;
  readonly stride: number;
  readonly scaled: boolean;
}

const models: Readonly<Record<EcdcModel, Geometry>> = {
  encodec_24khz: { stages: 32, hop: 320, segment: Infinity, stride: Infinity, scaled: false },
  encodec_48khz: { stages: 16, hop: 320, segment: 48_000, stride: 47_520, scaled: true },
};

const magic = "ECDC";
const fixedBytes = 9;
const scaleBytes = 4;
const codebookSize = 1024;

/**
 * Reads a `.ecdc` file. What it claims to hold is compared with its length before it is allocated.
 * @throws RvqError INVALID_STREAM for anything else, files that a language model compressed among it
 */
export function readEcdc(bytes: Uint8Array): Ecdc {
  const plain = checkBytes("bytes", bytes);
  const buffer = Buffer.from(plain.buffer, plain.byteOffset, plain.length);
  if (buffer.length < fixedBytes || buffer.toString("latin1", 0, 4) !== magic) {
    throw damaged(`a file that begins with ${magic}`, "one that begins otherwise, or is shorter than 9 bytes");
  }
  if (buffer[4] !== 0) throw damaged("version 0", buffer[4]);
  const jsonBytes = buffer.readUInt32BE(5);
  const most = buffer.length - fixedBytes;
  if (jsonBytes > most) throw damaged(`a header of at most ${most} bytes`, jsonBytes);
  const { model, sampleCount, stages } = parseHeader(buffer.toString("utf8", fixedBytes, fixedBytes + jsonBytes));

  const { scaled } = models[model];
  const sizes = new Array<number>(stages).fill(codebookSize);
  const segments: EcdcSegment[] = [];
  let at = fixedBytes + jsonBytes;
  for (const frames of segmentFrames(model, sampleCount)) {
    const codesAt = at + (scaled ? scaleBytes : 0);
    const end = codesAt + packedSizeBytes(frames, sizes);
    if (end > buffer.length) throw damaged(`${sampleCount} samples`, `a file that ends in segment ${segments.length}`);
    const scale = scaled ? buffer.readFloatBE(at) : null;
    if (scale !== null)
      checkScale(scale, (expected, got) => damaged(`segment ${segments.length} with ${expected}`, got));
    segments.push({ scale, codes: unpackCodes(plain.subarray(codesAt, end), frames, sizes) });
    at = end;
  }
  if (at !== buffer.length) throw damaged(`${at} bytes for ${sampleCount} samples`, buffer.length);
  return { model, sampleCount, segments };
}

/**
 * The bytes of a `.ecdc` file.
 * @throws RvqError INVALID_ARGUMENT for segments that the samples do not have, CODE_OUT_OF_RANGE
 */
export function writeEcdc(stream: Ecdc): Uint8Array {
  const { model, sampleCount, segments } = (typeof stream === "object" && stream !== null ? stream : {}) as Ecdc;
  if (!isModel(model)) throw invalidArgument("model", Object.keys(models).join(" or "), model);
  checkInteger("sampleCount", sampleCount, 0, Number.MAX_SAFE_INTEGER);
  if (!Array.isArray(segments)) throw invalidArgument("segments", "an array", segments);
  const most = models[model].stages;
  const given = segments as readonly EcdcSegment[];
  const checked = given.map((segment, i) => checkSegment(`segments[${i}]`, segment, models[model]));
  const stages = checked[0]?.codes.stages ?? most;

  const header = Buffer.from(JSON.stringify({ m: model, al: sampleCount, nc: stages, lm: false }), "utf8");
  const head = Buffer.alloc(fixedBytes);
  head.write(magic, 0, "latin1");
  head.writeUInt32BE(header.length, 5);
  const pieces: Uint8Array[] = [head, header];
  let next = 0;
  for (const frames of segmentFrames(model, sampleCount)) {
    const name = `segments[${next}]`;
    const segment = checked.at(next++);
    if (segment === undefined) {
      throw invalidArgument("segments", `all of ${sampleCount} samples`, `${checked.length} of them`);
    }
    const { scale, codes } = segment;
    if (codes.count !== frames) throw invalidArgument(`${name}.codes.count`, `${frames} frames`, codes.count);
    if (codes.stages !== stages) throw invalidArgument(`${name}.codes.stages`, `${stages}, as the first`, codes.stages);
    if (scale !== null) {
      const field = Buffer.alloc(scaleBytes);
      field.writeFloatBE(scale);
      pieces.push(field);
    }
    pieces.push(packCodes(codes, new Array<number>(stages).fill(codebookSize)));
  }
  if (next < checked.length) throw invalidArgument("segments", `${next} for ${sampleCount} samples`, checked.length);
  return new Uint8Array(Buffer.concat(pieces));
}

/** The frames of each segment of so many samples, one after the other: a hostile file claims more than could be listed. */
function* segmentFrames(model: EcdcModel, sampleCount: number): Generator<number, void, undefined> {
  const { hop, segment, stride } = models[model];
  for (let offset = 0; offset < sampleCount; offset += stride) {
    yield Math.ceil(Math.min(sampleCount - offset, segment) / hop);
  }
}

function parseHeader(text: string): { model: EcdcModel; sampleCount: number; stages: number } {
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch (cause) {
    throw new RvqError("INVALID_STREAM", `ecdc: expected a header in JSON, got ${(cause as Error).message}`, { cause });
  }
  const fields = (typeof header === "object" && header !== null ? header : {}) as Record<string, unknown>;
  const { m: model, al: sampleCount, nc: stages, lm } = fields;
  if (!isModel(model)) throw damaged(`model ${Object.keys(models).join(" or ")}`, show(model));
  if (lm !== false) throw damaged("plain codes (lm: false)", `lm: ${show(lm)}: compressed by a language model`);
  if (!isIntegerIn(sampleCount, 0, Number.MAX_SAFE_INTEGER)) throw damaged("a number of samples", show(sampleCount));
  const most = models[model].stages;
  if (!isIntegerIn(stages, 1, most)) throw damaged(`1 to ${most} codebooks`, show(stages));
  return { model, sampleCount, stages };
}

function checkSegment(name: string, value: unknown, { stages, scaled }: Geometry): EcdcSegment {
  const { scale, codes } = (typeof value === "object" && value !== null ? value : {}) as Partial<EcdcSegment>;
  const checked = checkCodes(`${name}.codes`, codes, stages);
  checkCodeRange(`${name}.codes`, checked.data, checked.stages, new Array<number>(stages).fill(codebookSize), 0);
  if (!scaled) {
    if (scale === null) return { scale, codes: checked };
    throw invalidArgument(`${name}.scale`, "null with the 24 kHz model", scale);
  }
  checkScale(scale, (expected, got) => invalidArgument(`${name}.scale`, expected, got));
  return { scale: scale as number, codes: checked };
}

/** A scale is a loudness: what is none would make noise or silence of a whole second. */
function checkScale(scale: unknown, error: (expected: string, got: unknown) => RvqError): void {
  const single = typeof scale === "number" ? Math.fround(scale) : Number.NaN;
  if (!(single > 0 && single < Infinity)) throw error("a positive scale in the range of float32", scale);
}

function isModel(value: unknown): value is EcdcModel {
  return typeof value === "string" && Object.hasOwn(models, value);
}

function isIntegerIn(value: unknown, min: number, max: number): value is number {
  return Number.isInteger(value) && (value as number) >= min && (value as number) <= max;
}

function damaged(expected: string, got: unknown): RvqError {
  return new RvqError("INVALID_STREAM", `ecdc: expected ${expected}, got ${String(got)}`);
}
