// The test vectors of docs/format.md: files whose bytes are fixed, and a reader in Python that reads the same from them.

import { execFileSync, spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { codeTables, type Frames, type RvqOptions, RvqReader, rvqToBytes } from "../lib/index.js";
import { Random } from "../lib/random.js";
import { codesOf, countedCodes } from "./bitstream-codes.js";

// Changed bytes are a change of the format: RVQ_WRITE_VECTORS=1 writes the files anew.
const folder = join(__dirname, "vectors");
const modelId = Buffer.from(Array.from({ length: 32 }, (_, i) => i)).toString("hex");

interface Vector {
  readonly codes: Frames;
  readonly options: RvqOptions & { summary?: Record<string, unknown> };
}

/** Codes that depend on those before and above, so that every context learns something. */
function dependentCodes(count: number, codebookSizes: readonly number[], seed: number): Frames {
  const random = new Random(seed);
  const codes = codesOf(count, codebookSizes, (stage, frame, at) => {
    const size = codebookSizes[stage];
    const choice = random.below(4);
    if (choice === 0 && frame > 0) return at(frame - 1, stage);
    if (choice === 1 && stage > 0) return (3 * at(frame, stage - 1)) % size;
    return Math.min(random.below(size), random.below(8));
  });
  return { ...codes, stageCounts: null };
}

function makeVectors(): Readonly<Record<string, Vector>> {
  const sizes = [16, 5, 100, 1, 300];
  const codes = dependentCodes(60, sizes, 1);
  const options = { modelId, codebookSizes: sizes, chunkFrames: 25 };
  const speech = new Array<number>(6).fill(64);
  return {
    empty: { codes: dependentCodes(0, [4], 1), options: { modelId, codebookSizes: [4] } },
    packed: {
      codes,
      options: { ...options, coding: "packed", frameRate: 75, metadata: { note: "ä" }, summary: { a: 1 } },
    },
    static: { codes, options: { ...options, coding: "static", tables: codeTables(codes, sizes) } },
    adaptive: { codes, options: { ...options, coding: "adaptive", frameRate: 44_100 / 512 } },
    mixed: { codes: dependentCodes(300, speech, 2), options: { modelId, codebookSizes: speech, chunkFrames: 200 } },
    counts: { codes: countedCodes(dependentCodes(150, speech, 3), 4), options: { modelId, codebookSizes: speech } },
    wide: { codes: dependentCodes(20, [70_000, 2 ** 24], 5), options: { modelId, codebookSizes: [70_000, 2 ** 24] } },
  };
}

const vectors = makeVectors();
const names = Object.keys(vectors);
const file = (name: string) => join(folder, `${name}.rvq`);
if (process.env.RVQ_WRITE_VECTORS) {
  for (const [name, { codes, options }] of Object.entries(vectors))
    writeFileSync(file(name), rvqToBytes(codes, options));
}

/** One list of codes a frame, as long as the frame has stages. */
function rows({ count, stages, data, stageCounts }: Frames): number[][] {
  return Array.from({ length: count }, (_, frame) => {
    return [...data.subarray(frame * stages, frame * stages + (stageCounts?.[frame] ?? stages))];
  });
}

describe.each(names)("the test vector %s.rvq", (name) => {
  const { codes, options } = vectors[name];

  it("has the bytes that are written today", () => {
    expect(Buffer.from(rvqToBytes(codes, options)).equals(readFileSync(file(name)))).toBe(true);
  });

  it("gives its codes", async () => {
    const reader = await RvqReader.open(file(name));
    expect(await reader.read()).toEqual(codes);
    expect(await reader.verify()).toEqual([]);
    await reader.close();
  });
});

const python = spawnSync("python3", ["--version"]).status === 0;

describe.skipIf(!python)("the reader in Python", () => {
  it.each(names)("reads %s.rvq as docs/format.md says", (name) => {
    const { codes, options } = vectors[name];
    const printed = execFileSync("python3", [join(folder, "read_rvq.py"), file(name)], { encoding: "utf8" });
    expect(JSON.parse(printed)).toEqual({
      model: modelId,
      sizes: options.codebookSizes,
      rate: options.frameRate ?? 0,
      metadata: options.metadata ?? {},
      summary: options.summary ?? {},
      frames: rows(codes),
    });
  });
});
