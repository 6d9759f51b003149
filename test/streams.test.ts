// Streams give the codes and bytes of whole calls however their pieces are cut, take no more than is read, and pass errors on.

import { createReadStream, createWriteStream } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { ReadableStream } from "node:stream/web";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  asDuplex,
  asTransformStream,
  decodeStream,
  encodeStream,
  packStream,
  ResidualQuantizer,
  rvqToBytes,
  unpackStream,
} from "../lib/index.js";
import { Random } from "../lib/random.js";

const dim = 3;
const random = new Random(1);
const codebooks = [16, 9, 4].map((size) => Float32Array.from({ length: size * dim }, () => random.fraction() - 0.5));
const rq = ResidualQuantizer.fromCodebooks(codebooks, { dim, backend: "js" });
const vectors = Float32Array.from({ length: 200 * dim }, () => random.fraction() - 0.5);
const codes = rq.encodeSync(vectors);
const reconstruction = rq.decodeSync(codes);
const options = { modelId: rq.id, codebookSizes: rq.codebookSizes, chunkFrames: 32, summary: { end: 1 } };
const bytes = rvqToBytes(codes, options);

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "rvq-streams-"));
});
afterAll(() => rm(folder, { recursive: true }));

/** Pieces of an array, cut at the given places. */
function cut<Part extends Float32Array | Uint8Array>(whole: Part, places: readonly number[]): Part[] {
  const sorted = [0, ...places.map((place) => place % (whole.length + 1)).sort((a, b) => a - b), whole.length];
  return sorted.slice(1).map((to, i) => whole.slice(sorted[i], to) as Part);
}

async function collect<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const all: Item[] = [];
  for await (const item of items) all.push(item);
  return all;
}

describe("pieces", () => {
  const places = fc.array(fc.nat(), { maxLength: 12 });

  it("of vectors, cut anywhere, give the same codes and bytes", async () => {
    await fc.assert(
      fc.asyncProperty(places, async (at) => {
        const pieces = await collect(encodeStream(rq)(cut(vectors, at)));
        expect(pieces.flatMap(({ data }) => [...data])).toEqual([...codes.data]);
        expect(new Uint8Array(Buffer.concat(await collect(packStream(options)(pieces))))).toEqual(bytes);
      }),
      { seed: 1, numRuns: 50 },
    );
  });

  it("of bytes, cut anywhere, give the same codes, header and summary", async () => {
    await fc.assert(
      fc.asyncProperty(places, fc.integer({ min: 1, max: 3 }), async (at, stages) => {
        const seen: unknown[] = [];
        const unpack = unpackStream({ stages, onHeader: (h) => seen.push(h.modelId), onSummary: (s) => seen.push(s) });
        const frames = await collect(unpack(cut(bytes, at)));
        expect(frames.flatMap(({ data }) => [...data])).toEqual([...codes.data].filter((_, i) => i % 3 < stages));
        expect(seen).toEqual([rq.id, { end: 1 }]);
        const decoded = await collect(decodeStream(rq)(frames));
        expect(decoded.flatMap((part) => [...part])).toEqual([...rq.decodeSync(codes, { stages })]);
      }),
      { seed: 1, numRuns: 50 },
    );
  });

  it("that do not make whole vectors in the end are an error", async () => {
    const stream = encodeStream(rq)([vectors.subarray(0, 4), vectors.subarray(4, 8)]);
    await expect(collect(stream)).rejects.toThrow(
      /vectors: expected whole vectors of dim 3 in all, got "2 elements over"/,
    );
    await expect(collect(encodeStream(rq)([[1] as unknown as Float32Array]))).rejects.toThrow(
      /vectors: expected a Float32Array/,
    );
  });
});

