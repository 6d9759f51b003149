// Every command of `rvq` does its work and fails with one line and an exit code, in this process and as a child
// process.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { Writable } from "node:stream";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readWav, wavToMono } from "../lib/audio/wav.js";
import { encodeWav } from "../lib/audio/wav-write.js";
import { run } from "../lib/cli/program.js";
import { ResidualQuantizer } from "../lib/index.js";
import { Random } from "../lib/random.js";

/** `npm test` builds it first. */
const builtCommand = resolve("dist/cli/main.js");

let folder = "";
let recordings = "";
let model = "";
let clip = "";

interface Result {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

async function rvq(...args: string[]): Promise<Result> {
  return rvqUntil(new AbortController().signal, ...args);
}

async function rvqUntil(signal: AbortSignal, ...args: string[]): Promise<Result> {
  let out = "";
  let err = "";
  const collect = (add: (text: string) => void) =>
    new Writable({
      write(chunk, _, done) {
        add(String(chunk));
        done();
      },
    });
  const stdout = collect((text) => {
    out += text;
  });
  const stderr = collect((text) => {
    err += text;
  });
  const code = await run(args, { stdout, stderr, signal });
  return { code, out, err };
}

function inFolder(name: string): string {
  return join(folder, name);
}

function tune(seconds: number, seed: number, sampleRate = 8000): Float32Array {
  const random = new Random(seed);
  return Float32Array.from({ length: Math.round(seconds * sampleRate) }, (_, i) => {
    const t = i / sampleRate;
    const note = 150 + 50 * Math.floor(4 * t * seed) ** 0.5;
    return 0.4 * Math.sin(2 * Math.PI * note * t) * Math.sin(7 * t + seed) + 0.002 * (random.fraction() - 0.5);
  });
}

const small = ["--rate", "8000", "--hop", "32", "--codewords", "16", "--stages", "4", "--iterations", "3"];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "rvq-cli-"));
  recordings = inFolder("recordings");
  model = inFolder("model.rvqm");
  clip = inFolder("clip.wav");
  await mkdir(recordings);
  await writeFile(join(recordings, "one.wav"), encodeWav(tune(2, 1), 8000));
  await writeFile(join(recordings, "two.wav"), encodeWav(tune(2, 2), 8000));
  await writeFile(join(recordings, "broken.wav"), "no audio");
  await writeFile(clip, encodeWav(tune(1, 3, 16000), 16000));
  const trained = await rvq("--backend", "js", "train", recordings, "-o", model, ...small);
  expect(trained.err).not.toMatch(/rvq:/);
  expect(trained.code).toBe(0);
});

afterAll(() => rm(folder, { recursive: true }));

describe("rvq train", () => {
  it("says what it skipped, trains on the rest, and writes the model and the report", async () => {
    const out = inFolder("again.rvqm");
    const report = inFolder("check.json");
    const result = await rvq("--backend", "js", "train", recordings, "-o", out, "--report", report, ...small);
    expect(result.code).toBe(0);
    expect(result.out).toMatch(/broken\.wav .* skipped: expected a WAV file/);
    expect(result.out).toContain("2 of 3 recordings, 4.0 s, are used; 1 skipped.");
    expect(result.out).toMatch(/Trained 4 codebooks of 16 on 4\.0 s in .* \(js\)/);
    expect(result.err).toMatch(/training 100? %|training took/);
    expect(JSON.parse(await readFile(report, "utf8"))).toMatchObject({ used: 2, skipped: 1 });
    expect(await readFile(out)).toEqual(await readFile(model));

    const quantizer = await ResidualQuantizer.load(out);
    expect(quantizer.metadata).toMatchObject({
      audio: { sampleRate: 8000, hop: 32 },
      training: { seconds: 4, seed: 1, iterations: 3, codebookSize: 16 },
    });
    expect(quantizer.codebookSizes).toEqual([16, 16, 16, 16]);
  });

  it("only checks where that is asked for", async () => {
    const out = inFolder("none.rvqm");
    const result = await rvq("train", recordings, "-o", out, "--check-only", ...small);
    expect([result.code, existsSync(out)]).toEqual([0, false]);
    expect(result.out).toContain("2 of 3 recordings");
  });

  it("resamples or refuses other rates, as asked", async () => {
    const args = ["train", clip, "-o", inFolder("none.rvqm"), ...small];
    const resampled = await rvq(...args, "--check-only");
    expect(resampled.out).toContain("resampled from 16000 Hz");
    const refused = await rvq(...args, "--other-rates", "refuse");
    expect(refused.code).toBe(1);
    expect(refused.err).toContain(`rvq: no recording to train on: ${clip}: sample rate 16000 Hz, not 8000 Hz\n`);
  });

  it("stops cleanly, leaving no file", async () => {
    const out = inFolder("stopped.rvqm");
    const stop = new AbortController();
    const running = rvqUntil(stop.signal, "--backend", "js", "train", recordings, "-o", out, "--iterations", "100000");
    setTimeout(() => stop.abort(), 300);
    const result = await running;
    expect([result.code, existsSync(out)]).toEqual([130, false]);
    expect(result.err).toMatch(/rvq: stopped\n$/);
  });
});

