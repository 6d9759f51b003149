// Streams: vectors to codes to bytes and back, as async generators that Node's pipelines take, and as Web streams.

import { Duplex } from "node:stream";
import { type RvqBytesOptions, rvqBytes } from "./bitstream/byte-pieces.js";
import type { Frames } from "./bitstream/chunk.js";
import { type UnpackOptions, unpackBytes } from "./bitstream/stream-decoder.js";
import type { WritableCodes } from "./bitstream/stream-encoder.js";
import { type Codes, checkFloat32, checkFunction, checkIterable, checkOptions, checkRequiredOptions } from "./check.js";
import { invalidArgument } from "./errors.js";
import type { CallOptions } from "./quantizer-options.js";

/** One step of a pipeline. It takes the next item only when the next result is asked for: that is all the back-pressure there is. */
export type StreamStep<In, Out> = (source: AsyncIterable<In> | Iterable<In>) => AsyncGenerator<Out, void, undefined>;

export type StreamCallOptions = Pick<CallOptions, "stages" | "signal">;

/** What streams need of a ResidualQuantizer, or of a quantizer of another class. */
export interface StreamQuantizer {
  readonly dim: number;
  encode(vectors: Float32Array, options: StreamCallOptions): Promise<Codes>;
  decode(codes: WritableCodes, options: StreamCallOptions): Promise<Float32Array>;
}

/** Vectors to codes. Pieces need not hold whole vectors; how they are cut has no effect on the codes. */
export function encodeStream(
  quantizer: StreamQuantizer,
  options: StreamCallOptions = {},
): StreamStep<Float32Array, Codes> {
  checkRequiredOptions("quantizer", quantizer);
  checkOptions("options", options);
  const { dim } = quantizer;
  return async function* encode(source) {
    checkIterable("source", source);
    let rest = new Float32Array(0);
    for await (const piece of source) {
      const plain = checkFloat32("vectors", piece);
      const vectors = new Float32Array(rest.length + plain.length);
      vectors.set(rest);
      vectors.set(plain, rest.length);
      const whole = vectors.length - (vectors.length % dim);
      rest = vectors.slice(whole);
      if (whole > 0) yield await quantizer.encode(vectors.subarray(0, whole), options);
    }
    if (rest.length > 0)
      throw invalidArgument("vectors", `whole vectors of dim ${dim} in all`, `${rest.length} elements over`);
  };
}

/** Codes to reconstructions, from the first `options.stages` stages or as many as the codes have. */
export function decodeStream(
  quantizer: StreamQuantizer,
  options: StreamCallOptions = {},
): StreamStep<WritableCodes, Float32Array> {
  checkRequiredOptions("quantizer", quantizer);
  checkOptions("options", options);
  const { stages, signal } = options;
  return async function* decode(source) {
    checkIterable("source", source);
    for await (const codes of source) yield await quantizer.decode(codes, { stages, signal });
  };
}

/** Codes to the bytes of a `.rvq` file. */
export function packStream(options: RvqBytesOptions): StreamStep<WritableCodes, Uint8Array> {
  return (source) => rvqBytes(source, options);
}

/** The bytes of a `.rvq` file to codes. */
export function unpackStream(options: UnpackOptions = {}): StreamStep<Uint8Array, Frames> {
  return (source) => unpackBytes(source, options);
}

/** A step as the pair that `readable.pipeThrough` takes. The streams are the global ones, which with TypeScript's `DOM` are of its types. */
export function asTransformStream<In, Out>(
  step: StreamStep<In, Out>,
): { readonly writable: WritableStream<In>; readonly readable: ReadableStream<Out> } {
  checkFunction("step", step ?? null);
  const { writable, readable: input } = new TransformStream<In, In>();
  const reader = input.getReader();
  const results = step(itemsOf(reader));
  if (typeof results?.next !== "function") throw invalidArgument("step", "a function to an async generator", step);
  const readable = new ReadableStream<Out>(
    {
      async pull(controller) {
        try {
          const { done, value } = await results.next();
          if (!done) return controller.enqueue(value);
          controller.close();
          // Where the step had enough before the end, the writer is told.
          await reader.cancel();
        } catch (error) {
          await reader.cancel(error);
          throw error;
        }
      },
      async cancel(reason) {
        // First: the step may be waiting for an item.
        await reader.cancel(reason);
        await results.return();
      },
    },
    { highWaterMark: 0 },
  );
  return { writable, readable };
}

/** Without a `return`: whoever ends the stream says why. */
function itemsOf<Item>(reader: ReadableStreamDefaultReader<Item>): AsyncIterable<Item> {
  const next = async (): Promise<IteratorResult<Item, undefined>> => {
    const { done, value } = await reader.read();
    return done ? { done, value: undefined } : { done: false, value };
  };
  return { [Symbol.asyncIterator]: () => ({ next }) };
}

/** A step as a Node stream in object mode; `stream.pipeline` takes the step itself too. */
export function asDuplex<In, Out>(step: StreamStep<In, Out>): Duplex {
  checkFunction("step", step ?? null);
  return Duplex.from(async function* run(source: AsyncIterable<In>) {
    yield* step(source);
  });
}
