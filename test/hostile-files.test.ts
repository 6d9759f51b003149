// Every parser of bytes from outside, fed with damaged and lying files: each answers with a value or an RvqError, soon, and never
// allocates much more than it was given.

import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseWav, wavToMono } from "../lib/audio/wav.js";
import {
  CodebookTrainer,
  codeTables,
  compressCodes,
  expandCodes,
  GroupedQuantizer,
  importCheckpoint,
  mergeRanges,
  ProjectedQuantizer,
  packCodes,
  quantizerFromBytes,
  ResidualQuantizer,
  RvqError,
  RvqReader,
  readEcdc,
  readNpy,
  rvqToBytes,
  Safetensors,
  Statistics,
  trimRvq,
  unpackCodes,
  unpackStream,
  vectorRange,
  writeEcdc,
  writeNpy,
  writeSafetensors,
} from "../lib/index.js";
import { Random } from "../lib/random.js";
import { codesOf } from "./bitstream-codes.js";

const seed = Number(process.env.RVQ_FUZZ_SEED ?? 1);
const scale = Number(process.env.RVQ_FUZZ_SCALE ?? 1);

/** Typed arrays that one parse may allocate beyond so many times its input: what a block of a `.rvq` file may hold (docs/format.md). */
const allocationCap = { times: 16, bytes: 2 ** 25 };
/** One parse; on a machine that is busy with other tests. */
const longestMs = 5000;

interface Parser {
  readonly name: string;
  readonly sample: Uint8Array;
  /** Reads all of it; throws what the parser throws. */
  readonly parse: (bytes: Uint8Array) => unknown;
  /** Makes checksums right again, so that what is behind them is reached too. */
  readonly repair?: (bytes: Buffer) => Buffer;
}

const resealed = (bytes: Buffer): Buffer => {
  const content = bytes.subarray(0, Math.max(0, bytes.length - 32));
  return Buffer.concat([content, createHash("sha256").update(content).digest()]);
};

const making = makeParsers();
const names = [
  ...["a model", "a grouped model", "a model with projections", "a checkpoint of a trainer", "statistics"],
  ...["a .rvq file", "a .rvq file as a stream", "a .rvq file to trim"],
  ...["packed codes", "adaptive codes", "mixed codes", "static codes", "plainly packed codes", "densely packed codes"],
  ...["a .npy file", "a .safetensors checkpoint", "a .ecdc file", "a WAV file"],
];

it("are all here", async () => {
  expect((await making).map(({ name }) => name)).toEqual(names);
});

describe.each(names.map((name, number) => ({ name, number })))("$name", ({ number }) => {
  it("is read where nothing is wrong with it", async () => {
    const { parse, sample } = (await making)[number];
    await parse(sample);
  });

  it("is read or refused, soon and within the cap, whatever is changed in it", async () => {
    const { parse, repair, sample } = (await making)[number];
    await fc.assert(
      fc.asyncProperty(fc.array(edit, { minLength: 1, maxLength: 4 }), fc.boolean(), async (edits, repaired) => {
        let bytes: Buffer = Buffer.from(sample);
        for (const change of edits) bytes = change(bytes);
        if (repaired && repair !== undefined) bytes = repair(bytes);
        await expectAnswer(parse, bytes);
      }),
      { seed, numRuns: 300 * scale },
    );
  });

  it("is refused where it is cut off anywhere, or nothing but noise", async () => {
    const { parse, repair, sample } = (await making)[number];
    const random = new Random(seed);
    for (let i = 0; i < 40 * scale; i++) {
      const bytes = Buffer.from(sample.subarray(0, random.below(sample.length)));
      await expectAnswer(parse, repair !== undefined && i % 2 === 0 ? repair(bytes) : bytes);
      await expectAnswer(parse, Buffer.from(Array.from({ length: random.below(200) }, () => random.below(256))));
    }
  });
});

