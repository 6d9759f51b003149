// The check of a folder of recordings finds each fault, says so, and keeps the rest.

import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { findRecordings } from "../lib/audio/find-recordings.js";
import { measureLevels } from "../lib/audio/levels.js";
import { checkRecordings } from "../lib/audio/recordings.js";
import { encodeWav } from "../lib/audio/wav-write.js";
import { recordingsText } from "../lib/cli/recordings-table.js";
import { Random } from "../lib/random.js";

const rate = 16000;

/** Bursts of a tone with pauses of faint noise between them, as speech has. */
function speechLike(seconds: number, { seed = 1, level = 0.5, noise = 0.001, sampleRate = rate } = {}): Float32Array {
  const random = new Random(seed);
  return Float32Array.from({ length: Math.round(seconds * sampleRate) }, (_, i) => {
    const t = i / sampleRate;
    const burst = Math.max(0, Math.sin(2 * Math.PI * 1.3 * t + seed));
    return level * burst * Math.sin(2 * Math.PI * 200 * t) + noise * (random.fraction() - 0.5);
  });
}

let folder = "";

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "rvq-recordings-"));
  await mkdir(join(folder, "more"));
  const good = speechLike(2);
  const files: Record<string, Uint8Array> = {
    "a-good.wav": encodeWav(good, rate),
    "b-copy.wav": encodeWav(good, rate),
    "c-truncated.wav": encodeWav(speechLike(2, { seed: 2 }), rate).subarray(0, 30_000),
    "d-text.wav": Buffer.from("This is a text, whatever its name says."),
    "e-silent.wav": encodeWav(new Float32Array(rate), rate),
    "f-short.wav": encodeWav(speechLike(0.05, { seed: 3 }), rate),
    "g-clipped.wav": encodeWav(speechLike(2, { seed: 4, level: 3 }), rate),
    "h-offset.wav": encodeWav(
      speechLike(2, { seed: 5 }).map((x) => x + 0.1),
      rate,
    ),
    "i-noisy.wav": encodeWav(speechLike(2, { seed: 6, noise: 0.3 }), rate),
    "j-empty.wav": new Uint8Array(0),
    "more/k-other-rate.WAV": encodeWav(speechLike(2, { seed: 7, sampleRate: 8000 }), 8000),
    "notes.txt": Buffer.from("no recording"),
  };
  for (const [name, bytes] of Object.entries(files)) await writeFile(join(folder, name), bytes);
});

afterAll(() => rm(folder, { recursive: true }));

