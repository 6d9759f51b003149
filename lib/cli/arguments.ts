// Parsers of numbers on the command line: a mistake in one should not cost an hour of reading files first.

import { InvalidArgumentError } from "commander";
import { isHop, maxHop } from "../audio/mdct.js";
import { maxSampleRate, minSampleRate } from "../audio/wav.js";
import { limits } from "../check.js";

/** What the numbers on the command line may be. */
export const ranges = {
  // As many as any backend takes.
  threads: [1, 1024],
  device: [0, 1023],
  // One codeword carries no information; more than 16 bits a codebook want more frames than there is speech.
  codewords: [2, 65_536],
  stages: [1, limits.stages],
  beam: [1, limits.beam],
  iterations: [1, 1_000_000],
  epochs: [1, 1_000_000],
  batch: [1, 2 ** 24],
  steps: [1, Number.MAX_SAFE_INTEGER],
  seed: [0, Number.MAX_SAFE_INTEGER],
  rate: [minSampleRate, maxSampleRate],
  vectors: [1, 2 ** 24],
  // Printed, one line each.
  neighbours: [1, 1_000_000],
} as const;

export function integerIn([smallest, largest]: readonly [number, number]): (text: string) => number {
  return (text) => {
    const value = integerFrom(text);
    if (value >= smallest && value <= largest) return value;
    throw new InvalidArgumentError(`expected an integer from ${smallest} to ${largest}.`);
  };
}

export function evenHop(text: string): number {
  const value = integerFrom(text);
  if (isHop(value)) return value;
  throw new InvalidArgumentError(`expected an even integer from 2 to ${maxHop}.`);
}

export function positiveNumber(text: string): number {
  const value = numberFrom(text);
  if (value > 0 && value < Infinity) return value;
  throw new InvalidArgumentError("expected a positive number.");
}

export function fraction(text: string): number {
  const value = numberFrom(text);
  if (value >= 0 && value <= 1) return value;
  throw new InvalidArgumentError("expected a number from 0 to 1.");
}

/** NaN for anything but digits with at most one point in between. */
function numberFrom(text: string): number {
  return /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
}

/** NaN for anything but digits. */
function integerFrom(text: string): number {
  return /^\d+$/.test(text) ? Number(text) : Number.NaN;
}
