// Codes of real speech through everything that stores codes: they come back exactly, and entropy coding saves what is promised.

import { beforeAll, describe, expect, it } from "vitest";
import { framesOfSignals } from "../lib/audio/audio-model.js";
import { readWav, wavToMono } from "../lib/audio/wav.js";
import {
  type Codes,
  codeTables,
  compressCodes,
  expandCodes,
  packCodes,
  packedSizeBytes,
  ResidualQuantizer,
  RvqReader,
  rvqToBytes,
  unpackCodes,
} from "../lib/index.js";

const hop = 160;
const stages = 8;
// Not all a power of two.
const codebookSize = [64, 100, 64, 64, 100, 64, 64, 64];
/** Percent of the packed size that entropy coding saves at 8 stages, at least. */
const promisedSaving = 5;

let codes: Codes;
let trainingCodes: Codes;
let modelId: string;

beforeAll(async () => {
  const frames = async (name: string) => framesOfSignals([wavToMono(await readWav(`data/speech16k/${name}.wav`))], hop);
  const training = (await frames("train_it_male")).subarray(0, 2000 * hop);
  const rq = await ResidualQuantizer.train(training, { dim: hop, codebookSize, stages, seed: 1, iterations: 3 });
  trainingCodes = await rq.encode(training);
  codes = await rq.encode(await frames("dev_librivox"));
  modelId = rq.id;
  rq.dispose();
}, 60_000);

describe("codes of speech", () => {
  it("come back exactly from packed codes of any order and density", () => {
    for (const order of ["frame-major", "stage-major"] as const) {
      for (const dense of [false, true]) {
        const bytes = packCodes(codes, codebookSize, { order, dense });
        expect(unpackCodes(bytes, codes.count, codebookSize, { order, dense })).toEqual(codes);
      }
    }
  });

  it("come back exactly from every entropy coding, which saves at least 5 % of the packed size", () => {
    const tables = codeTables(trainingCodes, codebookSize);
    for (const coding of ["static", "adaptive", "mixed"] as const) {
      const bytes = compressCodes(codes, codebookSize, { coding, tables });
      expect(expandCodes(bytes, codes.count, codebookSize, { tables })).toEqual(codes);
      const saved = 100 * (1 - bytes.length / packedSizeBytes(codes.count, codebookSize));
      expect(saved, coding).toBeGreaterThan(promisedSaving);
    }
  });

  it("come back exactly from a file, whole and from any frame on, in all stages and in fewer", async () => {
    const reader = await RvqReader.open(rvqToBytes(codes, { modelId, codebookSizes: codebookSize, chunkFrames: 500 }));
    expect(await reader.read()).toMatchObject(codes);
    const part = await reader.read({ firstFrame: 777, count: 600, stages: 3 });
    const expected = codes.data.filter((_, i) => i % stages < 3).subarray(777 * 3, 1377 * 3);
    expect(part.data).toEqual(expected);
  });
});
