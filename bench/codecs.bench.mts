// Quantizers of codecs, projections included: vectors a second and times real time; and the projections alone, beside the peak.
//
//   npm run bench -- codecs [--shape=DAC] [--level=avx2] [--threads=1] [--seconds=1] [--json=file] [--save]
//
// With one thread through the sync API, with two through the async one. Checkpoints are made from a seed in the shapes of the published ones. Codes and reconstructions of every contender are compared with
// the definition for a few vectors, and with each other for all.

import type { Projection } from "../lib/backend.js";
import {
  type FromCheckpointOptions,
  ProjectedQuantizer,
  quantizerFromCheckpoint,
  type Safetensors,
} from "../lib/index.js";
import { openBackend } from "../lib/open-backend.js";
import {
  asFile,
  dacReference,
  dacTensors,
  gaussian,
  mimiReference,
  mimiTensors,
  quantize,
  type ReferencePart,
  type Tensors,
} from "../test/codec-checkpoints.js";
import { cpuLevels, fmaPeak, occupyProcessors } from "./cpu-forms.js";
import { type Contender, timeInTurns } from "./interleave.js";
import { flag, machine, printTable, type Row, saveJson } from "./results.js";

interface Codec {
  readonly name: string;
  readonly tensors: Tensors;
  readonly parts: readonly ReferencePart[];
  readonly metric: "l2" | "cosine";
  readonly residual: boolean;
  readonly dim: number;
  readonly frameRate: number;
  readonly stages: number;
  readonly count: number;
}

const seconds = Number(flag("seconds") ?? 1);
const wanted = flag("shape") ?? "";
const rows: Row[] = [...(await timeCodecs()), ...(await timeProjections())];
saveJson("codecs", rows);

async function timeCodecs(): Promise<Row[]> {
  const rows: Row[] = [];
  for (const codec of codecs()) {
    const { name, tensors, parts, metric, residual, dim, frameRate, stages, count } = codec;
    const vectors = gaussian(1, count * dim);
    const expected = quantize(vectors.subarray(0, 3 * dim), dim, parts, metric, residual);
    const whole = expected.reconstructions.length;
    const file = asFile(tensors);
    const contenders: Contender[] = [];
    let first: { codes: Uint16Array | Uint32Array; vectors: Float32Array } | null = null;
    for (const { title, level, threads, backend } of forms()) {
      if (level !== null) process.env.RVQ_CPU = level;
      const quantizer = openQuantizer(file, { backend, threads });
      delete process.env.RVQ_CPU;
      const codes = await quantizer.encode(vectors, { stages });
      const decoded = await quantizer.decode(codes);
      const right = (_: unknown, i: number) =>
        codes.data[i] === expected.codes[Math.floor(i / stages) * whole + (i % stages)];
      if (!Array.from({ length: 3 * stages }).every(right)) throw new Error(`${name}, ${title}: wrong codes`);
      if (!expected.reconstructions[stages - 1].every((x, i) => x === decoded[i]))
        throw new Error(`${name}, ${title}: wrong`);
      first ??= { codes: codes.data, vectors: decoded };
      const differs =
        first.codes.some((code, i) => code !== codes.data[i]) || first.vectors.some((x, i) => x !== decoded[i]);
      if (differs) throw new Error(`${name}, ${title}: another answer`);
      const ready = () => level !== null && occupyProcessors(level, threads);
      const options = { into: new Float32Array(vectors.length) };
      contenders.push(
        {
          name: `encode, ${title}`,
          ready,
          run: () =>
            threads === 1 ? quantizer.encodeSync(vectors, { stages }) : quantizer.encode(vectors, { stages }),
        },
        {
          name: `decode, ${title}`,
          ready,
          run: () => (threads === 1 ? quantizer.decodeSync(codes, options) : quantizer.decode(codes, options)),
        },
      );
    }
    const timings = await timeInTurns(contenders, { seconds });
    for (const [i, contender] of contenders.entries()) {
      const perSecond = (1000 * count) / timings[i].ms;
      rows.push({
        codec: name,
        what: contender.name,
        vectors: count,
        "median ms": timings[i].ms,
        "vectors/s": Math.round(perSecond),
        "× real time": Math.round(perSecond / frameRate),
      });
    }
  }
  printTable(`Codecs' quantizers, ${machine()}`, rows);
  return rows;
}