describe("rvq encode and decode", () => {
  it("bring a clip back, better from more stages", async () => {
    const codes = inFolder("clip.rvq");
    const encoded = await rvq("encode", clip, codes, "--model", model);
    expect(encoded.code).toBe(0);
    expect(encoded.out).toMatch(
      /clip\.wav: 16-bit PCM, mono, 16000 Hz, 1\.00 s\n.*clip\.rvq: 4 stages, \d+ bytes, [\d.]+ kbit\/s, SNR/,
    );

    const errors: number[] = [];
    const original = tune(1, 3);
    for (const stages of [1, 2, 4]) {
      const out = inFolder(`clip-${stages}.wav`);
      const decoded = await rvq("decode", codes, out, "--model", model, "--stages", String(stages));
      expect(decoded.out).toContain(`clip-${stages}.wav: 1.00 s at 8000 Hz from ${stages} of 4 stages`);
      const wav = await readWav(out);
      expect([wav.sampleRate, wav.count]).toEqual([8000, 8000]);
      errors.push(wavToMono(wav).reduce((sum, x, i) => sum + (x - original[i]) ** 2, 0));
    }
    expect(errors[0]).toBeGreaterThan(errors[1]);
    expect(errors[1]).toBeGreaterThan(errors[2]);
  });

  it("stores fewer stages where that is asked for, and cannot decode more than are stored", async () => {
    const codes = inFolder("two.rvq");
    expect((await rvq("encode", clip, codes, "-m", model, "--stages", "2")).out).toContain("2 stages");
    const decoded = await rvq("decode", codes, inFolder("three.wav"), "-m", model, "--stages", "3");
    expect(decoded.code).toBe(1);
    expect(decoded.err).toMatch(/^rvq: --stages: expected at most the 2 stages that .* holds, got 3\n$/);
  });

  it("refuse a file that another model coded", async () => {
    const other = inFolder("other.rvqm");
    const codes = inFolder("other.rvq");
    await rvq("--backend", "js", "train", recordings, "-o", other, ...small, "--seed", "2");
    await rvq("encode", clip, codes, "-m", other);
    const decoded = await rvq("decode", codes, inFolder("wrong.wav"), "-m", model);
    expect(decoded.code).toBe(1);
    expect(decoded.err).toMatch(/^rvq: .*other\.rvq: expected the model [0-9a-f]{16} that coded it, got .*model\.rvqm/);
    expect(existsSync(inFolder("wrong.wav"))).toBe(false);
  });

  it("refuse a model that was not trained on audio", async () => {
    const plain = inFolder("plain.rvqm");
    await ResidualQuantizer.fromCodebooks([Float32Array.of(1, 2)], { dim: 1 }).save(plain);
    const result = await rvq("encode", clip, inFolder("x.rvq"), "-m", plain);
    expect(result.err).toMatch(/^rvq: expected a model trained on audio/);
  });
});

describe("rvq info", () => {
  it("tells what is in a model and in coded audio", async () => {
    const codes = inFolder("info.rvq");
    await rvq("encode", clip, codes, "-m", model);
    const ofModel = await rvq("info", model);
    expect(ofModel.out).toMatch(/^type +model$/m);
    expect(ofModel.out).toMatch(/^codebookSizes +4 × 16$/m);
    const ofCodes = JSON.parse((await rvq("info", "--json", codes)).out);
    expect(ofCodes).toMatchObject({ type: "coded audio", sampleRate: 8000, seconds: 1, frames: 251, stages: 4 });
    expect(ofCodes.modelId).toBe(JSON.parse((await rvq("info", "--json", model)).out).id);
  });

  it("refuses anything else", async () => {
    const result = await rvq("info", clip);
    expect(result.code).toBe(1);
    expect(result.err).toMatch(/^rvq: .*clip\.wav: .*expected/);
    expect((await rvq("info", inFolder("absent"))).err).toMatch(/^rvq: .*absent: cannot be read: ENOENT/);
  });
});

