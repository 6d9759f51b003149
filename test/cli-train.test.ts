// `rvq train` on vectors and by moving averages: what is shown live, checkpoints, Ctrl-C, and going on to the same bytes.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodeWav } from "../lib/audio/wav-write.js";
import { TrainingBatches } from "../lib/cli/training-batches.js";
import { TrainingHistory } from "../lib/cli/training-history.js";
import { CodebookTrainer, ResidualQuantizer, type StepResult, status, writeNpy } from "../lib/index.js";
import { Random } from "../lib/random.js";
import { type CliResult, type RunCliOptions, runCli } from "./run-cli.js";

/** `npm test` builds it first. */
const builtCommand = resolve("dist/cli/main.js");
const dim = 8;
const cpuRuns = status().backends.some(({ name, available }) => name === "cpu" && available);

let folder = "";
let vectorsFile = "";

const rvq = (args: readonly string[], options?: RunCliOptions) => runCli(["--backend", "js", ...args], options);

function inFolder(name: string): string {
  return join(folder, name);
}

/** Clusters with noise: [count][dim]. */
function vectors(count: number, seed: number): Float32Array {
  const random = new Random(seed);
  const centres = Float32Array.from({ length: 20 * dim }, () => 4 * random.fraction());
  const all = new Float32Array(count * dim);
  for (let n = 0; n < count; n++) {
    const centre = random.below(20);
    for (let i = 0; i < dim; i++) all[n * dim + i] = centres[centre * dim + i] + random.fraction();
  }
  return all;
}

/** Runs `work`, and aborts in the middle of the step after step `last`, which is thereby undone. */
async function stoppedAt(last: number, stop: AbortController, work: () => Promise<CliResult>): Promise<CliResult> {
  const { step } = CodebookTrainer.prototype;
  CodebookTrainer.prototype.step = function (...args) {
    const done = step.apply(this, args);
    if (this.steps === last) stop.abort();
    return done;
  };
  try {
    return await work();
  } finally {
    CodebookTrainer.prototype.step = step;
  }
}

const size = ["--codewords", "16", "--stages", "3", "--iterations", "3", "--seed", "5"];
const averages = ["--learn", "ema", "--epochs", "4", "--batch", "150", ...size];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "rvq-train-"));
  vectorsFile = inFolder("vectors.npy");
  await writeFile(vectorsFile, writeNpy({ shape: [1000, dim], data: vectors(1000, 1) }));
});

afterAll(() => rm(folder, { recursive: true }));