describe("a damaged stream", () => {
  it("is an error wherever it is cut or changed, and yields no wrong codes before it", async () => {
    for (let length = 0; length < bytes.length; length += 3) {
      const frames: number[] = [];
      const read = async () => {
        for await (const { data } of unpackStream()([bytes.subarray(0, length)])) frames.push(...data);
      };
      await expect(read(), `cut at ${length}`).rejects.toMatchObject({ code: "INVALID_STREAM" });
      expect(frames).toEqual([...codes.data.subarray(0, frames.length)]);
      const flipped = bytes.slice();
      flipped[length] ^= 4;
      const found = await collect(unpackStream()([flipped])).catch((error) => error);
      if (Array.isArray(found)) expect(length).toBeGreaterThanOrEqual(bytes.length - 8);
      else expect(found).toMatchObject({ code: "INVALID_STREAM" });
    }
  });
});

describe("Node streams", () => {
  it("run from vectors to a file and back", async () => {
    const path = join(folder, "a.rvq");
    await pipeline(cut(vectors, [100, 101, 350]), encodeStream(rq), packStream(options), createWriteStream(path));
    expect(new Uint8Array(await readFile(path))).toEqual(bytes);
    const back: Float32Array[] = [];
    await pipeline(
      createReadStream(path, { highWaterMark: 50 }),
      asDuplex(unpackStream()),
      asDuplex(decodeStream(rq)),
      async (source: AsyncIterable<Float32Array>) => {
        for await (const part of source) back.push(part);
      },
    );
    expect(back.flatMap((part) => [...part])).toEqual([...reconstruction]);
  });

  it("pass an error on and stop the source", async () => {
    let destroyed = false;
    const source = new Readable({
      objectMode: true,
      read() {
        this.push(Float32Array.of(1, 2, Number.NaN));
      },
      destroy(_, done) {
        destroyed = true;
        done(null);
      },
    });
    const path = join(folder, "b.rvq");
    const running = pipeline(source, asDuplex(encodeStream(rq)), packStream(options), createWriteStream(path));
    await expect(running).rejects.toMatchObject({ code: "NOT_FINITE" });
    expect(destroyed).toBe(true);
  });
});

describe("Web streams", () => {
  const source = () => ReadableStream.from(cut(vectors, [50, 300, 301]));

  it("run from vectors to bytes and back", async () => {
    const packed = source()
      .pipeThrough(asTransformStream(encodeStream(rq)))
      .pipeThrough(asTransformStream(packStream(options)));
    const pieces = await collect(packed);
    expect(new Uint8Array(Buffer.concat(pieces))).toEqual(bytes);
    const back = ReadableStream.from(pieces)
      .pipeThrough(asTransformStream(unpackStream()))
      .pipeThrough(asTransformStream(decodeStream(rq)));
    expect((await collect(back)).flatMap((part) => [...part])).toEqual([...reconstruction]);
  });

  it("take no more than is read", async () => {
    let taken = 0;
    const endless = new ReadableStream<Float32Array>(
      {
        pull(controller) {
          taken++;
          controller.enqueue(vectors.slice(0, 30));
        },
      },
      { highWaterMark: 0 },
    );
    const stream = endless
      .pipeThrough(asTransformStream(encodeStream(rq)))
      .pipeThrough(asTransformStream(packStream(options)));
    const reader = stream.getReader();
    for (let i = 0; i < 4; i++) await reader.read();
    await new Promise((resolve) => setTimeout(resolve, 20));
    // A header and three chunks of 32 frames, 10 frames a piece, and what waits in between.
    expect(taken).toBeLessThanOrEqual(10 + 6);
    await reader.cancel();
    const before = taken;
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(taken).toBe(before);
  });

  it("pass errors on in both directions", async () => {
    const bad = ReadableStream.from([vectors.slice(0, 6), Float32Array.of(1, Number.NaN, 1)]);
    await expect(collect(bad.pipeThrough(asTransformStream(encodeStream(rq))))).rejects.toMatchObject({
      code: "NOT_FINITE",
    });

    const { writable, readable } = asTransformStream(encodeStream(rq));
    const writer = writable.getWriter();
    const failed = collect(readable).catch((error) => error.code);
    await writer.write(Float32Array.of(Number.NaN, 1, 1)).catch(() => {});
    expect(await failed).toBe("NOT_FINITE");
    await expect(writer.closed).rejects.toMatchObject({ code: "NOT_FINITE" });
  });
});
