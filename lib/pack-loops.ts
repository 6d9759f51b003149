// The loops of packing: codes into 32-bit words from the lowest bit up, and back, with a look at every code's range.

import type { CodeArray } from "./backend.js";

/**
 * Packs data[rows][stages] at bits[stage] ≤ 24 bits each into words, which hold all of them. The index of the first code that is not
 * below sizes[stage], or −1.
 */
export function packWords(
  data: CodeArray,
  sizes: readonly number[],
  bits: readonly number[],
  words: Int32Array,
): number {
  const [size, width] = uniform(sizes, bits);
  if (width > 0)
    return data instanceof Uint16Array ? packAlike16(data, size, width, words) : packAlike32(data, size, width, words);
  const stages = sizes.length;
  let word = 0;
  let fill = 0;
  let next = 0;
  for (let start = 0; start < data.length; start += stages) {
    for (let stage = 0; stage < stages; stage++) {
      const code = data[start + stage];
      if (code >= sizes[stage]) return start + stage;
      word |= code << fill;
      fill += bits[stage];
      if (fill < 32) continue;
      words[next++] = word;
      fill -= 32;
      word = code >>> (bits[stage] - fill);
    }
  }
  if (fill > 0) words[next] = word;
  return -1;
}

/** The inverse; the first code out of range is written too. −2: all are in range, but a bit after the last code is set. */
export function unpackWords(
  words: Int32Array,
  sizes: readonly number[],
  bits: readonly number[],
  data: CodeArray,
): number {
  const [size, width] = uniform(sizes, bits);
  if (width > 0) {
    return data instanceof Uint16Array
      ? unpackAlike16(words, size, width, data)
      : unpackAlike32(words, size, width, data);
  }
  const stages = sizes.length;
  let word = 0;
  let left = 0;
  let next = 0;
  for (let start = 0; start < data.length; start += stages) {
    for (let stage = 0; stage < stages; stage++) {
      const width = bits[stage];
      let code = word;
      if (left >= width) {
        word >>>= width;
        left -= width;
      } else {
        const following = words[next++];
        code |= following << left;
        word = following >>> (width - left);
        left += 32 - width;
      }
      code &= (1 << width) - 1;
      data[start + stage] = code;
      if (code >= sizes[stage]) return start + stage;
    }
  }
  return word === 0 ? -1 : -2;
}

/** The size and bits that all stages have; zeros where they differ. */
function uniform(sizes: readonly number[], bits: readonly number[]): [size: number, bits: number] {
  return sizes.every((size) => size === sizes[0]) ? [sizes[0], bits[0]] : [0, 0];
}

// Stages that are all alike are one row of codes: a loop without an index of stages is a third faster. A copy of it for each type of
// array keeps the compiler from having to ask which one it is.

function packAlike16(data: Uint16Array, size: number, bits: number, words: Int32Array): number {
  let word = 0;
  let fill = 0;
  let next = 0;
  for (let i = 0; i < data.length; i++) {
    const code = data[i];
    if (code >= size) return i;
    word |= code << fill;
    fill += bits;
    if (fill < 32) continue;
    words[next++] = word;
    fill -= 32;
    word = code >>> (bits - fill);
  }
  if (fill > 0) words[next] = word;
  return -1;
}

function packAlike32(data: Uint32Array, size: number, bits: number, words: Int32Array): number {
  let word = 0;
  let fill = 0;
  let next = 0;
  for (let i = 0; i < data.length; i++) {
    const code = data[i];
    if (code >= size) return i;
    word |= code << fill;
    fill += bits;
    if (fill < 32) continue;
    words[next++] = word;
    fill -= 32;
    word = code >>> (bits - fill);
  }
  if (fill > 0) words[next] = word;
  return -1;
}

function unpackAlike16(words: Int32Array, size: number, bits: number, data: Uint16Array): number {
  const mask = (1 << bits) - 1;
  let word = 0;
  let left = 0;
  let next = 0;
  for (let i = 0; i < data.length; i++) {
    let code = word;
    if (left >= bits) {
      word >>>= bits;
      left -= bits;
    } else {
      const following = words[next++];
      code |= following << left;
      word = following >>> (bits - left);
      left += 32 - bits;
    }
    code &= mask;
    data[i] = code;
    if (code >= size) return i;
  }
  return word === 0 ? -1 : -2;
}

function unpackAlike32(words: Int32Array, size: number, bits: number, data: Uint32Array): number {
  const mask = (1 << bits) - 1;
  let word = 0;
  let left = 0;
  let next = 0;
  for (let i = 0; i < data.length; i++) {
    let code = word;
    if (left >= bits) {
      word >>>= bits;
      left -= bits;
    } else {
      const following = words[next++];
      code |= following << left;
      word = following >>> (bits - left);
      left += 32 - bits;
    }
    code &= mask;
    data[i] = code;
    if (code >= size) return i;
  }
  return word === 0 ? -1 : -2;
}
