// The model file: exact round trips, and refusal of everything that is not a whole, undamaged model.

import { createHash } from "node:crypto";
import { lstat, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ResidualQuantizer, RvqError } from "../lib/index.js";

const weights = Float32Array.of(1, 0.5, 0);
const first = Float32Array.of(1, 2, 3, -0, 1e-42, 3e38);
const second = Float32Array.of(0.1, 0.2, 0.3);
const rq = ResidualQuantizer.fromCodebooks([first, second], { dim: 3, weights, metadata: { rate: 16000, note: "ä" } });

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "rvq-model-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe("a model", () => {
  it("comes back bit for bit from bytes and from a file", async () => {
    const file = path.join(folder, "a.rvqm");
    await rq.save(file);
    expect(await readdir(folder)).toEqual(["a.rvqm"]);
    for (const copy of [ResidualQuantizer.fromBytes(rq.toBytes()), await ResidualQuantizer.load(file)]) {
      expect(copy.codebooks()).toEqual([first, second]);
      expect(copy.weights()).toEqual(weights);
      expect(copy.metadata).toEqual({ rate: 16000, note: "ä" });
      expect(copy.metric).toBe("l2");
      expect(copy.id).toBe(rq.id);
      expect(copy.toBytes()).toEqual(rq.toBytes());
    }
  });

  it("has the bytes that the format describes", () => {
    const bytes = Buffer.from(ResidualQuantizer.fromCodebooks([Float32Array.of(1.5)], { dim: 1 }).toBytes());
    const header = '{"dim":1,"metric":"l2","codebookSizes":[1],"weighted":false,"metadata":{}}';
    const padded = header.padEnd(Math.ceil(header.length / 4) * 4, " ");
    expect(bytes.toString("latin1", 0, 4)).toBe("RVQM");
    expect(bytes.readUInt32LE(4)).toBe(1);
    expect(bytes.readUInt32LE(8)).toBe(padded.length);
    expect(bytes.toString("utf8", 12, 12 + padded.length)).toBe(padded);
    expect(bytes.readFloatLE(12 + padded.length)).toBe(1.5);
    expect(bytes.length).toBe(12 + padded.length + 4 + 32);
  });

  it("has an id that depends on codebooks, metric and weights, not on metadata", () => {
    const id = (options: object, codebook = first) =>
      ResidualQuantizer.fromCodebooks([codebook, second], { dim: 3, ...options }).id;
    expect(id({ weights, metadata: {} })).toBe(rq.id);
    expect(id({})).not.toBe(rq.id);
    expect(id({ metric: "cosine" })).not.toBe(id({}));
    expect(
      id(
        { weights },
        first.map((x) => x / 2),
      ),
    ).not.toBe(rq.id);
  });

  it("is written through a symbolic link, keeps its permissions, and spares what is no file", async () => {
    const file = path.join(folder, "target.rvqm");
    const link = path.join(folder, "link.rvqm");
    await writeFile(file, "old", { mode: 0o600 });
    await symlink(file, link);
    await rq.save(link);
    expect((await lstat(link)).isSymbolicLink()).toBe(true);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect((await ResidualQuantizer.load(pathToFileURL(file))).id).toBe(rq.id);
    await rq.save("/dev/null");
    expect((await stat("/dev/null")).isFile()).toBe(false);
    await rq.save(path.join(folder, `${"n".repeat(240)}.rvqm`));
  });

  it("is prepared quickly whatever its codewords are: none can be made to collide", () => {
    // Rows that differ in their last element alone are the worst case of a comparison.
    const codebook = new Float32Array(20_000 * 8).map((_, i) => (i % 8 === 7 ? i : 1));
    const start = performance.now();
    ResidualQuantizer.fromCodebooks([codebook], { dim: 8 });
    expect(performance.now() - start).toBeLessThan(2000);
  });

  it("stays as it was when a new one cannot be written", async () => {
    const file = path.join(folder, "kept.rvqm");
    await writeFile(file, "old");
    await expect(rq.save(path.join(file, "below-a-file"))).rejects.toMatchObject({ code: "IO" });
    expect(await readFile(file, "utf8")).toBe("old");
  });

  it("is refused after any truncation or flipped bit", () => {
    const bytes = rq.toBytes();
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.nat(7), fc.boolean(), (position, bit, cut) => {
        const damaged = cut ? bytes.slice(0, position) : bytes.slice();
        if (!cut) damaged[position] ^= 1 << bit;
        expect(() => ResidualQuantizer.fromBytes(damaged)).toThrow(RvqError);
      }),
      { numRuns: 500 },
    );
    expect(() => ResidualQuantizer.fromBytes(Buffer.concat([bytes, Uint8Array.of(0)]))).toThrow(/SHA-256/);
  });

  it("is refused when its header lies, even with a valid digest", () => {
    const reseal = (header: string, floats = 16, headerBytes?: number) => {
      const json = Buffer.from(header.padEnd(Math.ceil(header.length / 4) * 4, " "));
      const fixed = Buffer.alloc(12);
      fixed.write("RVQM");
      fixed.writeUInt32LE(1, 4);
      fixed.writeUInt32LE(headerBytes ?? json.length, 8);
      const body = Buffer.concat([fixed, json, Buffer.alloc(floats)]);
      return Buffer.concat([body, createHash("sha256").update(body).digest()]);
    };
    const header = (fields: object) =>
      JSON.stringify({ dim: 2, metric: "l2", codebookSizes: [2], weighted: false, metadata: {}, ...fields });
    expect(ResidualQuantizer.fromBytes(reseal(header({}))).codebookSizes).toEqual([2]);
    const lies: [Buffer, RegExp][] = [
      [reseal(header({ dim: 1e9 })), /dim/],
      [reseal(header({ dim: "2" })), /dim/],
      [reseal(header({ codebookSizes: [16_000_000] })), /bytes of float32/],
      [reseal(header({ codebookSizes: new Array(100_000).fill(1) })), /codebookSizes/],
      [reseal(header({ codebookSizes: [0] })), /codebookSizes/],
      [reseal(header({ codebookSizes: null })), /codebookSizes/],
      [reseal(header({ metric: "cosine" })), /zero/],
      [reseal(header({ metric: "dot" })), /metric/],
      [reseal(header({ weighted: true })), /bytes of float32/],
      [reseal(header({ metadata: 3 })), /metadata/],
      [reseal("[]"), /metadata|object/],
      [reseal("not json"), /JSON/],
      [reseal(header({}), 16, 4_000_000_000), /header/],
    ];
    for (const [bytes, message] of lies) {
      expect(() => ResidualQuantizer.fromBytes(bytes)).toThrow(message);
      expect(() => ResidualQuantizer.fromBytes(bytes)).toThrow(expect.objectContaining({ code: "INVALID_MODEL" }));
    }
  });
});
