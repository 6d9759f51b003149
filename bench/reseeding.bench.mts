// What re-seeding dead codewords does on real speech: trainers with good and with collapsed codebooks to start from.
//
//   npm run bench -- reseeding [--backend=cpu] [--steps=400] [--json=file]

import { framesOfSignals } from "../lib/audio/audio-model.js";
import { readWav, wavToMono } from "../lib/audio/wav.js";
import { type BackendChoice, CodebookTrainer, type ResidualQuantizer } from "../lib/index.js";
import { Random } from "../lib/random.js";
import { flag, machine, printTable, type Row, saveJson } from "./results.js";

const dim = 160;
const codebookSize = 256;
const stages = 8;
const batchRows = 1024;
const steps = Number(flag("steps") ?? 400);
const backend = (flag("backend") ?? "auto") as BackendChoice;

const load = async (name: string) => wavToMono(await readWav(`data/speech16k/${name}.wav`));
const training = framesOfSignals([await load("train_it_male"), await load("train_ru_female")], dim);
const unseen = framesOfSignals([await load("dev_librivox")], dim);

/** Frames drawn at random, the same for every trainer. */
function* drawBatches(): Generator<Float32Array, never> {
  const random = new Random(5);
  for (;;) {
    const batch = new Float32Array(batchRows * dim);
    for (let n = 0; n < batchRows; n++) {
      const row = random.below(training.length / dim);
      batch.set(training.subarray(row * dim, (row + 1) * dim), n * dim);
    }
    yield batch;
  }
}

/** The first stage far away from all frames, one codeword behind the other, and the others next to zero. */
function collapsed(): Float32Array[] {
  const random = new Random(6);
  return Array.from({ length: stages }, (_, stage) =>
    new Float32Array(codebookSize * dim).map((_, i) =>
      stage === 0 ? 0.5 + 0.001 * Math.floor(i / dim) : 1e-4 * (random.fraction() - 0.5),
    ),
  );
}

async function measure(rq: ResidualQuantizer, frames: Float32Array) {
  const codes = await rq.encode(frames);
  const distortion = await rq.distortion(frames, codes);
  return { snr: [distortion[0].snrDb, distortion[stages - 1].snrDb], usage: rq.usage(codes) };
}

const rows: Row[] = [];
for (const start of ["k-means", "collapsed"] as const) {
  for (const ratio of [0, 0.03, 0.1, 0.3]) {
    const batches = drawBatches();
    const options = { dim, backend, seed: 1, reseed: ratio > 0, deadBelow: { ratio } };
    const trainer =
      start === "k-means"
        ? await CodebookTrainer.start(batches.next().value, { ...options, codebookSize, stages })
        : CodebookTrainer.fromCodebooks(collapsed(), options);
    let reseeded = 0;
    for (let step = 0; step < steps; step++) {
      const report = await trainer.step(batches.next().value);
      for (const stage of report.stages) reseeded += stage.reseeded;
    }
    const rq = trainer.quantizer();
    const seen = await measure(rq, training);
    const other = await measure(rq, unseen);
    rows.push({
      start,
      "deadBelow ratio": ratio === 0 ? "off" : ratio,
      "re-seeded": reseeded,
      "used, stage 1": seen.usage[0].used,
      "least used stage": Math.min(...seen.usage.map(({ used }) => used)),
      "SNR dB, 1 stage": seen.snr[0],
      "8 stages": seen.snr[1],
      "unseen, 1 stage": other.snr[0],
      "unseen, 8 stages": other.snr[1],
    });
  }
}
printTable(
  `Speech, MDCT frames of ${dim}, K ${codebookSize}, ${stages} stages, ${steps} steps of ${batchRows} frames, decay 0.99, ${machine()}`,
  rows,
);
saveJson("reseeding", rows);
