// Turning a WAV data chunk's bytes into numbers: integers, floats, G.711 companding and IMA ADPCM.

/** How samples lie in the data chunk; channels are interleaved. */
export interface SampleLayout {
  readonly encoding: "pcm" | "float" | "a-law" | "mu-law" | "ima-adpcm";
  readonly channels: number;
  readonly bitsPerSample: number;
  /** Bytes of one sample of every channel; with ADPCM, of one compressed block. */
  readonly blockBytes: number;
}

/** The sample of `channel` in sample frame `index`, full scale ±1. Calls come in increasing index. */
export type SampleReader = (index: number, channel: number) => number;

/** Reads samples of data, whose length and layout `parseWav` has checked. */
export function sampleReader(layout: SampleLayout, data: Uint8Array): SampleReader {
  if (layout.encoding === "ima-adpcm") return adpcmReader(layout, data);
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const bytes = layout.blockBytes / layout.channels;
  const read = plainReader(layout.encoding, bytes, view);
  return (index, channel) => read(index * layout.blockBytes + channel * bytes);
}

/** Each channel's block is a 4-byte header with the first sample, then two samples a byte. */
export function adpcmSamplesPerBlock({ blockBytes, channels }: SampleLayout): number {
  return (blockBytes / channels - 4) * 2 + 1;
}

/** Samples in whole blocks and in a last block that was cut after a group of eight. */
export function adpcmSampleCount(layout: SampleLayout, dataBytes: number): number {
  const { blockBytes, channels } = layout;
  const blocks = Math.floor(dataBytes / blockBytes);
  const lastGroups = Math.floor((dataBytes - blocks * blockBytes) / (4 * channels));
  return blocks * adpcmSamplesPerBlock(layout) + (lastGroups === 0 ? 0 : (lastGroups - 1) * 8 + 1);
}

function plainReader(encoding: SampleLayout["encoding"], bytes: number, view: DataView): (at: number) => number {
  if (encoding === "a-law") return (at) => aLawToLinear(view.getUint8(at)) / 32768;
  if (encoding === "mu-law") return (at) => muLawToLinear(view.getUint8(at)) / 32768;
  if (encoding === "float") {
    return bytes === 4 ? (at) => view.getFloat32(at, true) : (at) => view.getFloat64(at, true);
  }
  switch (bytes) {
    case 1: // the one integer format that is unsigned
      return (at) => (view.getUint8(at) - 128) / 128;
    case 2:
      return (at) => view.getInt16(at, true) / 32768;
    case 3:
      return (at) => (view.getUint16(at, true) + view.getInt8(at + 2) * 65536) / 8388608;
    default:
      return (at) => view.getInt32(at, true) / 2147483648;
  }
}

/** ITU-T G.711, table 1: sign, 3 bits of exponent, 4 of mantissa, every other bit inverted; 13 bits, to the left of 16. */
function aLawToLinear(byte: number): number {
  const bits = byte ^ 0x55;
  const exponent = (bits >> 4) & 7;
  const mantissa = ((bits & 15) << 4) + 8;
  const magnitude = exponent === 0 ? mantissa : (mantissa + 256) << (exponent - 1);
  return bits & 0x80 ? magnitude : -magnitude;
}

/** ITU-T G.711, table 2: all bits inverted, a bias of 33 (in 14 bits). 14 bits, to the left of 16. */
function muLawToLinear(byte: number): number {
  const bits = ~byte;
  const exponent = (bits >> 4) & 7;
  const magnitude = ((((bits & 15) << 3) + 132) << exponent) - 132;
  return bits & 0x80 ? -magnitude : magnitude;
}

/** Step sizes of the IMA ADPCM recommendation: each about 1.1 times the one before. */
const adpcmSteps = Int16Array.of(
  ...[7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 19, 21, 23, 25, 28, 31, 34, 37, 41, 45, 50, 55, 60, 66, 73, 80, 88, 97],
  ...[107, 118, 130, 143, 157, 173, 190, 209, 230, 253, 279, 307, 337, 371, 408, 449, 494, 544, 598, 658, 724, 796],
  ...[876, 963, 1060, 1166, 1282, 1411, 1552, 1707, 1878, 2066, 2272, 2499, 2749, 3024, 3327, 3660, 4026, 4428, 4871],
  ...[5358, 5894, 6484, 7132, 7845, 8630, 9493, 10442, 11487, 12635, 13899, 15289, 16818, 18500, 20350, 22385, 24623],
  ...[27086, 29794, 32767],
);
const adpcmIndexSteps = Int8Array.of(-1, -1, -1, -1, 2, 4, 6, 8);

/** Decodes one block at a time and keeps it for the reads that follow. */
function adpcmReader(layout: SampleLayout, data: Uint8Array): SampleReader {
  const { blockBytes, channels } = layout;
  const perBlock = adpcmSamplesPerBlock(layout);
  const samples = new Float64Array(perBlock * channels);
  let current = -1;
  return (index, channel) => {
    const block = Math.floor(index / perBlock);
    if (block !== current) {
      for (let c = 0; c < channels; c++) {
        decodeAdpcmChannel(data.subarray(block * blockBytes, (block + 1) * blockBytes), c, channels, samples);
      }
      current = block;
    }
    return samples[(index - block * perBlock) * channels + channel];
  };
}

/** samples[perBlock][channels], column `channel`. After the headers, channels take turns of 4 bytes (8 samples). */
function decodeAdpcmChannel(block: Uint8Array, channel: number, channels: number, samples: Float64Array): void {
  const header = channel * 4;
  let predicted = ((block[header] | (block[header + 1] << 8)) << 16) >> 16;
  let stepIndex = Math.min(88, block[header + 2]);
  samples[channel] = predicted / 32768;

  const nibbles = (Math.floor(block.length / (4 * channels)) - 1) * 8;
  for (let i = 0; i < nibbles; i++) {
    const at = 4 * channels + Math.floor(i / 8) * 4 * channels + channel * 4 + ((i % 8) >> 1);
    const nibble = i % 2 === 0 ? block[at] & 15 : block[at] >> 4;
    const step = adpcmSteps[stepIndex];
    let difference = step >> 3;
    if (nibble & 1) difference += step >> 2;
    if (nibble & 2) difference += step >> 1;
    if (nibble & 4) difference += step;
    predicted = Math.max(-32768, Math.min(32767, nibble & 8 ? predicted - difference : predicted + difference));
    stepIndex = Math.max(0, Math.min(88, stepIndex + adpcmIndexSteps[nibble & 7]));
    samples[(i + 1) * channels + channel] = predicted / 32768;
  }
}