describe("rvq train on .npy files", () => {
  it("trains what ResidualQuantizer.train trains on their rows", async () => {
    const out = inFolder("kmeans.rvqm");
    const other = inFolder("more.npy");
    await writeFile(other, writeNpy({ shape: [200, dim], data: vectors(200, 2) }));
    const result = await rvq(["train", vectorsFile, other, "-o", out, ...size]);
    expect(result.code, result.err).toBe(0);
    expect(result.out).toMatch(/Trained 3 codebooks of 16 on 1,200 vectors of 8 in .* \(js\)\.\n/);
    const all = new Float32Array(1200 * dim);
    all.set(vectors(1000, 1));
    all.set(vectors(200, 2), 1000 * dim);
    const expected = await ResidualQuantizer.train(all, { dim, codebookSize: 16, stages: 3, iterations: 3, seed: 5 });
    const model = await ResidualQuantizer.load(out);
    expect(model.codebooks()).toEqual(expected.codebooks());
    expect(model.metadata).toMatchObject({ training: { vectors: 1200, seed: 5 } });
    expect(model.metadata).not.toHaveProperty("audio");
    expect(result.err).toMatch(/training 33 % codebook 1\/3 · \d+\.\d\d dB · perplexity \d+\.\d\n/);
  });

  it("shows every codebook live", async () => {
    const result = await rvq(["train", vectorsFile, "-o", inFolder("live.rvqm"), ...size], { terminalRows: 24 });
    expect(result.err).toMatch(
      / {2}codebook 1 {2}mse \d\.\d{3}e[-+]\d+ {2}\d+\.\d\d dB {2}perplexity +\d+\.\d of 16\b/,
    );
    expect(result.err).not.toContain("dead");
  });

  it("refuses other shapes, other dimensions, numbers that are none, and recordings beside them", async () => {
    const write = async (name: string, shape: number[], data: Float32Array) => {
      await writeFile(inFolder(name), writeNpy({ shape, data }));
      return inFolder(name);
    };
    const flat = await write("flat.npy", [16], new Float32Array(16));
    const empty = await write("empty.npy", [0, 8], new Float32Array(0));
    const narrow = await write("narrow.npy", [4, 4], new Float32Array(16));
    const holes = await write("holes.npy", [4, 8], new Float32Array(32).fill(Number.NaN, 17, 18));
    const text = inFolder("text.npy");
    await writeFile(text, "no array at all");
    const failures: [string[], RegExp, number?][] = [
      [[flat], /flat\.npy: expected an array \[vectors\]\[dim\], got \(16\)\n$/],
      [[empty], /empty\.npy: expected an array \[vectors\]\[dim\], got \(0, 8\)\n$/],
      [[vectorsFile, narrow], /narrow\.npy: expected vectors of 8 numbers, as .*vectors\.npy has, got 4 numbers\n$/],
      [[holes], /holes\.npy: expected finite numbers, got NaN in row 2, column 1\n$/],
      [[text], /text\.npy: npy: expected a file that begins with/],
      [[inFolder("absent.npy")], /absent\.npy: cannot be read: ENOENT/],
      [[vectorsFile, folder], /paths: expected either \.npy files or WAV files and folders, got /, 2],
      [[vectorsFile, "--rate", "8000"], /--rate: expected no sample rate for \.npy files, got 8000\n$/, 2],
      [[vectorsFile, "--report", "r.json"], /--report: expected a name ending in \.html: .*, got "r\.json"\n$/, 2],
    ];
    for (const [args, message, code = 1] of failures) {
      const result = await rvq(["train", ...args, "-o", inFolder("none.rvqm"), ...size]);
      expect(result.code, args.join(" ")).toBe(code);
      expect(result.err).toMatch(message);
      expect(existsSync(inFolder("none.rvqm"))).toBe(false);
    }
  });
});

describe("batches", () => {
  it("cover every vector once an epoch, in another order each time, by seed and step alone", () => {
    const all = Float32Array.from({ length: 20 }, (_, i) => i);
    const batches = new TrainingBatches(all, { dim: 2, batch: 4, seed: 3 });
    const steps = Array.from({ length: 6 }, (_, step) => batches.at(step));
    expect(batches.perEpoch).toBe(3);
    expect(steps.map((batch) => batch.length / 2)).toEqual([3, 3, 4, 3, 3, 4]);
    const epochs = [steps.slice(0, 3), steps.slice(3)].map((epoch) => epoch.flatMap((batch) => [...batch]));
    for (const epoch of epochs) {
      expect([...epoch].sort((a, b) => a - b)).toEqual([...all]);
      for (let i = 0; i < epoch.length; i += 2) expect(epoch[i + 1]).toBe(epoch[i] + 1);
    }
    expect(epochs[0]).not.toEqual(epochs[1]);
    expect(new TrainingBatches(all, { dim: 2, batch: 4, seed: 3 }).at(4)).toEqual(steps[4]);
    expect(new TrainingBatches(all, { dim: 2, batch: 4, seed: 4 }).at(4)).not.toEqual(steps[4]);
  });
});