describe("checking recordings", () => {
  it("finds WAV files in folders below, sorted, each once", async () => {
    const { files, unreadable } = await findRecordings([folder, join(folder, "a-good.wav")]);
    expect(unreadable).toEqual([]);
    expect(files.map((path) => path.slice(folder.length + 1))).toEqual([
      "a-good.wav",
      "b-copy.wav",
      "c-truncated.wav",
      "d-text.wav",
      "e-silent.wav",
      "f-short.wav",
      "g-clipped.wav",
      "h-offset.wav",
      "i-noisy.wav",
      "j-empty.wav",
      "more/k-other-rate.WAV",
    ]);
  });

  it("skips what is broken and says why, warns of the rest, and resamples", async () => {
    const { report, signals } = await checkRecordings((await findRecordings([folder])).files, { sampleRate: rate });
    const findings = Object.fromEntries(
      report.recordings.map(({ path, skipped, warnings }) => [
        path.slice(folder.length + 1).replace(/^(more\/)?.-|\.wav$/gi, ""),
        skipped === null ? warnings.join(", ") : `skipped: ${skipped}`,
      ]),
    );
    expect(findings.good).toBe("");
    expect(findings.copy).toBe(`skipped: same samples as ${join(folder, "a-good.wav")}`);
    expect(findings.truncated).toBe("skipped: truncated: the header promises 2.00 s, the file holds 0.94 s");
    expect(findings.text).toMatch(/^skipped: expected a WAV file .*, got a file that begins with "This is a te"/);
    expect(findings.silent).toBe("skipped: silent: 100 % of it is below -60 dBFS");
    expect(findings.short).toBe("skipped: too short: 0.050 s, at least 0.1 s are needed");
    expect(findings.clipped).toMatch(/^skipped: clipped: \d+ % of its samples are in flattened peaks/);
    expect(findings.offset).toBe("constant offset of 0.100");
    expect(findings.noisy).toMatch(/^noise floor at -21 dBFS, only \d+ dB between loud and quiet$/);
    expect(findings.empty).toBe("skipped: expected a WAV file, got an empty file");
    expect(findings["other-rate"]).toBe("resampled from 8000 Hz, nothing above 4000 Hz");

    expect([report.used, report.skipped, report.usedSeconds]).toEqual([4, 7, 8]);
    expect(report.sampleRates).toEqual({ "8000": 1, "16000": 8 });
    expect(report.lengths).toEqual({ shortest: 2, p10: 2, median: 2, p90: 2, longest: 2 });
    expect(signals.map(({ samples }) => samples.length)).toEqual([32000, 32000, 32000, 32000]);
    expect(JSON.parse(JSON.stringify(report))).toEqual(report);
  });

  it("refuses other sample rates where that is asked for", async () => {
    const paths = [join(folder, "a-good.wav"), join(folder, "more/k-other-rate.WAV")];
    const { report } = await checkRecordings(paths, { sampleRate: rate, otherRates: "refuse" });
    expect(report.recordings.map(({ skipped }) => skipped)).toEqual([null, "sample rate 8000 Hz, not 16000 Hz"]);
  });

  it("reports progress and stops when told to", async () => {
    const { files: paths } = await findRecordings([folder]);
    const stop = new AbortController();
    const seen: number[] = [];
    const onProgress = (done: number) => {
      seen.push(done);
      if (done === 3) stop.abort();
    };
    await expect(checkRecordings(paths, { sampleRate: rate, signal: stop.signal, onProgress })).rejects.toThrow(
      /abort/i,
    );
    expect(seen).toEqual([1, 2, 3]);
  });

  it("stops in the middle of a long recording", async () => {
    const path = join(folder, "more", "long.wav");
    await writeFile(path, encodeWav(new Float32Array(20_000_000), rate));
    const stop = new AbortController();
    const start = performance.now();
    setTimeout(() => stop.abort(), 50);
    const checked = checkRecordings([path], { sampleRate: 8000, signal: stop.signal });
    await expect(checked).rejects.toThrow(/abort/i);
    // All of it takes seconds.
    expect(performance.now() - start).toBeLessThan(1000);
    await rm(path);
  });

  it("is a table on the terminal", async () => {
    const { report } = await checkRecordings((await findRecordings([folder])).files, { sampleRate: rate });
    const lines = recordingsText(report).split("\n");
    expect(lines[0]).toMatch(/^file +s +Hz +peak dB +silence % +clipped % +floor dB +SNR dB +finding$/);
    expect(lines).toContain("4 of 11 recordings, 8.0 s, are used; 7 skipped.");
    expect(lines).toContain("Sample rates: 1 × 8000 Hz, 8 × 16000 Hz.");
  });
});

