// Writing WAV files of one channel.

import { RvqError } from "../errors.js";

/** The file of one channel, samples[count] with full scale ±1; 16-bit samples are rounded and clamped, floats kept. */
export function encodeWav(
  samples: Float32Array,
  sampleRate: number,
  { format = "int16" }: { readonly format?: "int16" | "float32" } = {},
): Uint8Array {
  const bytesPerSample = format === "int16" ? 2 : 4;
  const dataBytes = samples.length * bytesPerSample;
  // A float file carries a fact chunk: 12 bytes more.
  const headerBytes = format === "int16" ? 44 : 56;
  if (headerBytes + dataBytes > 0xffffffff) {
    throw new RvqError("INVALID_AUDIO", `a WAV file holds at most 4 GiB, got ${samples.length} samples`);
  }
  const bytes = new Uint8Array(headerBytes + dataBytes);
  const view = new DataView(bytes.buffer);

  writeTag(bytes, 0, "RIFF");
  view.setUint32(4, bytes.length - 8, true);
  writeTag(bytes, 8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, format === "int16" ? 1 : 3, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, sampleRate, true);
  view.setUint32(28, sampleRate * bytesPerSample, true);
  view.setUint16(32, bytesPerSample, true);
  view.setUint16(34, bytesPerSample * 8, true);
  if (format === "float32") {
    writeTag(bytes, 36, "fact");
    view.setUint32(40, 4, true);
    view.setUint32(44, samples.length, true);
  }
  writeTag(bytes, headerBytes - 8, "data");
  view.setUint32(headerBytes - 4, dataBytes, true);

  for (let i = 0; i < samples.length; i++) {
    if (format === "float32") view.setFloat32(headerBytes + 4 * i, samples[i], true);
    else view.setInt16(headerBytes + 2 * i, toInt16(samples[i]), true);
  }
  return bytes;
}

/** Nearest 16-bit value. −1 is −32768; what lies beyond full scale is clamped. */
function toInt16(sample: number): number {
  return Math.max(-32768, Math.min(32767, Math.round(sample * 32768)));
}

function writeTag(bytes: Uint8Array, at: number, text: string): void {
  bytes.set(Buffer.from(text, "latin1"), at);
}
