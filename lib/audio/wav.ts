// Reading WAV files: every header field is checked against the bytes that are really there.

import { RvqError } from "../errors.js";
import { inPieces, runToEnd, type Steps } from "../time-slice.js";
import { readRegularFile } from "./regular-file.js";
import { adpcmSampleCount, adpcmSamplesPerBlock, type SampleLayout, sampleReader } from "./wav-samples.js";

/** Hz. Rates outside this range are taken for damage: resampling from 1 Hz would make a huge file of a small one. */
export const minSampleRate = 1_000;
export const maxSampleRate = 768_000;

/** Samples of one channel, 4 GiB as float32: beyond it, one recording is more than a machine should be asked to hold. */
export const maxSamples = 2 ** 30;

/** A data length at or above this is what programs write that stream to a pipe and do not know the length. */
const streamingLength = 0x7ffff000;

const formatTags: Readonly<Record<number, SampleLayout["encoding"]>> = {
  0x0001: "pcm",
  0x0003: "float",
  0x0006: "a-law",
  0x0007: "mu-law",
  0x0011: "ima-adpcm",
};
const extensibleTag = 0xfffe;

/** The last 14 bytes of every WAVE_FORMAT_EXTENSIBLE subformat whose first two bytes are a plain format tag. */
const extensibleTail = "000000001000800000aa00389b71";

/** A WAV file that has passed every check; its samples are still in the file's own encoding. */
export interface Wav {
  /** How messages call the file. */
  readonly name: string;
  readonly sampleRate: number;
  readonly layout: SampleLayout;
  /** Sample frames (one sample of each channel) that are really there. */
  readonly count: number;
  /** Sample frames that the header promises beyond those; 0 for a whole file. */
  readonly missing: number;
  /** The data chunk, no longer than the file. */
  readonly data: Uint8Array;
}

/**
 * Reads and checks a WAV file; of a large file that is none, only the first bytes. Throws `RvqError` IO where it cannot
 * be read, INVALID_AUDIO where it is no sound WAV.
 */
export async function readWav(path: string, { signal }: { readonly signal?: AbortSignal } = {}): Promise<Wav> {
  const checkHead = (head: Uint8Array) => checkMagic(head, path);
  const bytes = await readRegularFile(path, { expected: "a WAV file", code: "INVALID_AUDIO", checkHead, signal });
  return parseWav(bytes, path);
}

/**
 * Checks a WAV file's bytes: RIFF or RF64; integer, float, A-law, µ-law or IMA ADPCM samples; extra chunks in any
 * order. Throws `RvqError` INVALID_AUDIO that names the file, what was expected and what came.
 */
export function parseWav(bytes: Uint8Array, name: string): Wav {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  checkMagic(bytes, name);
  const chunks = findChunks(bytes, view, name);
  const { sampleRate, layout } = parseFormat(view, chunks.format, name);

  const present = countFrames(layout, chunks.data.length);
  const promised = countFrames(layout, chunks.data.claimed);
  // Compressed blocks are padded; the fact chunk has the true count.
  const limit = layout.encoding === "ima-adpcm" ? (chunks.factCount ?? promised) : promised;
  return {
    name,
    sampleRate,
    layout,
    count: Math.min(present, limit),
    missing: Math.max(0, Math.min(promised, limit) - present),
    data: bytes.subarray(chunks.data.start, chunks.data.start + chunks.data.length),
  };
}

/** channels[c][count]: the samples, full scale ±1. */
export function wavChannels(wav: Wav): Float32Array[] {
  return Array.from({ length: wav.layout.channels }, (_, channel) => {
    const samples = new Float32Array(wav.count);
    const read = sampleReader(wav.layout, wav.data);
    for (let i = 0; i < wav.count; i++) samples[i] = finite(read(i, channel), wav, i);
    return samples;
  });
}

/** samples[count]: the mean of the channels, full scale ±1. */
export function wavToMono(wav: Wav): Float32Array {
  return runToEnd(monoSteps(wav));
}