async function expectAnswer(parse: Parser["parse"], bytes: Buffer): Promise<void> {
  const start = performance.now();
  const before = process.memoryUsage().arrayBuffers;
  try {
    await parse(bytes);
  } catch (error) {
    if (!(error instanceof RvqError)) throw error;
  }
  // A collection in between makes this smaller, never larger.
  const allocated = process.memoryUsage().arrayBuffers - before;
  expect(allocated, "bytes allocated").toBeLessThan(allocationCap.times * bytes.length + allocationCap.bytes);
  expect(performance.now() - start, "ms").toBeLessThan(longestMs);
}

/** A change of a file, at a place that is a share of its length. */
const place = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
const at = (bytes: Buffer, share: number) => Math.floor(share * bytes.length);
const edit: fc.Arbitrary<(bytes: Buffer) => Buffer> = fc.oneof(
  fc.tuple(place, fc.nat(255)).map(([share, value]) => (bytes: Buffer) => {
    const copy = Buffer.from(bytes);
    if (copy.length > 0) copy[at(copy, share)] = value;
    return copy;
  }),
  // Numbers that lengths, counts and offsets are not ready for, more often near the start, where headers are.
  fc
    .tuple(place, fc.boolean(), fc.constantFrom(0, 1, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, 2 ** 24))
    .map(([share, near, value]) => (bytes: Buffer) => {
      const copy = Buffer.from(bytes);
      const offset = near ? Math.floor(share * 64) : at(copy, share);
      if (offset + 4 <= copy.length) copy.writeUInt32LE(value, offset);
      return copy;
    }),
  // The same in text: a number of a JSON header.
  fc
    .tuple(
      place,
      fc.constantFrom("0", "-1", "1e9", "4294967296", "9007199254740993", "1e400", "null", "{}", '"x"', "0.5"),
    )
    .map(([share, text]) => (bytes: Buffer) => {
      const found = [...bytes.toString("latin1").matchAll(/(?<=[:[,])-?\d[\d.e+-]*(?=[\],}])/g)];
      if (found.length === 0) return bytes;
      const { index, 0: number } = found[Math.floor(share * found.length)];
      return Buffer.concat([bytes.subarray(0, index), Buffer.from(text), bytes.subarray(index + number.length)]);
    }),
  fc.tuple(place, place).map(([from, to]) => (bytes: Buffer) => {
    const [start, end] = [at(bytes, Math.min(from, to)), at(bytes, Math.max(from, to))];
    return Buffer.concat([bytes.subarray(0, start), bytes.subarray(end)]);
  }),
  fc.tuple(place, fc.uint8Array({ minLength: 1, maxLength: 16 })).map(([share, inserted]) => (bytes: Buffer) => {
    const offset = at(bytes, share);
    return Buffer.concat([bytes.subarray(0, offset), inserted, bytes.subarray(offset)]);
  }),
);

