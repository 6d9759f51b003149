// Every command of `rvq` does its work and fails with one line and an exit code, in this process and as a child
// process.

import { execFileSync, spawn } from "node:child_process";
import { closeSync, existsSync, openSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readWav, wavToMono } from "../lib/audio/wav.js";
import { encodeWav } from "../lib/audio/wav-write.js";
import { ResidualQuantizer, status, writeNpy } from "../lib/index.js";
import { Random } from "../lib/random.js";
import { type CliResult, runCli } from "./run-cli.js";

/** `npm test` builds it first. */
const builtCommand = resolve("dist/cli/main.js");

let folder = "";
let recordings = "";
let model = "";
let clip = "";

const rvq = (...args: string[]) => runCli(args);
const rvqUntil = (signal: AbortSignal, ...args: string[]) => runCli(args, { signal });

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

  it("refuses a recording that is named and not there", async () => {
    const missing = inFolder("typo.wav");
    const result = await rvq("train", clip, missing, "-o", inFolder("none.rvqm"), ...small);
    expect([result.code, existsSync(inFolder("none.rvqm"))]).toEqual([1, false]);
    expect(result.err).toMatch(/^rvq: .*typo\.wav: cannot be read: ENOENT/);
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

  it("choose the stages of each frame to fill a rate, and decode them", async () => {
    const codes = inFolder("rate.rvq");
    // 250 frames a second of up to 4 stages of 4 bits: 1 to 4 kbit/s.
    const encoded = await rvq("encode", clip, codes, "-m", model, "--kbps", "2.5", "--coding", "packed");
    expect(encoded.out).toMatch(/rate\.rvq: on the average 2\.[45]\d of 4 stages, /);
    const shown = Number(/SNR ([\d.]+) dB/.exec(encoded.out)?.[1]);
    const two = await rvq("encode", clip, inFolder("two-stages.rvq"), "-m", model, "--stages", "2");
    expect(shown).toBeGreaterThan(Number(/SNR ([\d.]+) dB/.exec(two.out)?.[1]));
    const out = inFolder("rate.wav");
    expect((await rvq("decode", codes, out, "-m", model)).code).toBe(0);
    const original = tune(1, 3);
    const noise = wavToMono(await readWav(out)).reduce((sum, x, i) => sum + (x - original[i]) ** 2, 0);
    const energy = original.reduce((sum, x) => sum + x * x, 0);
    expect(10 * Math.log10(energy / noise)).toBeGreaterThan(shown - 3);
    const little = await rvq("encode", clip, codes, "-m", model, "--kbps", "0.5");
    expect(little.err).toMatch(
      /rvq: kbps: expected at least 1, which minStages 1 take at 250 frames a second, got 0\.5\n$/,
    );
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
    expect(result.err).toMatch(/^rvq: .*plain\.rvqm: expected a model trained on audio/);
  });
});

describe("rvq trim and inspect", () => {
  it("drop stages and say what is left", async () => {
    const codes = inFolder("whole.rvq");
    const trimmed = inFolder("trimmed.rvq");
    await rvq("encode", clip, codes, "-m", model);
    const result = await rvq("trim", codes, trimmed, "--stages", "2");
    expect([result.code, result.err]).toEqual([0, ""]);
    expect(result.out).toMatch(/trimmed\.rvq: 2 of 4 stages, \d+ of \d+ bytes\n$/);
    const [a, b] = [inFolder("a.wav"), inFolder("b.wav")];
    await rvq("decode", trimmed, a, "-m", model);
    await rvq("decode", codes, b, "-m", model, "--stages", "2");
    expect(await readFile(a)).toEqual(await readFile(b));

    const inspected = await rvq("inspect", trimmed);
    expect(inspected.code).toBe(0);
    expect(inspected.out).toMatch(/^frames +251$/m);
    expect(inspected.out).toMatch(/^ +1 +16 +\d+ +\d\.\d\d +4 +mixed 1$/m);
    expect(inspected.out).toMatch(/sound: every checksum fits\n$/);
    const json = JSON.parse((await rvq("inspect", "--json", trimmed)).out);
    expect(json).toMatchObject({ frames: 251, chunks: 1, summary: { sampleCount: 8000 }, damage: [] });
    expect(json.stages).toHaveLength(2);
  });

  it("refuse more stages than there are, leaving no file", async () => {
    const codes = inFolder("few.rvq");
    await rvq("encode", clip, codes, "-m", model, "--stages", "2");
    const result = await rvq("trim", codes, inFolder("more.rvq"), "--stages", "3");
    expect([result.code, existsSync(inFolder("more.rvq"))]).toEqual([1, false]);
    expect(result.err).toBe("rvq: stages: expected an integer from 1 to 2, got 3\n");
  });

  it("report damage, and decode recovers the rest", async () => {
    const codes = inFolder("sound.rvq");
    const damaged = inFolder("damaged.rvq");
    await rvq("encode", clip, codes, "-m", model, "--coding", "packed");
    const bytes = await readFile(codes);
    bytes[bytes.indexOf("RVQE") - 1] ^= 1;
    await writeFile(damaged, bytes);
    const inspected = await rvq("inspect", damaged);
    expect(inspected.code).toBe(1);
    expect(inspected.out).toMatch(/chunk 0 \(frames 0 to 250, byte \d+\): stage 3 does not fit its CRC32C\n$/);
    expect(inspected.err).toMatch(/expected a sound file, got 1 places of damage\n$/);

    const out = inFolder("recovered.wav");
    const refused = await rvq("decode", damaged, out, "-m", model);
    expect([refused.code, existsSync(out)]).toEqual([1, false]);
    const recovered = await rvq("decode", damaged, out, "-m", model, "--recover");
    expect(recovered.code).toBe(0);
    expect(recovered.err).toMatch(/damaged\.rvq: chunk 0 .*: stage 3 does not fit its CRC32C\n$/);
    const three = inFolder("three-of-four.wav");
    await rvq("decode", codes, three, "-m", model, "--stages", "3");
    expect(await readFile(out)).toEqual(await readFile(three));
  });
});