/** `wavToMono` in steps, for long recordings. */
export function* monoSteps(wav: Wav): Steps<Float32Array> {
  const { channels } = wav.layout;
  if (wav.count > maxSamples) throw invalidAudio(wav.name, `at most ${maxSamples} samples`, String(wav.count));
  const samples = new Float32Array(wav.count);
  const read = sampleReader(wav.layout, wav.data);
  yield* inPieces(wav.count * channels, channels, (from, to) => {
    for (let i = from / channels; i < to / channels; i++) {
      let sum = 0;
      for (let channel = 0; channel < channels; channel++) sum += read(i, channel);
      samples[i] = finite(sum / channels, wav, i);
    }
  });
  return samples;
}

const encodingNames = {
  pcm: "PCM",
  float: "float",
  "a-law": "A-law",
  "mu-law": "µ-law",
  "ima-adpcm": "IMA ADPCM",
} as const;

/** One line for people: "16-bit PCM, 2 channels, 44100 Hz". */
export function describeFormat({ layout, sampleRate }: Wav): string {
  const { bitsPerSample, channels, encoding } = layout;
  return `${bitsPerSample}-bit ${encodingNames[encoding]}, ${channels === 1 ? "mono" : `${channels} channels`}, ${sampleRate} Hz`;
}

function checkMagic(bytes: Uint8Array, name: string): void {
  if (bytes.length === 0) throw invalidAudio(name, "a WAV file", "an empty file");
  const magic = tag(bytes, 0);
  if (magic === "RIFX") throw invalidAudio(name, "a little-endian WAV file (RIFF)", "a big-endian one (RIFX)");
  if ((magic !== "RIFF" && magic !== "RF64" && magic !== "BW64") || tag(bytes, 8) !== "WAVE") {
    const got = Buffer.from(bytes.subarray(0, 12)).toString("latin1");
    throw invalidAudio(name, 'a WAV file ("RIFF" … "WAVE")', `a file that begins with ${JSON.stringify(got)}`);
  }
}

interface Chunks {
  /** Byte range of the fmt chunk. */
  readonly format: { readonly start: number; readonly length: number };
  /** Byte range of the data chunk, cut to the file, and the length its header claims. */
  readonly data: { readonly start: number; readonly length: number; readonly claimed: number };
  readonly factCount: number | undefined;
}

/** Walks the chunks; each step moves on by at least 8 bytes, so any file ends the walk. */
function findChunks(bytes: Uint8Array, view: DataView, name: string): Chunks {
  const riffLength = view.getUint32(4, true);
  const isStream = riffLength === 0 || riffLength >= streamingLength;
  let format: Chunks["format"] | undefined;
  let data: Chunks["data"] | undefined;
  let factCount: number | undefined;
  let longDataLength: number | undefined;

  for (let at = 12; at + 8 <= bytes.length && !(format && data); ) {
    const id = tag(bytes, at);
    const start = at + 8;
    const left = bytes.length - start;
    let claimed = view.getUint32(at + 4, true);

    if (id === "ds64" && Math.min(claimed, left) >= 16) longDataLength = Number(view.getBigUint64(start + 8, true));
    if (id === "fact" && Math.min(claimed, left) >= 4) factCount = view.getUint32(start, true);
    if (id === "fmt ") {
      if (claimed > left) throw invalidAudio(name, `a fmt chunk of ${claimed} bytes`, `${left} bytes`);
      format ??= { start, length: claimed };
    }
    if (id === "data") {
      if (claimed === 0xffffffff && longDataLength !== undefined) claimed = longDataLength;
      else if (claimed >= streamingLength || (claimed === 0 && isStream)) claimed = left;
      data ??= { start, length: Math.min(claimed, left), claimed };
    }
    at = nextChunk(bytes, start + claimed, claimed);
  }

  if (!format) throw invalidAudio(name, "a fmt chunk", "none");
  if (!data) throw invalidAudio(name, "a data chunk", "none");
  return { format, data, factCount };
}

/** Chunks are padded to even lengths, but some writers forget the padding before the two chunks that matter. */
function nextChunk(bytes: Uint8Array, end: number, length: number): number {
  if (length % 2 === 0) return end;
  const unpadded = end + 4 <= bytes.length ? tag(bytes, end) : "";
  return unpadded === "data" || unpadded === "fmt " ? end : end + 1;
}