async function makeParsers(): Promise<Parser[]> {
  const random = new Random(1);
  const numbers = (length: number) => Float32Array.from({ length }, () => random.fraction() - 0.5);
  const vectors = numbers(4 * 200);
  const js = { backend: "js" } as const;
  const shape = { dim: 4, codebookSize: 8, stages: 2, seed: 1, iterations: 2, ...js };
  const rq = await ResidualQuantizer.train(vectors, { ...shape, metadata: { note: "a model" } });
  const gq = await GroupedQuantizer.train(vectors, { ...shape, groups: 2 });
  const projection = (inDim: number, outDim: number) => ({
    weight: numbers(inDim * outDim),
    outDim,
    inDim,
    bias: null,
  });
  const part = { dim: 2, codebooks: [numbers(16)], input: projection(4, 2), output: projection(2, 4) };
  const pq = ProjectedQuantizer.fromParts([part, part], { dim: 4, ...js });
  const trainer = await CodebookTrainer.start([vectors], shape);
  const statistics = await Statistics.start(rq, mergeRanges([await vectorRange(vectors, { dim: 4 })]));
  await statistics.add(vectors);

  const codebookSizes = [16, 7, 300];
  const codes = codesOf(60, codebookSizes, (stage) => Math.min(random.below(codebookSizes[stage]), random.below(6)));
  const { count } = codes;
  const tables = codeTables(codes, codebookSizes);
  const stream = rvqToBytes(codes, { modelId: "0123456789abcdef".repeat(4), codebookSizes, chunkFrames: 25 });
  const ecdcCodes = { count: 3, stages: 4, data: Uint16Array.from({ length: 12 }, (_, i) => 80 * i) };
  const checkpoint = Object.fromEntries(
    [0, 1].map((i) => [`quantizer.vq.layers.${i}._codebook.embed`, { shape: [8, 4], data: numbers(32) }]),
  );
  const disposed = (made: { dispose(): void }) => made.dispose();
  return [
    {
      name: "a model",
      sample: rq.toBytes(),
      parse: (b) => disposed(ResidualQuantizer.fromBytes(b, js)),
      repair: resealed,
    },
    {
      name: "a grouped model",
      sample: gq.toBytes(),
      parse: (b) => disposed(GroupedQuantizer.fromBytes(b, js)),
      repair: resealed,
    },
    {
      name: "a model with projections",
      sample: pq.toBytes(),
      parse: (b) => disposed(quantizerFromBytes(b, js)),
      repair: resealed,
    },
    {
      name: "a checkpoint of a trainer",
      sample: trainer.toBytes(),
      parse: (b) => CodebookTrainer.fromBytes(b, js),
      repair: resealed,
    },
    { name: "statistics", sample: statistics.toBytes(), parse: (b) => Statistics.fromBytes(b), repair: resealed },
    { name: "a .rvq file", sample: stream, parse: readRvq },
    { name: "a .rvq file as a stream", sample: stream, parse: (b) => exhaust(unpackStream()([b])) },
    { name: "a .rvq file to trim", sample: stream, parse: (b) => exhaust(trimRvq(b, 1)) },
    ...(["packed", "adaptive", "mixed", "static"] as const).map((coding) => ({
      name: `${coding} codes`,
      sample: compressCodes(codes, codebookSizes, { coding, tables }),
      parse: (bytes: Uint8Array) => expandCodes(bytes, count, codebookSizes, { tables }),
    })),
    ...[false, true].map((dense) => ({
      name: dense ? "densely packed codes" : "plainly packed codes",
      sample: packCodes(codes, codebookSizes, { dense }),
      parse: (bytes: Uint8Array) => unpackCodes(bytes, count, codebookSizes, { dense }),
    })),
    { name: "a .npy file", sample: writeNpy({ shape: [8, 4], data: numbers(32) }), parse: readNpy },
    {
      name: "a .safetensors checkpoint",
      sample: writeSafetensors(checkpoint, { format: "pt" }),
      parse: (bytes) => importCheckpoint(Safetensors.fromBytes(bytes)),
    },
    {
      name: "a .ecdc file",
      sample: writeEcdc({ model: "encodec_24khz", sampleCount: 900, segments: [{ scale: null, codes: ecdcCodes }] }),
      parse: readEcdc,
    },
    { name: "a WAV file", sample: wav(numbers(200)), parse: (bytes) => wavToMono(parseWav(bytes, "x.wav")) },
  ];
}

async function readRvq(bytes: Uint8Array): Promise<void> {
  const reader = await RvqReader.open(bytes);
  await reader.verify();
  await exhaust(reader.chunks());
  await reader.read();
}

async function exhaust(pieces: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of pieces);
}

/** Float32 samples of one channel in the plainest of WAV files. */
function wav(samples: Float32Array): Buffer {
  const head = Buffer.alloc(44);
  head.write("RIFF", 0);
  head.writeUInt32LE(36 + samples.byteLength, 4);
  head.write("WAVEfmt ", 8);
  head.writeUInt32LE(16, 16);
  head.writeUInt16LE(3, 20);
  head.writeUInt16LE(1, 22);
  head.writeUInt32LE(16_000, 24);
  head.writeUInt32LE(64_000, 28);
  head.writeUInt16LE(4, 32);
  head.writeUInt16LE(32, 34);
  head.write("data", 36);
  head.writeUInt32LE(samples.byteLength, 40);
  return Buffer.concat([head, Buffer.from(samples.buffer)]);
}