function openQuantizer(file: Safetensors, options: FromCheckpointOptions): ProjectedQuantizer {
  const quantizer = quantizerFromCheckpoint(file, options);
  if (!(quantizer instanceof ProjectedQuantizer)) throw new Error("not a ProjectedQuantizer");
  return quantizer;
}

/** Float64: half of the float32 peak. */
async function timeProjections(): Promise<Row[]> {
  const rows: Row[] = [];
  for (const [name, inDim, outDim, count] of [
    ["DAC in", 1024, 8, 4096],
    ["DAC out", 8, 1024, 4096],
    ["Mimi in", 512, 256, 1024],
    ["Mimi out", 256, 512, 1024],
  ] as const) {
    if (!name.includes(wanted)) continue;
    const projection: Projection = { weight: gaussian(2, inDim * outDim), bias: gaussian(3, outDim), inDim, outDim };
    const vectors = gaussian(4, count * inDim);
    const projected = new Float32Array(count * outDim);
    const single = forms().filter(({ threads }) => threads === 1);
    const contenders = single.map(({ title, level, backend }) => {
      if (level !== null) process.env.RVQ_CPU = level;
      const prepared = openBackend(backend, 1).prepareProjection(projection);
      delete process.env.RVQ_CPU;
      const run = () => prepared.projectSync({ vectors, count, projected, into: "replace" });
      run();
      let sum = projection.bias?.[1] ?? 0;
      for (let i = 0; i < inDim; i++) sum += projection.weight[inDim + i] * vectors[i];
      if (projected[1] !== Math.fround(sum)) throw new Error(`${name}, ${title}: wrong`);
      return { name: title, level, run };
    });
    const timings = await timeInTurns(contenders, { seconds: seconds / 4 });
    for (const [i, { name: title, level }] of contenders.entries()) {
      const gflops = (2 * count * inDim * outDim) / timings[i].ms / 1e6;
      const peak = level === null ? "" : Math.round((100 * gflops) / (fmaPeak(level, 1) / 2));
      rows.push({ projection: name, what: title, "GFLOP/s": gflops, "of the float64 peak %": peak });
    }
  }
  printTable("Projections alone, one thread, from and to arrays in the cache", rows);
  return rows;
}

function forms(): { title: string; level: string | null; threads: number; backend: "cpu" | "js" }[] {
  const threadCounts = (flag("threads") ?? "1,2").split(",").map(Number);
  const native = cpuLevels(flag("level")).flatMap((level) =>
    threadCounts.map((threads) => ({
      title: `${level}, ${threads} thread${threads > 1 ? "s" : ""}`,
      level,
      threads,
      backend: "cpu" as const,
    })),
  );
  return [...native, { title: "js, 1 thread", level: null, threads: 1, backend: "js" }];
}

function codecs(): Codec[] {
  const dac = dacTensors({ dim: 1024, codeDim: 8, size: 1024, stages: 9 }, "weight_g");
  const mimi = mimiTensors({ dim: 512, codeDim: 256, size: 2048, rest: 31 }, "Kyutai");
  const ofDac = { tensors: dac, parts: dacReference(dac, 9), metric: "cosine", residual: true, dim: 1024 } as const;
  const ofMimi = {
    tensors: mimi,
    parts: mimiReference(mimi, "Kyutai", 31),
    metric: "l2",
    residual: false,
    dim: 512,
  } as const;
  return [
    { name: "DAC 44.1 kHz, 9 stages", ...ofDac, frameRate: 44_100 / 512, stages: 9, count: 4096 },
    { name: "Mimi, 8 stages", ...ofMimi, frameRate: 12.5, stages: 8, count: 1024 },
    { name: "Mimi, 32 stages", ...ofMimi, frameRate: 12.5, stages: 32, count: 256 },
  ].filter(({ name }) => name.includes(wanted));
}