describe("rvq doctor", () => {
  it("lists every backend, and what runs", async () => {
    const result = await rvq("doctor");
    expect(result.code).toBe(0);
    for (const name of ["cuda", "cpu", "js"]) expect(result.out).toMatch(new RegExp(`^[✔✘] ${name}: .`, "m"));
    expect(result.out).toMatch(/^in use +\w+$/m);
    expect(JSON.parse((await rvq("doctor", "--json")).out)).toMatchObject({ node: process.version });
  });

  it("fails for a backend that is asked for and cannot run", async () => {
    const { backends } = JSON.parse((await rvq("doctor", "--json")).out) as {
      backends: { name: string; available: boolean }[];
    };
    for (const { name, available } of backends) {
      const result = await rvq("--backend", name, "doctor");
      expect(result.code, name).toBe(available ? 0 : 1);
      if (!available) expect(result.err).toMatch(new RegExp(`^rvq: backend "${name}" cannot run here: `));
    }
  });
});

describe("wrong usage", () => {
  it.each([
    [["--backend", "gpu", "doctor"], /Allowed choices are auto, cuda, cpu, js/],
    [["--threads", "0", "doctor"], /expected an integer of at least 1/],
    [["train"], /missing required argument 'paths'/],
    [["train", "x", "--codewords", "2.5"], /expected an integer of at least 1/],
    [["encode", "a.wav", "b.rvq"], /required option '-m, --model <file>' not specified/],
    [["sing"], /unknown command 'sing'/],
    [["doctor", "--loud"], /unknown option '--loud'/],
  ])("%j ends with exit code 2", async (args, message) => {
    const result = await rvq(...args);
    expect(result.code).toBe(2);
    expect(result.err).toMatch(/^rvq: error: /);
    expect(result.err).toMatch(message);
    expect(result.out).toBe("");
  });

  it("is explained by --help, which is no failure", async () => {
    const result = await rvq("train", "--help");
    expect(result.code).toBe(0);
    expect(result.out).toMatch(/Usage: rvq train/);
    expect((await rvq("--version")).out).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

describe("as a child process", () => {
  function child(args: string[], { interruptAfter }: { interruptAfter?: RegExp } = {}): Promise<Result> {
    return new Promise((done, fail) => {
      const started = spawn(process.execPath, [builtCommand, ...args], { cwd: folder });
      let out = "";
      let err = "";
      started.stdout.on("data", (chunk) => {
        out += chunk;
      });
      started.stderr.on("data", (chunk) => {
        err += chunk;
        // Once: a second interrupt ends the process at once.
        if (!started.killed && interruptAfter?.test(err)) started.kill("SIGINT");
      });
      started.on("error", fail);
      started.on("close", (code) => done({ code: code ?? -1, out, err }));
    });
  }

  it("each command succeeds", async () => {
    const commands = [
      ["--backend", "js", "train", recordings, "-o", "child.rvqm", ...small],
      ["encode", clip, "child.rvq", "-m", "child.rvqm"],
      ["decode", "child.rvq", "child.wav", "-m", "child.rvqm"],
      ["info", "child.rvq"],
      ["doctor"],
    ];
    for (const args of commands) {
      const result = await child(args);
      expect(result.code, `${args.join(" ")}: ${result.err}`).toBe(0);
      expect(result.out).not.toBe("");
    }
    expect(await readFile(inFolder("child.rvqm"))).toEqual(await readFile(model));
  });

  it("each command fails with one line, no stack and no file", async () => {
    const failures: [string[], number][] = [
      [["train", "absent"], 1],
      [["encode", "absent.wav", "out.rvq", "-m", model], 1],
      [["encode", clip, "out.rvq", "-m", clip], 1],
      [["encode", clip, "no/such/folder/out.rvq", "-m", model], 1],
      [["decode", clip, "out.wav", "-m", model], 1],
      [["info", clip], 1],
      [["demo", "absent.wav", "--out", "out-demo"], 1],
      [["decode"], 2],
    ];
    const before = await readdir(folder);
    for (const [args, code] of failures) {
      const result = await child(args);
      expect(result.code, args.join(" ")).toBe(code);
      const lines = result.err.split("\n").filter((line) => line !== "" && !/^(checking|encoding)\b/.test(line));
      expect(lines, args.join(" ")).toHaveLength(1);
      expect(lines[0]).toMatch(/^rvq: /);
    }
    expect(await readdir(folder)).toEqual(before);
  });

  it("stops on Ctrl-C with exit code 130 and no file", async () => {
    const args = ["--backend", "js", "train", recordings, "-o", "interrupted.rvqm", "--iterations", "100000"];
    const result = await child(args, { interruptAfter: /training …/ });
    expect(result.code).toBe(130);
    expect(result.err).toMatch(/rvq: stopped\n$/);
    expect((await readdir(folder)).filter((name) => name.startsWith("interrupted"))).toEqual([]);
  });
});