function parseFormat(
  view: DataView,
  { start, length }: Chunks["format"],
  name: string,
): { sampleRate: number; layout: SampleLayout } {
  if (length < 16) throw invalidAudio(name, "a fmt chunk of at least 16 bytes", String(length));
  let formatTag = view.getUint16(start, true);
  const channels = view.getUint16(start + 2, true);
  const sampleRate = view.getUint32(start + 4, true);
  const blockBytes = view.getUint16(start + 12, true);
  const bitsPerSample = view.getUint16(start + 14, true);

  if (formatTag === extensibleTag) {
    if (length < 40) throw invalidAudio(name, "an extensible fmt chunk of at least 40 bytes", String(length));
    const guid = Buffer.from(view.buffer, view.byteOffset + start + 24, 16);
    if (guid.toString("hex", 2) !== extensibleTail) {
      throw invalidAudio(name, "a known subformat", guid.toString("hex"));
    }
    formatTag = guid.readUInt16LE(0);
  }
  const encoding = formatTags[formatTag];
  if (encoding === undefined) {
    throw invalidAudio(name, "PCM, float, A-law, µ-law or IMA ADPCM samples", `format tag ${formatTag}`);
  }
  if (channels === 0) throw invalidAudio(name, "at least one channel", "0");
  if (sampleRate < minSampleRate || sampleRate > maxSampleRate) {
    throw invalidAudio(name, `a sample rate of ${minSampleRate} to ${maxSampleRate} Hz`, String(sampleRate));
  }

  const layout = { encoding, channels, bitsPerSample, blockBytes };
  checkLayout(layout, name);
  if (encoding === "ima-adpcm" && length >= 20) {
    const stated = view.getUint16(start + 18, true);
    const expected = adpcmSamplesPerBlock(layout);
    if (stated !== expected) throw invalidAudio(name, `${expected} samples in an ADPCM block`, String(stated));
  }
  return { sampleRate, layout };
}

/** The bytes of a block must hold the samples that the other fields speak of. */
function checkLayout(layout: SampleLayout, name: string): void {
  const { encoding, channels, bitsPerSample, blockBytes } = layout;
  const got = `${bitsPerSample} bits, ${channels} channels, ${blockBytes} bytes a block`;
  if (encoding === "ima-adpcm") {
    // A block is a 4-byte header and then 4 bytes of 8 samples at a time, for each channel.
    const ok = bitsPerSample === 4 && blockBytes % (4 * channels) === 0 && blockBytes >= 8 * channels;
    if (!ok) throw invalidAudio(name, "4-bit ADPCM in blocks of a multiple of 4 bytes a channel", got);
    return;
  }
  const bytesPerSample = blockBytes / channels;
  const sizes = { pcm: [1, 2, 3, 4], float: [4, 8], "a-law": [1], "mu-law": [1] }[encoding];
  const ok = sizes.includes(bytesPerSample) && bitsPerSample >= 1 && bitsPerSample <= 8 * bytesPerSample;
  // Narrower integers may lie in wider containers (24 bits in 32); floats and companded samples fill theirs.
  if (!ok || (encoding !== "pcm" && bitsPerSample !== 8 * bytesPerSample)) {
    throw invalidAudio(name, `${encoding} samples of ${sizes.map((size) => size * 8).join(", ")} bits`, got);
  }
}

function countFrames(layout: SampleLayout, dataBytes: number): number {
  if (layout.encoding === "ima-adpcm") return adpcmSampleCount(layout, dataBytes);
  return Math.floor(dataBytes / layout.blockBytes);
}

function finite(sample: number, wav: Wav, index: number): number {
  const value = Math.fround(sample);
  if (!Number.isFinite(value)) throw invalidAudio(wav.name, "finite samples", `${sample} at sample ${index}`);
  return value;
}

function invalidAudio(name: string, expected: string, got: string): RvqError {
  return new RvqError("INVALID_AUDIO", `${name}: expected ${expected}, got ${got}`);
}

function tag(bytes: Uint8Array, at: number): string {
  return String.fromCharCode(...bytes.subarray(at, at + 4));
}