describe("rvq train --learn ema", () => {
  it("does the steps of a CodebookTrainer, and says how each codebook is used", async () => {
    const out = inFolder("ema.rvqm");
    const result = await rvq(["train", vectorsFile, "-o", out, ...averages]);
    expect(result.code, result.err).toBe(0);
    expect(result.err).toMatch(/training 25 % step 7\/28 · mse \S+ · perplexity \d+\.\d to \d+\.\d · \d+ dead\n/);
    expect(result.out).toMatch(/^codebook +mse +SNR dB +perplexity +in use\n +1 +\d\.\d{3}e/m);

    const data = vectors(1000, 1);
    const batches = new TrainingBatches(data, { dim, batch: 150, seed: 5 });
    const first = Array.from({ length: 7 }, (_, step) => batches.at(step));
    const options = { dim, codebookSize: 16, stages: 3, iterations: 3, seed: 5, decay: 0.99 };
    const trainer = await CodebookTrainer.start(first, options);
    for (let step = 0; step < 28; step++) await trainer.step(batches.at(step));
    expect((await ResidualQuantizer.load(out)).codebooks()).toEqual(trainer.codebooks());
  });

  it("gives recordings codebooks that encode takes, also when resumed", async () => {
    const clip = inFolder("clip.wav");
    const samples = Float32Array.from({ length: 16_000 }, (_, i) => 0.4 * Math.sin(i / 9) * Math.sin(i / 700));
    await writeFile(clip, encodeWav(samples, 8000));
    const out = inFolder("audio.rvqm");
    const audio = ["--rate", "8000", "--hop", "32", ...averages];
    const trained = await rvq(["train", clip, "-o", out, ...audio]);
    expect(trained.code, trained.err).toBe(0);
    const encoded = await rvq(["encode", clip, inFolder("clip.rvq"), "-m", out]);
    expect(encoded.out).toMatch(/clip\.rvq: 3 stages/);

    const stop = new AbortController();
    const checkpoint = inFolder("audio.rvqt");
    const args = ["train", clip, "-o", inFolder("audio-2.rvqm"), ...audio, "--checkpoint", checkpoint];
    const stopped = await stoppedAt(5, stop, () => rvq(args, { signal: stop.signal }));
    expect(stopped.err).toContain("stopped after step 5 of 28; go on with: ");
    const resumed = await rvq(["train", clip, "-o", inFolder("audio-2.rvqm"), "--resume", checkpoint]);
    expect(resumed.code, resumed.err).toBe(0);
    expect(await readFile(inFolder("audio-2.rvqm"))).toEqual(await readFile(out));
  });

  it("shows every codebook below the bar of a terminal, and brings the cursor back", async () => {
    const args = ["train", vectorsFile, "-o", inFolder("shown.rvqm"), ...averages];
    const shown = await rvq(args, { terminalRows: 24 });
    expect(shown.code).toBe(0);
    expect(shown.err).toMatch(/ {2}codebook 1 {2}mse \d\.\d{3}e[-+]\d+ {2}perplexity +\d+\.\d of 16 {2}\d+ dead/);
    expect(shown.err).toMatch(/ {2}codebook 3 {2}mse /);
    expect(shown.err.lastIndexOf("\u001b[?25h")).toBeGreaterThan(shown.err.lastIndexOf("\u001b[?25l"));
    expect(shown.err.lastIndexOf("\u001b[?7h")).toBeGreaterThan(shown.err.lastIndexOf("\u001b[?7l"));

    const small = await rvq(args, { terminalRows: 5 });
    expect(small.err).toMatch(/ {2}codebook 1 {2}mse /);
    expect(small.err).toMatch(/ {2}codebooks 2 to 3: mse /);
    expect(small.err).not.toMatch(/ {2}codebook 3 {2}mse /);
  });

  it("shows the codebooks of k-means that are done", async () => {
    const shown = await rvq(["train", vectorsFile, "-o", inFolder("shown.rvqm"), ...size], { terminalRows: 24 });
    expect(shown.err).toMatch(/ {2}codebook 3 {2}mse \d\.\d{3}e[-+]\d+ {2}\d+\.\d\d dB/);
  });

  it.each([
    [["--checkpoint", "c"], /--checkpoint: expected --learn ema beside it, got "c"\n$/, 2],
    [["--epochs", "3"], /--epochs: expected --learn ema beside it, got 3\n$/, 2],
    [["--every", "3"], /--every: expected --learn ema beside it, got 3\n$/, 2],
    [["--learn", "ema", "--checkpoint", "same", "-o", "same"], /--out: expected another file than the checkpoint/, 2],
    [["--learn", "ema", "--checkpoint", "/no/such/folder/c"], /cannot write \/no\/such\/folder\/c: ENOENT/, 1],
  ] as const)("refuses %j", async (args, message, code) => {
    const result = await rvq(["train", vectorsFile, "-o", inFolder("none.rvqm"), ...size, ...args]);
    expect(result.code).toBe(code);
    expect(result.err).toMatch(message);
    expect(existsSync(inFolder("none.rvqm"))).toBe(false);
  });
});

