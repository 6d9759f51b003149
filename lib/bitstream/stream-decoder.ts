// Reads a `.rvq` file from its first byte to its last as they come, with no more of it in memory than one chunk.

import { checkBytes, checkFunction, checkInteger, checkOptions } from "../check.js";
import { RvqError } from "../errors.js";
import { packedSizeBytes } from "../pack-layout.js";
import { chunkHeaderFromBytes, chunkHeaderLength, type Frames, fixedChunkBytes } from "./chunk.js";
import { indexFromBytes, indexLengthAtStart } from "./index-block.js";
import { type ChunkedFile, readChunk } from "./read-chunk.js";
import { fixedHeaderBytes, headerFromBytes, headerLength, headerTag, type StreamHeader } from "./stream-header.js";

export interface UnpackOptions {
  /** Hand out the first so many stages; default: all. */
  readonly stages?: number;
  /** Called with the header before any codes come: check its modelId here. What it throws ends the stream. */
  readonly onHeader?: (header: StreamHeader) => void;
  /** Called with the summary once all codes have come. */
  readonly onSummary?: (summary: Readonly<Record<string, unknown>>) => void;
}

type Bytes = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/**
 * The codes of a `.rvq` file from its bytes, chunk by chunk. How the bytes are cut has no effect on the codes. Nothing damaged is handed
 * out, and a stream that ends before its index is an error; `RvqReader` gets more out of damaged files.
 * @throws RvqError INVALID_STREAM, INVALID_ARGUMENT
 */
export async function* unpackBytes(bytes: Bytes, options: UnpackOptions = {}): AsyncGenerator<Frames, void, undefined> {
  checkOptions("options", options);
  checkFunction("onHeader", options.onHeader);
  checkFunction("onSummary", options.onSummary);
  const input = new Input(bytes);
  try {
    const length = headerLength("stream", await input.peek(fixedHeaderBytes));
    const headerBytes = await input.take(length);
    const header = headerFromBytes("stream", headerBytes);
    const stages = checkInteger(
      "stages",
      options.stages ?? header.codebookSizes.length,
      1,
      header.codebookSizes.length,
    );
    options.onHeader?.(header);

    let frames = 0;
    for (;;) {
      const indexLength = indexLengthAtStart(await input.peek(8));
      if (indexLength !== null) {
        const index = indexFromBytes("stream", await input.take(indexLength), input.position - indexLength);
        const expected = index.chunks.reduce((sum, chunk) => sum + chunk.frames, 0);
        if (expected !== frames) throw damaged(`${expected} frames, as the index says`, String(frames));
        await input.end();
        options.onSummary?.(index.summary);
        return;
      }
      const chunk = await nextChunk(input, header, headerTag(headerBytes), frames, stages);
      frames += chunk.count;
      yield chunk;
    }
  } finally {
    await input.close();
  }
}

async function nextChunk(
  input: Input,
  header: StreamHeader,
  tag: number,
  firstFrame: number,
  stages: number,
): Promise<Frames> {
  const { codebookSizes } = header;
  const what = `the chunk of frame ${firstFrame}`;
  const length = chunkHeaderLength(await input.peek(fixedChunkBytes), codebookSizes.length, tag);
  const chunk = length === null ? null : chunkHeaderFromBytes(await input.peek(length));
  if (chunk === null || chunk.firstFrame !== firstFrame) throw damaged(what, `damage at byte ${input.position}`);
  const sizes = [...(chunk.mostStages > 0 ? [chunk.mostStages + 1] : []), ...codebookSizes];
  // What is waited for, and held, is no more than packed codes take.
  if (chunk.sections.some((section, i) => section.length > packedSizeBytes(chunk.frames, [sizes[i]]))) {
    throw damaged(what, "sections that are longer than packed");
  }
  const bytes = await input.take(chunk.sizeBytes);
  const read = async (offset: number, count: number) => bytes.subarray(offset, offset + count);
  const file: ChunkedFile = { source: { sizeBytes: bytes.length, read }, header, tag };
  const { frames, damage } = await readChunk(file, 0, chunk, stages);
  if (frames === null || damage !== null) throw damaged(what, String(damage));
  return frames;
}

/** Bytes that come in pieces, handed out in the lengths that are asked for. */
class Input {
  /** Bytes taken so far. */
  position = 0;
  private readonly source: AsyncIterator<Uint8Array> | Iterator<Uint8Array>;
  private pieces: Uint8Array[] = [];
  private available = 0;

  constructor(bytes: Bytes) {
    this.source = Symbol.asyncIterator in bytes ? bytes[Symbol.asyncIterator]() : bytes[Symbol.iterator]();
  }

  /** The next `length` bytes, which stay there. */
  async peek(length: number): Promise<Uint8Array> {
    while (this.available < length) {
      const { done, value } = await this.source.next();
      if (done) throw damaged(`an index at the end, at byte ${this.position} or later`, "the end of the stream");
      const piece = checkBytes("bytes", value);
      this.pieces.push(piece);
      this.available += piece.length;
    }
    if (this.pieces.length > 1) this.pieces = [new Uint8Array(Buffer.concat(this.pieces))];
    return this.pieces[0].subarray(0, length);
  }

  async take(length: number): Promise<Uint8Array> {
    const bytes = await this.peek(length);
    this.pieces = [this.pieces[0].subarray(length)];
    this.available -= length;
    this.position += length;
    return bytes;
  }

  /** Takes the end of the stream: a pipeline waits until it is taken. */
  async end(): Promise<void> {
    for (let extra = this.available; ; ) {
      if (extra > 0) throw damaged(`the end of the stream at byte ${this.position}`, "more bytes");
      const { done, value } = await this.source.next();
      if (done) return;
      extra = checkBytes("bytes", value).length;
    }
  }

  async close(): Promise<void> {
    await this.source.return?.();
  }
}

function damaged(expected: string, got: string): RvqError {
  return new RvqError("INVALID_STREAM", `stream: expected ${expected}, got ${got}`);
}
