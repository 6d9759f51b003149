// rvqBytes: the bytes of a `.rvq` file in pieces, from codes in pieces, with turns for the event loop in between.

import { invalidArgument } from "../errors.js";
import { runInSlices } from "../time-slice.js";
import { headerOf, type RvqOptions, StreamEncoder, type WritableCodes } from "./stream-encoder.js";

export interface RvqBytesOptions extends RvqOptions {
  /** A JSON object to end the file with, or what gives it once all codes have come. */
  readonly summary?: Readonly<Record<string, unknown>> | (() => Readonly<Record<string, unknown>>);
}

/**
 * The bytes of a `.rvq` file: its header, its chunks as they are full, its index. How the codes are cut has no effect on them.
 * `writeFileAtomic(path, rvqBytes(codes, …))` writes a file whole or not at all.
 * @throws RvqError INVALID_ARGUMENT, CODE_OUT_OF_RANGE
 */
export async function* rvqBytes(
  codes: Iterable<WritableCodes> | AsyncIterable<WritableCodes>,
  options: RvqBytesOptions,
): AsyncGenerator<Uint8Array, void, undefined> {
  checkPieces(codes);
  const encoder = new StreamEncoder(headerOf(options), options);
  yield encoder.headerBytes;
  for await (const some of codes) yield* await runInSlices(encoder.push(some));
  const last = await runInSlices(encoder.flush());
  if (last !== null) yield last;
  const { summary = {} } = options;
  yield encoder.end(typeof summary === "function" ? summary() : summary);
}

function checkPieces(codes: unknown): void {
  if (typeof codes === "object" && codes !== null && (Symbol.asyncIterator in codes || Symbol.iterator in codes))
    return;
  throw invalidArgument("codes", "an iterable of { count, stages, data }, such as an array of them", codes);
}
