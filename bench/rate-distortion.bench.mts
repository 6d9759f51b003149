// Rate and distortion on real speech: codebooks trained on two speakers, measured on them and on speakers never heard;
// greedily, and then with a beam of 5, before and after joint refinement.
//
//   npm run bench -- rate-distortion [--backend=cpu] [--seed=1] [--json=file]

import { framesOfSignals } from "../lib/audio/audio-model.js";
import { speechRecipe } from "../lib/audio/recipe.js";
import { readWav, wavToMono } from "../lib/audio/wav.js";
import { type BackendChoice, ResidualQuantizer } from "../lib/index.js";
import { flag, machine, printTable, type Row, saveJson } from "./results.js";

const { hop, sampleRate, training } = speechRecipe;

/** What the package promises, in dB, by number of stages. */
const promised: Readonly<Record<number, { training: number; unseen: number }>> = {
  1: { training: 4.85, unseen: 1.5 },
  4: { training: 9.45, unseen: 5.4 },
  8: { training: 12.6, unseen: 7.8 },
  16: { training: 17.0, unseen: 10.4 },
  32: { training: 23.7, unseen: 13.9 },
};

/** What it promises with a beam of 5 after joint refinement, in dB on the unseen speaker. */
const promisedWithBeam: Readonly<Record<number, number>> = { 4: 6.2, 8: 9.0, 16: 11.9, 32: 15.7 };
const beam = 5;

const load = async (name: string) => wavToMono(await readWav(`data/speech16k/${name}.wav`));
const trainingFrames = framesOfSignals([await load("train_it_male"), await load("train_ru_female")], hop);
const unseenFrames = framesOfSignals([await load("dev_librivox")], hop);

const start = performance.now();
const rq = await ResidualQuantizer.train(trainingFrames, {
  ...training,
  dim: hop,
  seed: Number(flag("seed") ?? training.seed),
  backend: (flag("backend") ?? "auto") as BackendChoice,
});
const seconds = (performance.now() - start) / 1000;

const trainingDistortion = await rq.distortion(trainingFrames, await rq.encode(trainingFrames));
const unseenDistortion = await rq.distortion(unseenFrames, await rq.encode(unseenFrames));
const frameRate = sampleRate / hop;
const rows = Object.entries(promised).map(([stages, floor]) => {
  const s = Number(stages);
  return {
    stages: s,
    "kbit/s": (rq.bitsPerVector(s) * frameRate) / 1000,
    "training SNR dB": trainingDistortion[s - 1].snrDb,
    "at least": floor.training,
    "unseen SNR dB": unseenDistortion[s - 1].snrDb,
    "at least ": floor.unseen,
  };
});
printTable(
  `Speech, MDCT frames of ${hop}, K ${training.codebookSize}, greedy, trained on ${rq.backend} in ${seconds.toFixed(1)} s, ${machine()}`,
  rows,
);

// A beam's codes are for the stages that it was asked for; the last column shows what cutting them later gives.
const refined = await rq.refine(trainingFrames, { shrinkage: training.shrinkage });
const trainingByRefined = await refined.distortion(trainingFrames, await refined.encode(trainingFrames));
const wholeBeam = await rq.distortion(unseenFrames, await rq.encode(unseenFrames, { beam }));
const unseenSnr = async (quantizer: ResidualQuantizer, stages: number, width: number) =>
  (await quantizer.distortion(unseenFrames, await quantizer.encode(unseenFrames, { stages, beam: width })))[stages - 1]
    .snrDb;
const beamRows: Row[] = [];
for (const stages of Object.keys(promised).map(Number)) {
  beamRows.push({
    stages,
    greedy: unseenDistortion[stages - 1].snrDb,
    "beam 5": await unseenSnr(rq, stages, beam),
    "refined, greedy": await unseenSnr(refined, stages, 1),
    "refined, beam 5": await unseenSnr(refined, stages, beam),
    "at least": promisedWithBeam[stages] ?? 0,
    "training speakers, refined, greedy": trainingByRefined[stages - 1].snrDb,
    "prefix of 32 stages with beam 5": wholeBeam[stages - 1].snrDb,
  });
}
printTable(`The unseen speaker, SNR in dB, ${machine()}`, beamRows);
saveJson("rate-distortion", [...rows, ...beamRows]);
const missed = [
  ...rows.filter((row) => row["training SNR dB"] < row["at least"] || row["unseen SNR dB"] < row["at least "]),
  ...beamRows.filter((row) => row["refined, beam 5"] < row["at least"]),
];
if (missed.length > 0) {
  console.error(`below what is promised at ${missed.map(({ stages }) => stages).join(", ")} stages`);
  process.exitCode = 1;
}