describe("a model that anyone could have written", () => {
  it.each([
    ["a rate of 1 GHz", { sampleRate: 1_000_000_000, hop: 4 }],
    ["a rate of 1 Hz", { sampleRate: 1, hop: 4 }],
    ["a rate that is a text", { sampleRate: "16000", hop: 4 }],
    ["a hop that is not its dimension", { sampleRate: 16_000, hop: 8 }],
  ])("with %s is refused before audio is read", async (_, audio) => {
    const hostile = inFolder("hostile.rvqm");
    await ResidualQuantizer.fromCodebooks([new Float32Array(8)], { dim: 4, metadata: { audio } }).save(hostile);
    const result = await rvq("encode", "absent.wav", inFolder("x.rvq"), "-m", hostile);
    expect(result.code).toBe(1);
    expect(result.err).toMatch(
      /^rvq: expected a model with a sample rate of 1000 to 768000 Hz and an even hop .*, got/,
    );
  });

  it("with an odd dimension is refused", async () => {
    const odd = inFolder("odd.rvqm");
    const metadata = { audio: { sampleRate: 16_000, hop: 3 } };
    await ResidualQuantizer.fromCodebooks([new Float32Array(6)], { dim: 3, metadata }).save(odd);
    expect((await rvq("encode", clip, inFolder("x.rvq"), "-m", odd)).err).toMatch(/got sample rate 16000, hop 3 and/);
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

  it.skipIf(!existsSync("/dev/zero"))("does not read from devices, nor do encode and decode", async () => {
    for (const args of [
      ["info", "/dev/zero"],
      ["encode", "/dev/zero", inFolder("x.rvq"), "-m", model],
      ["decode", "/dev/zero", inFolder("x.wav"), "-m", model],
    ]) {
      const result = await rvq(...args);
      expect(result.code, args[0]).toBe(1);
      expect(result.err).toMatch(/^rvq: \/dev\/zero: expected .*, got something that is not a regular file\n$/);
    }
  });
});

describe("rvq doctor", () => {
  it("lists every backend, and what runs", async () => {
    const result = await rvq("doctor");
    expect(result.code).toBe(0);
    for (const name of ["cuda", "cpu", "js"]) expect(result.out).toMatch(new RegExp(`^[✔✘] ${name}: .`, "m"));
    expect(result.out).toMatch(/^in use +\w+$/m);
    for (const name of ["RVQ_BACKEND", "RVQ_CPU", "RVQ_JS", "RVQ_PREBUILD"])
      expect(result.out).toMatch(new RegExp(`^${name} +${process.env[name] || "not set"}$`, "m"));
    const found = JSON.parse((await rvq("doctor", "--json")).out) as Record<string, never>;
    expect(found).toMatchObject({ node: process.version });
    for (const { name, available, agrees } of found.backends as {
      name: string;
      available: boolean;
      agrees: unknown;
    }[]) {
      expect(agrees, name).toBe(available ? true : null);
      if (available && name !== "js") expect(result.out).toContain("checked: the codes of js, bit for bit");
    }
    const { native } = status();
    expect(found.native).toEqual(native);
    if (native === null) expect(result.out).not.toMatch(/^CUDA /m);
    else expect(result.out).toMatch(/^instruction sets +\w.*\nCUDA +driver .+, runtime .+\nGPUs +\S/m);
  });

  it("says what to do by what is wrong", () => {
    const { native } = status();
    const advice = (...flags: string[]) =>
      execFileSync(process.execPath, [...flags, builtCommand, "doctor"], { encoding: "utf8" });
    // Without a build for this machine there is nothing to switch off.
    if (native !== null)
      expect(advice("--no-addons")).toMatch(/\(--no-addons\)\n.*\n {2}→ run node without --no-addons\n/);
    else expect(advice()).toMatch(/ {2}→ in a checkout: install CMake and a C\+\+20 compiler/);
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
    [["--threads", "0", "doctor"], /expected an integer from 1 to 1024/],
    [["--threads", "1e99", "doctor"], /expected an integer from 1 to 1024/],
    [["train"], /missing required argument 'paths'/],
    [["train", "x", "--codewords", "2.5"], /expected an integer from 2 to 65536/],
    [["train", "x", "--codewords", "1"], /expected an integer from 2 to 65536/],
    [["train", "x", "--stages", "1025"], /expected an integer from 1 to 1024/],
    [["train", "x", "--iterations", "1000001"], /expected an integer from 1 to 1000000/],
    [["train", "x", "--rate", "1000000000"], /expected an integer from 1000 to 768000/],
    [["train", "x", "--rate", "999"], /expected an integer from 1000 to 768000/],
    [["train", "x", "--hop", "161"], /expected an even integer from 2 to 2048/],
    [["train", "x", "--hop", "2050"], /expected an even integer from 2 to 2048/],
    [["train", "x", "--seed", "9007199254740993"], /expected an integer from 0 to 9007199254740991/],
    [["encode", "a.wav", "b.rvq", "-m", "c", "--stages", "-1"], /expected an integer from 1 to 1024/],
    [["encode", "a.wav", "b.rvq", "-m", "c", "--coding", "zip"], /Allowed choices are mixed, adaptive, packed/],
    [["encode", "a.wav", "b.rvq", "-m", "c", "--kbps", "-3"], /expected a positive number/],
    [["trim", "a.rvq", "b.rvq"], /required option '--stages <n>' not specified/],
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

  it("is an output that would take the place of an input, by whatever path", async () => {
    const link = inFolder("link.wav");
    const vectors = inFolder("v.npy");
    const codes = inFolder("mine.rvq");
    await symlink(clip, link);
    await writeFile(vectors, writeNpy({ shape: [2, 2], data: Float32Array.of(1, 2, 3, 4) }));
    await rvq("encode", clip, codes, "-m", model);
    const before = await Promise.all([clip, model, vectors, codes].map((path) => readFile(path)));
    for (const [args, message] of [
      [
        ["encode", clip, clip, "-m", model],
        /^rvq: out\.rvq: expected another file than the input, got ".*clip\.wav"\n$/,
      ],
      [["encode", clip, link, "-m", model], /^rvq: out\.rvq: expected another file than the input/],
      [["encode", clip, model, "-m", model], /^rvq: out\.rvq: expected another file than --model/],
      [["decode", codes, codes, "-m", model], /^rvq: out: expected another file than in\.rvq/],
      [["decode", codes, model, "-m", model], /^rvq: out: expected another file than --model/],
      [["trim", codes, codes, "--stages", "1"], /^rvq: out\.rvq: expected another file than in\.rvq/],
      [["convert", model, model], /^rvq: out: expected another file than in/],
      [["train", vectors, "-o", vectors], /^rvq: --out: expected another file than .*v\.npy/],
      [["train", clip, "-o", link], /^rvq: --out: expected another file than .*clip\.wav/],
      [["train", clip, "-o", "new.rvqm", "--report", clip], /^rvq: --report: expected another file than .*clip\.wav/],
      [["train", clip, "--report", "a.html", "-o", "./a.html"], /^rvq: --report: expected another file than --out/],
    ] as const) {
      const result = await rvq(...args);
      expect(result.err).toMatch(message);
      expect(result.code).toBe(2);
    }
    expect(await Promise.all([clip, model, vectors, codes].map((path) => readFile(path)))).toEqual(before);
  });

  it("is explained by --help, which is no failure", async () => {
    const result = await rvq("train", "--help");
    expect(result.code).toBe(0);
    expect(result.out).toMatch(/Usage: rvq train/);
    expect((await rvq("--version")).out).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

describe("as a child process", () => {
  interface ChildOptions {
    readonly interruptAfter?: RegExp;
    /** File descriptors in place of pipes. */
    readonly stdout?: number;
    readonly stderr?: number;
    /** A pipe that nobody reads, closed from the start. */
    readonly closed?: "stdout" | "stderr";
    readonly nodeOptions?: readonly string[];
  }

  function child(
    args: string[],
    { interruptAfter, closed, nodeOptions = [], ...streams }: ChildOptions = {},
  ): Promise<CliResult> {
    return new Promise((done, fail) => {
      const stdio = ["ignore", streams.stdout ?? "pipe", streams.stderr ?? "pipe"] as const;
      const started = spawn(process.execPath, [...nodeOptions, builtCommand, ...args], {
        cwd: folder,
        stdio: [...stdio],
      });
      let out = "";
      let err = "";
      if (closed) started[closed]?.destroy();
      started.stdout?.on("data", (chunk) => {
        out += chunk;
      });
      started.stderr?.on("data", (chunk) => {
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

  it.each(["checking", "training"])("stops on Ctrl-C while %s with exit code 130 and no file", async (phase) => {
    const long = inFolder("long.wav");
    await writeFile(long, encodeWav(new Float32Array(30_000_000), 16_000));
    const input = phase === "checking" ? long : recordings;
    const before = await readdir(folder);
    const args = ["--backend", "js", "train", input, "-o", "interrupted.rvqm", "--iterations", "100000"];
    const result = await child([...args, "--report", "interrupted.json"], { interruptAfter: new RegExp(`${phase} …`) });
    expect(result.code).toBe(130);
    expect(result.err).toMatch(/rvq: stopped\n$/);
    const added = (await readdir(folder)).filter((name) => !before.includes(name));
    expect(added).toEqual(phase === "checking" ? [] : ["interrupted.json"]);
    await rm(long);
    await rm(inFolder("interrupted.json"), { force: true });
  });

  it("leaves the old file and no temporary one on a second Ctrl-C while it writes", async () => {
    await child(["encode", clip, "old.rvq", "-m", model]);
    const old = await readFile(inFolder("old.rvq"));
    const before = await readdir(folder);
    // A disk that takes for ever, and an impatient user.
    const slowDisk = inFolder("slow-disk.cjs");
    await writeFile(
      slowDisk,
      `const fs = require("node:fs/promises");
       const { readdirSync } = require("node:fs");
       const { open } = fs;
       const interrupt = () => process.kill(process.pid, "SIGINT");
       fs.open = async (path, ...rest) => {
         const file = await open(path, ...rest);
         if (!String(path).endsWith(".tmp")) return file;
         file.sync = () => new Promise(() => {
           process.stderr.write("writing " + readdirSync(".").filter((name) => name.endsWith(".tmp")).length + "\\n");
           setInterval(interrupt, 50);
         });
         return file;
       };`,
    );
    const nodeOptions = ["--require", slowDisk];
    const result = await child(["encode", clip, "old.rvq", "-m", model, "--stages", "1"], { nodeOptions });
    await rm(slowDisk);
    expect(result.code).toBe(130);
    expect(result.err).toMatch(/writing 1\n$/);
    expect(await readdir(folder)).toEqual(before);
    expect(await readFile(inFolder("old.rvq"))).toEqual(old);
    await rm(inFolder("old.rvq"));
  });

  describe.skipIf(!existsSync("/dev/full"))("with a full disk behind an output", () => {
    let full = -1;
    beforeAll(() => {
      full = openSync("/dev/full", "w");
    });
    afterAll(() => closeSync(full));

    it("says so in one line on the other output, ends with exit code 1, and does its work", async () => {
      expect(await child(["doctor"], { stdout: full })).toEqual({
        code: 1,
        out: "",
        err: "rvq: standard output cannot be written: ENOSPC: no space left on device, write\n",
      });
      const trained = await child(["--backend", "js", "train", recordings, "-o", "full.rvqm", ...small], {
        stderr: full,
      });
      expect(trained.code).toBe(1);
      expect(trained.out.match(/^rvq: .*$/gm)).toEqual([
        "rvq: standard error cannot be written: ENOSPC: no space left on device, write",
      ]);
      expect(await readFile(inFolder("full.rvqm"))).toEqual(await readFile(model));
      expect(await child(["doctor"], { stdout: full, stderr: full })).toEqual({ code: 1, out: "", err: "" });
    });
  });

  it("does its work when nobody reads its output, and calls that a failure only of standard error", async () => {
    const args = ["--backend", "js", "train", recordings, "-o", "unread.rvqm", ...small];
    for (const [closed, code] of [
      ["stdout", 0],
      ["stderr", 1],
    ] as const) {
      const result = await child(args, { closed });
      expect(result.code, closed).toBe(code);
      expect(result.out + result.err).not.toMatch(/^ +at /m);
      expect(await readFile(inFolder("unread.rvqm"))).toEqual(await readFile(model));
      await rm(inFolder("unread.rvqm"));
    }
  });
});