describe("rvq train --resume", () => {
  it("goes on from a checkpoint to the bytes of a run that was never interrupted", async () => {
    const whole = inFolder("whole.rvqm");
    await rvq(["train", vectorsFile, "-o", whole, ...averages, "--checkpoint", inFolder("whole.rvqt")]);
    for (const stopAfter of [1, 9, 27]) {
      const stop = new AbortController();
      const checkpoint = inFolder(`part-${stopAfter}.rvqt`);
      const resumed = inFolder(`resumed-${stopAfter}.rvqm`);
      const args = ["train", vectorsFile, "-o", resumed, ...averages, "--checkpoint", checkpoint];
      const stopped = await stoppedAt(stopAfter, stop, () => rvq(args, { signal: stop.signal }));
      expect(stopped.code).toBe(130);
      expect(existsSync(resumed)).toBe(false);
      const command = `rvq train ${vectorsFile} --resume ${checkpoint} --every 100 --out ${resumed}`;
      expect(stopped.err).toContain(`stopped after step ${stopAfter} of 28; go on with: ${command}\nrvq: stopped\n`);

      const again = await rvq(command.split(" ").slice(1));
      expect(again.code, again.err).toBe(0);
      expect(await readFile(resumed)).toEqual(await readFile(whole));
      expect(await readFile(checkpoint)).toEqual(await readFile(inFolder("whole.rvqt")));
    }
  });

  it("refuses other data, other options, and checkpoints of others", async () => {
    const checkpoint = inFolder("refusing.rvqt");
    await rvq(["train", vectorsFile, "-o", inFolder("x.rvqm"), ...averages, "--checkpoint", checkpoint]);
    const kept = await readFile(checkpoint);
    const other = inFolder("other.npy");
    await writeFile(other, writeNpy({ shape: [1000, dim], data: vectors(1000, 9) }));
    const foreign = inFolder("foreign.rvqt");
    await CodebookTrainer.fromCodebooks([Float32Array.of(1, 2)], { dim: 1 }).save(foreign);
    const failures: [string[], RegExp, number?][] = [
      [
        [vectorsFile, ...averages, "--checkpoint", checkpoint],
        /--checkpoint: expected a new file, or --resume to go on from this one, got /,
        2,
      ],
      [[other, "--resume", checkpoint], /expected the training data of the checkpoint \(SHA-256 [0-9a-f]{16}\), got/],
      [[folder, "--resume", checkpoint], /paths: expected \.npy files, as of the checkpoint, got/],
      [
        [vectorsFile, "--resume", checkpoint, "--epochs", "9"],
        /--epochs: expected 4, as in the checkpoint, .* got 9\n/,
      ],
      [[vectorsFile, "--resume", checkpoint, "--learn", "kmeans"], /--learn: expected "ema", as in the checkpoint/],
      [[vectorsFile, "--resume", foreign], /foreign\.rvqt: expected a checkpoint that rvq train wrote/],
      [[vectorsFile, "--resume", vectorsFile], /vectors\.npy: expected a trainer's checkpoint/],
      [[vectorsFile, "--resume", inFolder("absent")], /cannot read .*absent: ENOENT/],
    ];
    for (const [args, message, code = 1] of failures) {
      const result = await rvq(["train", ...args, "-o", inFolder("none.rvqm")]);
      expect(result.code, args.join(" ")).toBe(code);
      expect(result.err).toMatch(message);
    }
    expect(existsSync(inFolder("none.rvqm"))).toBe(false);
    expect(await readFile(checkpoint)).toEqual(kept);
    expect(
      (await rvq(["train", vectorsFile, "--resume", checkpoint, "--epochs", "4", "-o", inFolder("x.rvqm")])).code,
    ).toBe(0);
  });
});

describe("rvq train --report page.html", () => {
  interface Chart {
    readonly id: string;
    readonly x: readonly number[];
    readonly lines: readonly (readonly (number | null)[])[];
  }

  async function chartsOf(page: string): Promise<Record<string, Chart>> {
    const html = await readFile(page, "utf8");
    const [, data] = /<script type="application\/json" id="report">(.*?)<\/script>/.exec(html) ?? [];
    const { charts } = JSON.parse(data) as { charts: Chart[] };
    for (const { id } of charts) expect(html).toContain(`id="${id}"`);
    return Object.fromEntries(charts.map((chart) => [chart.id, chart]));
  }

  it("draws every codebook over the steps and its usage, and asks nothing of any server", async () => {
    const page = inFolder("ema.html");
    const out = inFolder("report.rvqm");
    const result = await rvq(["train", vectorsFile, "-o", out, ...averages, "--report", page]);
    expect(result.code, result.err).toBe(0);
    expect(result.out).toContain(`Wrote ${page}.\n`);
    const charts = await chartsOf(page);
    expect(Object.keys(charts)).toEqual([
      "chart-distortion",
      "chart-perplexity",
      "chart-dead",
      "chart-snr",
      "chart-after",
    ]);
    for (const id of ["chart-distortion", "chart-perplexity", "chart-dead"]) {
      expect(charts[id].x).toEqual(Array.from({ length: 28 }, (_, i) => i + 1));
      expect(charts[id].lines.map((line) => line.length)).toEqual([28, 28, 28]);
    }
    // Less is left after each codebook, and codewords learn.
    const [first, second, third] = charts["chart-distortion"].lines.map((line) => Number(line[27]));
    expect([first < 0, second < first, third < second]).toEqual([true, true, true]);

    const data = vectors(1000, 1);
    const model = await ResidualQuantizer.load(out);
    const codes = await model.encode(data);
    const perplexities = model.usage(codes).map(({ perplexity }) => perplexity);
    expect(charts["chart-after"].lines).toEqual([perplexities]);
    expect(charts["chart-snr"].lines).toEqual([(await model.distortion(data, codes)).map(({ snrDb }) => snrDb)]);

    const html = await readFile(page, "utf8");
    expect(html.match(/<svg class="histogram"/g)).toHaveLength(3);
    expect(html.match(/<rect /g)).toHaveLength(3 * 16);
    expect(html).toContain(`most ${Math.max(...model.usage(codes)[0].counts)}<`);
    expect(html).not.toMatch(/<link|@import|\bfetch\(|url\((?!data:)|\b(?:src|href)="(?!data:)/);
    expect(html).toContain(`default-src 'none'`);
  });

  it("draws the iterations of k-means, where each codebook has its own", async () => {
    const page = inFolder("kmeans.html");
    const result = await rvq(["train", vectorsFile, "-o", inFolder("report.rvqm"), ...size, "--report", page]);
    expect(result.code, result.err).toBe(0);
    const charts = await chartsOf(page);
    expect(Object.keys(charts)).toEqual(["chart-distortion", "chart-perplexity", "chart-snr", "chart-after"]);
    expect(charts["chart-distortion"].x).toEqual([1, 2, 3]);
    expect(charts["chart-distortion"].lines).toHaveLength(3);
    const perplexities = charts["chart-perplexity"].lines.flat();
    expect(perplexities).toHaveLength(9);
    for (const value of perplexities) expect(value).toBeGreaterThan(8);
    for (const value of perplexities) expect(value).toBeLessThanOrEqual(16);
    expect(await readFile(inFolder("report.rvqm"))).toEqual(await plainModel());
  });

  it("draws the steps before an interruption too", async () => {
    const args = ["train", vectorsFile, "-o", inFolder("report.rvqm"), ...averages];
    await rvq([...args, "--report", inFolder("whole.html")]);
    args.push("--checkpoint", inFolder("r.rvqt"));
    const stop = new AbortController();
    await stoppedAt(11, stop, () => rvq(args, { signal: stop.signal }));
    const resume = ["--resume", inFolder("r.rvqt"), "--report", inFolder("resumed.html")];
    await rvq(["train", vectorsFile, "-o", inFolder("report.rvqm"), ...resume]);
    expect(await readFile(inFolder("resumed.html"), "utf8")).toContain("backend, resumed after step 11<");
    expect(await chartsOf(inFolder("resumed.html"))).toEqual(await chartsOf(inFolder("whole.html")));
  });

  it("draws vectors that are met exactly, and more codewords than are used", async () => {
    const few = inFolder("few.npy");
    await writeFile(few, writeNpy({ shape: [4, 2], data: Float32Array.of(0, 1, 2, 3, 4, 5, 6, 7) }));
    const page = inFolder("few.html");
    const args = ["--codewords", "8", "--stages", "2", "--learn", "ema", "--epochs", "2"];
    const result = await rvq(["train", few, "-o", inFolder("few.rvqm"), ...args, "--report", page]);
    expect(result.code, result.err).toBe(0);
    expect(await readFile(page, "utf8")).toContain("of 8 in use");
  });

  async function plainModel(): Promise<Buffer> {
    await rvq(["train", vectorsFile, "-o", inFolder("plain.rvqm"), ...size]);
    return readFile(inFolder("plain.rvqm"));
  }
});

describe("the history of a training", () => {
  it("thins itself out, to the same record when it is stored in between", () => {
    const reportOf = (step: number) =>
      ({ step, stages: [{ mse: 1 / step, usage: { perplexity: step }, dead: step % 3 }] }) as unknown as StepResult;
    const whole = TrainingHistory.empty(1);
    let parts = TrainingHistory.empty(1);
    for (let step = 1; step <= 2000; step++) {
      whole.add(reportOf(step));
      parts.add(reportOf(step));
      if (step % 77 === 0) parts = TrainingHistory.fromRecord("parts", JSON.parse(JSON.stringify(parts.toRecord())), 1);
    }
    const { every, steps, stages } = whole.toRecord();
    expect(parts.toRecord()).toEqual(whole.toRecord());
    expect(every).toBe(8);
    expect(steps).toEqual(Array.from({ length: 250 }, (_, i) => 8 * (i + 1)));
    expect(stages[0].dead).toEqual(steps.map((step) => step % 3));
    expect(stages[0].mse[1]).toBe(0.0625);
  });

  it.each([
    [undefined],
    [{}],
    [{ every: 0, steps: [], stages: [{ mse: [], perplexity: [], dead: [] }] }],
    [{ every: 1, steps: [1], stages: [{ mse: [], perplexity: [1], dead: [1] }] }],
    [{ every: 1, steps: [1], stages: [null] }],
    [{ every: 1, steps: ["1"], stages: [{ mse: [1], perplexity: [1], dead: [1] }] }],
    [{ every: 1, steps: new Array(400).fill(1), stages: [] }],
  ])("refuses the record %j", (record) => {
    expect(() => TrainingHistory.fromRecord("name", record, 1)).toThrow(/^name: expected the history that rvq train/);
  });
});

describe("as a child process", () => {
  /** Interrupts once `after` has come on stderr. */
  function child(
    args: readonly string[],
    after?: RegExp,
    nodeOptions: readonly string[] = [],
    computing: readonly string[] = ["--backend", "js"],
    signal: NodeJS.Signals = "SIGINT",
  ): Promise<CliResult> {
    return new Promise((done, fail) => {
      const started = spawn(process.execPath, [...nodeOptions, builtCommand, ...computing, ...args], {
        cwd: folder,
        stdio: ["ignore", "pipe", "pipe"],
      });
      let out = "";
      let err = "";
      started.stdout.on("data", (chunk) => {
        out += chunk;
      });
      started.stderr.on("data", (chunk) => {
        err += chunk;
        if (!started.killed && after?.test(err)) started.kill(signal);
      });
      started.on("error", fail);
      started.on("close", (code) => done({ code: code ?? -1, out, err }));
    });
  }

  const long = ["--learn", "ema", "--epochs", "60", "--batch", "100", ...size];

  it.skipIf(!cpuRuns)("goes on after Ctrl-C on native threads, with others and on another backend", async () => {
    const epochs = ["--learn", "ema", "--epochs", "150", "--batch", "100", ...size];
    const cpu = (args: readonly string[], threads: string, after?: RegExp) =>
      child(args, after, [], ["--backend", "cpu", "--threads", threads]);
    const whole = ["-o", "cpu-whole.rvqm", "--checkpoint", "cpu-whole.rvqt"];
    expect(await cpu(["train", "vectors.npy", ...whole, ...epochs], "2")).toMatchObject({ code: 0 });
    const args = ["train", "vectors.npy", "-o", "cpu.rvqm", "--checkpoint", "cpu.rvqt", "--every", "7", ...epochs];
    const stopped = await cpu(args, "2", /training 25 %/);
    expect(stopped.code, stopped.err).toBe(130);
    expect(existsSync(inFolder("cpu.rvqm"))).toBe(false);
    const [, step, command] = /stopped after step (\d+) of 1500; go on with: rvq (.*)\n/.exec(stopped.err) ?? [];
    expect(Number(step)).toBeGreaterThanOrEqual(375);
    expect(Number(step)).toBeLessThan(1500);

    const interrupted = await readFile(inFolder("cpu.rvqt"));
    const goOn = [(resume: readonly string[]) => cpu(resume, "1"), (resume: readonly string[]) => child(resume)];
    for (const resume of goOn) {
      await writeFile(inFolder("cpu.rvqt"), interrupted);
      const resumed = await resume(command.split(" "));
      expect(resumed.code, resumed.err).toBe(0);
      expect(await readFile(inFolder("cpu.rvqm"))).toEqual(await readFile(inFolder("cpu-whole.rvqm")));
      expect(await readFile(inFolder("cpu.rvqt"))).toEqual(await readFile(inFolder("cpu-whole.rvqt")));
      await rm(inFolder("cpu.rvqm"));
    }
  });

  it.skipIf(!cpuRuns)(
    "leaves nothing of k-means after Ctrl-C, and another run gives the bytes of one alone",
    async () => {
      await writeFile(inFolder("many.npy"), writeNpy({ shape: [20_000, dim], data: vectors(20_000, 9) }));
      const kmeans = ["--codewords", "256", "--stages", "4", "--iterations", "60", "--seed", "5"];
      for (const learn of [[], ["--learn", "ema", "--epochs", "1", "--checkpoint", "none.rvqt"]]) {
        const args = (out: string) => ["train", "many.npy", "-o", out, ...kmeans, ...learn];
        const cpu = (out: string, after?: RegExp) =>
          child(args(out), after, [], ["--backend", "cpu", "--threads", "2"]);
        const stopped = await cpu("stopped.rvqm", learn.length === 0 ? /training 25 %/ : /k-means/);
        expect(stopped.code, stopped.err).toBe(130);
        expect(existsSync(inFolder("stopped.rvqm"))).toBe(false);
        expect(existsSync(inFolder("none.rvqt"))).toBe(false);
      }
      const trained = async (out: string, backend: string) => {
        const args = ["train", "many.npy", "-o", out, ...kmeans];
        expect(await child(args, undefined, [], ["--backend", backend])).toMatchObject({ code: 0 });
        return readFile(inFolder(out));
      };
      expect(await trained("again.rvqm", "cpu")).toEqual(await trained("once.rvqm", "js"));
    },
  );

  it.each(["SIGINT", "SIGTERM"] as const)(
    "goes on after %s in mid-training, to the bytes of an uninterrupted run",
    async (signal) => {
      const name = signal.toLowerCase();
      const whole = await child(["train", "vectors.npy", "-o", "child-whole.rvqm", ...long]);
      expect(whole.code, whole.err).toBe(0);
      const checkpoint = ["--checkpoint", `${name}.rvqt`, "--every", "7"];
      const args = ["train", "vectors.npy", "-o", `${name}.rvqm`, ...checkpoint, ...long];
      const stopped = await child(args, /training 25 %/, [], ["--backend", "js"], signal);
      expect(stopped.code).toBe(130);
      expect(existsSync(inFolder(`${name}.rvqm`))).toBe(false);
      const [, step, command] = /stopped after step (\d+) of 600; go on with: rvq (.*)\n/.exec(stopped.err) ?? [];
      expect(Number(step)).toBeGreaterThanOrEqual(150);
      expect(Number(step)).toBeLessThan(600);
      const resumed = await child(command.split(" "));
      expect(resumed.code, resumed.err).toBe(0);
      expect(await readFile(inFolder(`${name}.rvqm`))).toEqual(await readFile(inFolder("child-whole.rvqm")));
    },
  );

  it("ends on SIGTERM in mid-training by k-means with the old model as it was", async () => {
    const short = [...size, "--out", "terminated.rvqm"];
    await child(["train", "vectors.npy", ...short]);
    const old = await readFile(inFolder("terminated.rvqm"));
    const before = await readdir(folder);
    const endless = ["--stages", "40", "--codewords", "512", "--iterations", "1000000", "--out", "terminated.rvqm"];
    const stopped = await child(["train", "vectors.npy", ...endless], /training/, [], ["--backend", "js"], "SIGTERM");
    expect([stopped.code, stopped.err.endsWith("rvq: stopped\n")]).toEqual([130, true]);
    expect(await readdir(folder)).toEqual(before);
    expect(await readFile(inFolder("terminated.rvqm"))).toEqual(old);
  });

  it("ends at once on a second Ctrl-C, with the terminal as it was and the old checkpoint", async () => {
    await child(["train", "vectors.npy", "-o", "child.rvqm", "--checkpoint", "twice.rvqt", ...averages]);
    const old = await readFile(inFolder("twice.rvqt"));
    const before = await readdir(folder);
    // A disk that takes for ever, an impatient user, and a terminal.
    await writeFile(
      inFolder("slow-disk.cjs"),
      `process.stderr.isTTY = true;
       const fs = require("node:fs/promises");
       const { open } = fs;
       fs.open = async (path, ...rest) => {
         const file = await open(path, ...rest);
         if (String(path).endsWith(".tmp")) {
           file.sync = () => new Promise(() => setInterval(() => process.kill(process.pid, "SIGINT"), 50));
         }
         return file;
       };`,
    );
    const args = ["train", "vectors.npy", "-o", "child.rvqm", "--resume", "twice.rvqt"];
    const result = await child(args, undefined, ["--require", inFolder("slow-disk.cjs")]);
    await rm(inFolder("slow-disk.cjs"));
    expect(result.code).toBe(130);
    expect(await readdir(folder)).toEqual(before);
    expect(await readFile(inFolder("twice.rvqt"))).toEqual(old);
  });

  it("brings the cursor back when it ends at once in mid-training", async () => {
    await writeFile(
      inFolder("impatient.cjs"),
      `process.stderr.isTTY = true;
       const write = process.stderr.write.bind(process.stderr);
       process.stderr.write = (text, ...rest) => {
         if (/codebook 2 +mse/.test(String(text))) {
           process.emit("SIGINT");
           process.emit("SIGINT");
         }
         return write(text, ...rest);
       };`,
    );
    const result = await child(["train", "vectors.npy", ...long], undefined, ["--require", inFolder("impatient.cjs")]);
    await rm(inFolder("impatient.cjs"));
    expect(result.code).toBe(130);
    expect(result.err).toContain("\u001b[?25l");
    expect(result.err.endsWith("\u001b[?25h\u001b[?7h\n")).toBe(true);
  });
});
