// The loops of packing in TypeScript: codes into 32-bit words from the lowest bit up, and back, with a look at every code's range.

import type { CodeArray } from "./backend.js";
import { groupStart, type PackGroup } from "./pack-layout.js";

/** Packs codes group by group, the groups over and over, into words, which hold all of them. Whether all codes are below their sizes. */
export function packWords(codes: CodeArray, groups: readonly PackGroup[], words: Int32Array): boolean {
  if (groups.some(({ sizes }) => sizes.length > 1)) return packNumbers(codes, groups, words);
  const sizes = groups.map((group) => group.sizes[0]);
  const bits = groups.map((group) => group.bits);
  return codes instanceof Uint16Array && sizes.every((size) => size === sizes[0])
    ? packAlike(codes, sizes[0], bits[0], words)
    : packEach(codes, sizes, bits, words);
}

/** What unpacking found: all in order, codes that are not below their sizes, or none of these but a bit that is set after the last code. */
export type Unpacked = "whole" | "range" | "padding";

/** The inverse. After "range" some codes are written and some are not. */
export function unpackWords(words: Int32Array, groups: readonly PackGroup[], codes: CodeArray): Unpacked {
  if (groups.some(({ sizes }) => sizes.length > 1)) return unpackNumbers(words, groups, codes);
  const sizes = groups.map((group) => group.sizes[0]);
  const bits = groups.map((group) => group.bits);
  return codes instanceof Uint16Array && sizes.every((size) => size === sizes[0])
    ? unpackAlike(words, sizes[0], bits[0], codes)
    : unpackEach(words, sizes, bits, codes);
}

function packEach(codes: CodeArray, sizes: readonly number[], bits: readonly number[], words: Int32Array): boolean {
  const period = sizes.length;
  let word = 0;
  let fill = 0;
  let next = 0;
  for (let start = 0; start < codes.length; start += period) {
    for (let i = 0; i < period; i++) {
      const code = codes[start + i];
      if (code >= sizes[i]) return false;
      word |= code << fill;
      fill += bits[i];
      if (fill < 32) continue;
      words[next++] = word;
      fill -= 32;
      word = code >>> (bits[i] - fill);
    }
  }
  if (fill > 0) words[next] = word;
  return true;
}

function unpackEach(words: Int32Array, sizes: readonly number[], bits: readonly number[], codes: CodeArray): Unpacked {
  const period = sizes.length;
  let word = 0;
  let left = 0;
  let next = 0;
  for (let start = 0; start < codes.length; start += period) {
    for (let i = 0; i < period; i++) {
      const width = bits[i];
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
      codes[start + i] = code;
      if (code >= sizes[i]) return "range";
    }
  }
  return word === 0 ? "whole" : "padding";
}

// 16-bit codes that are all alike: a third faster without an index of sizes and with one type of array.

function packAlike(codes: Uint16Array, size: number, bits: number, words: Int32Array): boolean {
  let word = 0;
  let fill = 0;
  let next = 0;
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i];
    if (code >= size) return false;
    word |= code << fill;
    fill += bits;
    if (fill < 32) continue;
    words[next++] = word;
    fill -= 32;
    word = code >>> (bits - fill);
  }
  if (fill > 0) words[next] = word;
  return true;
}

function unpackAlike(words: Int32Array, size: number, bits: number, codes: Uint16Array): Unpacked {
  const mask = (1 << bits) - 1;
  let word = 0;
  let left = 0;
  let next = 0;
  for (let i = 0; i < codes.length; i++) {
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
    codes[i] = code;
    if (code >= size) return "range";
  }
  return word === 0 ? "whole" : "padding";
}

// Groups of several codes: numbers below 2^52, which float64 holds and divides exactly.

const word32 = 2 ** 32;

function packNumbers(codes: CodeArray, groups: readonly PackGroup[], words: Int32Array): boolean {
  let word = 0;
  let fill = 0;
  let next = 0;
  /** The lowest `width` ≤ 32 bits. */
  const put = (value: number, width: number): void => {
    word |= value << fill;
    fill += width;
    if (fill < 32) return;
    words[next++] = word;
    fill -= 32;
    word = fill === 0 ? 0 : value >>> (width - fill);
  };
  for (let start = 0, g = 0; start < codes.length; g = (g + 1) % groups.length) {
    const { sizes, bits } = startThatFits(groups[g], codes.length - start);
    let number = 0;
    for (let i = sizes.length - 1; i >= 0; i--) {
      const code = codes[start + i];
      if (code >= sizes[i]) return false;
      number = number * sizes[i] + code;
    }
    put(number >>> 0, Math.min(bits, 32));
    if (bits > 32) put(Math.floor(number / word32), bits - 32);
    start += sizes.length;
  }
  if (fill > 0) words[next] = word;
  return true;
}

function unpackNumbers(words: Int32Array, groups: readonly PackGroup[], codes: CodeArray): Unpacked {
  let word = 0;
  let left = 0;
  let next = 0;
  /** The next `width` ≤ 32 bits. */
  const take = (width: number): number => {
    let value = word;
    if (left >= width) {
      word = width === 32 ? 0 : word >>> width;
      left -= width;
    } else {
      const following = words[next++];
      value |= following << left;
      const taken = width - left;
      word = taken === 32 ? 0 : following >>> taken;
      left = 32 - taken;
    }
    return width === 32 ? value >>> 0 : value & ((1 << width) - 1);
  };
  for (let start = 0, g = 0; start < codes.length; g = (g + 1) % groups.length) {
    const { sizes, bits } = startThatFits(groups[g], codes.length - start);
    let number = take(Math.min(bits, 32));
    if (bits > 32) number += word32 * take(bits - 32);
    const last = sizes.length - 1;
    for (let i = 0; i < last; i++) {
      const quotient = Math.floor(number / sizes[i]);
      codes[start + i] = number - quotient * sizes[i];
      number = quotient;
    }
    if (number >= sizes[last]) return "range";
    codes[start + last] = number;
    start += sizes.length;
  }
  return word === 0 ? "whole" : "padding";
}

function startThatFits(group: PackGroup, codes: number): PackGroup {
  return group.sizes.length <= codes ? group : groupStart(group, codes);
}
