// `rvq demo` from the training to the report page, on the bundled speech and on a file of the user's.

import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Writable } from "node:stream";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { WaveFile } from "wavefile";
import { decodeSignal } from "../lib/audio/audio-model.js";
import { readCodedAudio } from "../lib/audio/coded-audio.js";
import { readWav, wavToMono } from "../lib/audio/wav.js";
import { encodeWav } from "../lib/audio/wav-write.js";
import type { DemoReport } from "../lib/cli/demo-report.js";
import { run } from "../lib/cli/program.js";
import { ResidualQuantizer } from "../lib/index.js";

let folder = "";

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "rvq-demo-"));
});

afterAll(() => rm(folder, { recursive: true }));

async function demo(...args: string[]): Promise<string> {
  let out = "";
  const stdout = new Writable({
    write(chunk, _, done) {
      out += String(chunk);
      done();
    },
  });
  const stderr = new Writable({ write: (_chunk, _encoding, done) => done() });
  const code = await run(args, { stdout, stderr, signal: new AbortController().signal });
  expect(code).toBe(0);
  return out;
}

async function reportIn(out: string): Promise<DemoReport> {
  return JSON.parse(await readFile(join(out, "report.json"), "utf8"));
}

describe("rvq demo", () => {
  it("rebuilds an unseen speaker from 4, 8, 16 and 32 codebooks, ever better", async () => {
    const out = join(folder, "bundled");
    const printed = await demo("--backend", "js", "demo", "--quick", "--out", out);
    expect(printed).toContain(join(out, "report.html"));
    expect((await readdir(out)).sort()).toEqual([
      "codes-04.rvq",
      "codes-08.rvq",
      "codes-16.rvq",
      "codes-32.rvq",
      "model.rvqm",
      "original.wav",
      "reconstruction-04.wav",
      "reconstruction-08.wav",
      "reconstruction-16.wav",
      "reconstruction-32.wav",
      "report.html",
      "report.json",
    ]);

    const report = await reportIn(out);
    expect(report).toMatchObject({ quick: true, backend: "js", clip: { name: "dev_librivox.wav", seconds: 3 } });
    expect(report.curve).toHaveLength(32);
    expect(report.reconstructions.map(({ stages }) => stages)).toEqual([4, 8, 16, 32]);
    expect(report.reconstructions.map((one) => one.nominalBitsPerSecond)).toEqual([2400, 4800, 9600, 19200]);
    const original = wavToMono(await readWav(join(out, "original.wav")));
    const quantizer = await ResidualQuantizer.load(join(out, "model.rvqm"));
    let lastSnrDb = 0;
    for (const { stages, snrDb, wavFile, codesFile, fileBytes } of report.reconstructions) {
      const samples = wavToMono(await readWav(join(out, wavFile)));
      expect(samples).toHaveLength(original.length);
      expect(snrDb).toBeGreaterThan(lastSnrDb + 1);
      // Samples and frames tell the same error: the transform is orthonormal.
      expect(snrDb).toBeCloseTo(report.curve[stages - 1].clipSnrDb ?? Number.NaN, 1);
      lastSnrDb = snrDb ?? Number.NaN;

      expect((await stat(join(out, codesFile))).size).toBe(fileBytes);
      const coded = await readCodedAudio(join(out, codesFile));
      expect(coded.modelId).toBe(quantizer.id);
      const decoded = await decodeSignal(quantizer, coded.codes, coded.sampleCount);
      expect(encodeWav(decoded, 16000)).toEqual(new Uint8Array(await readFile(join(out, wavFile))));
    }
  });

  it("writes a page that asks nothing of any server", async () => {
    const page = await readFile(join(folder, "bundled", "report.html"), "utf8");
    expect(page.match(/<audio /g)).toHaveLength(5);
    expect(page.match(/<img src="data:image\/png;base64,/g)).toHaveLength(5);
    const references = [...page.matchAll(/\b(?:src|href)="([^"]{0,5})/g)].map(([, start]) => start);
    expect(references.every((start) => start === "data:")).toBe(true);
    expect(page).not.toMatch(/<link|@import|\bfetch\(|url\((?!data:)/);
    expect(page).toContain(`default-src 'none'`);
  });

  it("gives the same model and codes on the fastest backend of this machine", async () => {
    const out = join(folder, "fastest");
    await demo("demo", "--quick", "--out", out);
    for (const name of ["model.rvqm", "codes-32.rvq", "reconstruction-08.wav"]) {
      expect((await readFile(join(out, name))).equals(await readFile(join(folder, "bundled", name))), name).toBe(true);
    }
  });

  it("takes a file at another rate, depth and channel count, and a name that is no HTML", async () => {
    const stereo = [0, 1].map((channel) =>
      Float64Array.from({ length: 44_100 }, (_, i) => Math.round(2 ** 22 * Math.sin(i / (20 + channel)))),
    );
    const wav = new WaveFile();
    wav.fromScratch(2, 44_100, "24", stereo);
    const clip = join(folder, `<b>&"quoted".wav`);
    await writeFile(clip, wav.toBuffer());
    const out = join(folder, "own");
    await demo("demo", clip, "--quick", "--out", out);
    const report = await reportIn(out);
    expect(report.clip).toEqual({
      name: `<b>&"quoted".wav`,
      format: "24-bit PCM, 2 channels, 44100 Hz",
      seconds: 1,
      changes: ["2 channels mixed to one", "resampled from 44100 to 16000 Hz"],
    });
    const page = await readFile(join(out, "report.html"), "utf8");
    expect(page).toContain("&lt;b&gt;&amp;&quot;quoted&quot;.wav");
    expect(page).not.toContain("<b>");
  });

  it.each([
    ["checking", (printed: string) => printed.includes("checking …")],
    ["training", (printed: string) => printed.includes("training 25 %")],
    ["encoding", (printed: string) => printed.includes("encoding …")],
    ["drawing the report", (_: string, out: string) => existsSync(join(out, "reconstruction-32.wav"))],
  ])("stopped while %s, leaves no file unfinished", async (phase, reached) => {
    const out = join(folder, `stopped-${phase}`);
    const stop = new AbortController();
    let printed = "";
    const collect = new Writable({
      write(chunk, _, done) {
        printed += String(chunk);
        done();
      },
    });
    const watch = setInterval(() => reached(printed, out) && stop.abort(), 1);
    const code = await run(["demo", "--quick", "--out", out], {
      stdout: collect,
      stderr: collect,
      signal: stop.signal,
    });
    clearInterval(watch);
    expect(code).toBe(130);
    expect(printed).toMatch(/rvq: stopped\n$/);
    // What is there is whole: the same bytes as after a run to the end.
    const files = await readdir(out);
    expect(files).not.toContain("report.html");
    for (const name of files) {
      expect((await readFile(join(out, name))).equals(await readFile(join(folder, "bundled", name))), name).toBe(true);
    }
  });

  it("takes a file of silence, for which there is no SNR", async () => {
    const clip = join(folder, "silence.wav");
    await writeFile(clip, encodeWav(new Float32Array(1600), 16000));
    const out = join(folder, "silence");
    await demo("demo", clip, "--quick", "--out", out);
    const { reconstructions } = await reportIn(out);
    expect(reconstructions.map(({ snrDb }) => snrDb)).toEqual([null, null, null, null]);
  });
});