describe("finding recordings", () => {
  let links = "";

  beforeAll(async () => {
    links = await mkdtemp(join(tmpdir(), "rvq-links-"));
    await mkdir(join(links, "b", "below"), { recursive: true });
    for (const name of ["top.wav", "b/one.wav", "b/below/two.wav"]) await writeFile(join(links, name), "");
  });

  afterAll(() => rm(links, { recursive: true }));

  const found = async (...names: string[]) => {
    const { files, unreadable } = await findRecordings(names.map((name) => join(links, name)));
    expect(unreadable).toEqual([]);
    return files.map((path) => path.slice(links.length + 1));
  };

  it("ends where links lead back up, and finds each file once", async () => {
    for (const [name, target] of [
      ["self", "."],
      ["again", "."],
      ["b/up", ".."],
      ["b/below/up", "../.."],
      ["c", "b"],
    ]) {
      await symlink(target, join(links, name));
    }
    expect(await found(".")).toEqual(["b/below/two.wav", "b/one.wav", "top.wav"]);
    expect(await found(".", "b/below", "c")).toEqual(["b/below/two.wav", "b/one.wav", "top.wav"]);
  });

  it("follows links to folders and files elsewhere, and keeps a link to nothing so that the check names it", async () => {
    const elsewhere = await mkdtemp(join(tmpdir(), "rvq-elsewhere-"));
    await writeFile(join(elsewhere, "far.wav"), "");
    await symlink(elsewhere, join(links, "b", "linked"));
    await symlink(join(elsewhere, "far.wav"), join(links, "b", "file.wav"));
    await symlink("loop.wav", join(links, "b", "loop.wav"));
    expect(await found("b/below/..")).toEqual(
      expect.arrayContaining(["b/file.wav", "b/linked/far.wav", "b/loop.wav", "b/one.wav"]),
    );
    const { report } = await checkRecordings([join(links, "b/loop.wav")], { sampleRate: rate });
    expect(report.recordings[0].skipped).toMatch(/^cannot be read: ELOOP/);
    await rm(elsewhere, { recursive: true });
  });

  it("looks at the signal between folders", async () => {
    const search = findRecordings([links], { signal: AbortSignal.abort() });
    await expect(search).rejects.toThrow(/abort/i);
  });

  it("reports folders that cannot be listed as skipped", async () => {
    const unreadable = [{ path: "/locked", reason: "/locked: cannot be listed: EACCES" }];
    const { report } = await checkRecordings([join(folder, "a-good.wav")], { sampleRate: rate, unreadable });
    expect(report).toMatchObject({ used: 1, skipped: 1 });
    expect(report.recordings[1]).toMatchObject({ path: "/locked", skipped: "cannot be listed: EACCES" });
  });

  // To root, no folder is closed.
  it.skipIf(process.getuid?.() === 0)("goes on past a folder that it may not open", async () => {
    const locked = join(links, "locked");
    await mkdir(locked);
    await chmod(locked, 0);
    const { files, unreadable } = await findRecordings([links]);
    expect(files.length).toBeGreaterThan(2);
    expect(unreadable).toEqual([{ path: locked, reason: expect.stringMatching(/locked: cannot be listed: EACCES/) }]);
    await chmod(locked, 0o700);
  });
});

describe("levels", () => {
  it("are those of a sine", () => {
    const sine = Float32Array.from({ length: rate }, (_, i) => 0.5 * Math.sin((2 * Math.PI * 100 * i) / rate));
    const levels = measureLevels(sine, rate);
    expect(levels.peakDb).toBeCloseTo(-6.02, 2);
    expect(levels.rmsDb).toBeCloseTo(-9.03, 2);
    expect(levels.dcOffset).toBeCloseTo(0, 6);
    expect([levels.silentShare, levels.clippedShare]).toEqual([0, 0]);
    expect(levels.noiseFloorDb).toBeCloseTo(-9.03, 1);
    expect(levels.snrDb).toBeCloseTo(0, 1);
  });

  it("count runs at full scale as clipping, and single peaks not", () => {
    const samples = new Float32Array(1000);
    samples.fill(1, 100, 110);
    samples[500] = -1;
    expect(measureLevels(samples, rate).clippedShare).toBe(0.01);
  });

  it("are finite for nothing and for silence", () => {
    for (const samples of [new Float32Array(0), new Float32Array(10)]) {
      const levels = measureLevels(samples, rate);
      expect(Object.values(levels).every(Number.isFinite)).toBe(true);
      expect([levels.peakDb, levels.silentShare]).toEqual([-120, 1]);
    }
  });
});
