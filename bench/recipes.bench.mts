// How the demo's defaults were chosen: each recipe learns two of three speakers and is measured on the third.
//
//   npm run bench -- recipes [--only=word] [--backend=cpu] [--json=file]
//
// The speakers differ in language, sex and recording chain; the mean over the three folds decides. A recipe that is judged on
// the frames it was trained on looks the better the more it remembers.

import { framesOfSignals } from "../lib/audio/audio-model.js";
import { type AudioRecipe, demoRecipe, newSpeakersRecipe, speechRecipe } from "../lib/audio/recipe.js";
import { trainingFrames } from "../lib/audio/training-frames.js";
import { readWav, wavToMono } from "../lib/audio/wav.js";
import { type BackendChoice, ResidualQuantizer } from "../lib/index.js";
import { flag, machine, printTable, saveJson } from "./results.js";

const speakers = ["train_it_male", "train_ru_female", "dev_librivox"] as const;
const reportedStages = [4, 8, 16, 32];

const vary = (recipe: AudioRecipe, training: Partial<AudioRecipe["training"]>, frames: Partial<AudioRecipe> = {}) => ({
  ...recipe,
  ...frames,
  training: { ...recipe.training, ...training },
});
const plain = { shrinkage: 0, minClusterSize: 1, sampleSize: 65_536 };
// Every "…" differs from newSpeakersRecipe in the one thing it names.
const candidates: Readonly<Record<string, AudioRecipe>> = {
  "plain k-means": vary(speechRecipe, plain),
  speechRecipe,
  "newSpeakersRecipe, one sign": vary(newSpeakersRecipe, {}, { negated: false }),
  newSpeakersRecipe,
  "… shrinkage 0": vary(newSpeakersRecipe, { shrinkage: 0 }),
  "… shrinkage 10": vary(newSpeakersRecipe, { shrinkage: 10 }),
  "… only empty clusters": vary(newSpeakersRecipe, { minClusterSize: 1 }),
  "… 10 iterations": vary(newSpeakersRecipe, { iterations: 10 }),
  "… K 128": vary(newSpeakersRecipe, { codebookSize: 128 }),
  "… K 512": vary(newSpeakersRecipe, { codebookSize: 512 }),
  "… hop 80": vary(newSpeakersRecipe, {}, { hop: 80 }),
  "… hop 320": vary(newSpeakersRecipe, {}, { hop: 320 }),
  "… framed at 2 shifts": vary(newSpeakersRecipe, {}, { shifts: 2 }),
  "… framed at 4 shifts (demoRecipe)": demoRecipe,
};

const signals = new Map<string, Float32Array>();
for (const name of speakers) signals.set(name, wavToMono(await readWav(`data/speech16k/${name}.wav`)));
const signalOf = (name: string) => signals.get(name) as Float32Array;

const rows: Record<string, string | number>[] = [];
for (const [name, recipe] of Object.entries(candidates)) {
  if (!name.includes(flag("only") ?? "")) continue;
  const start = performance.now();
  const folds: number[][] = [];
  for (const left of speakers) folds.push(await unseenSnr(recipe, left));
  const seconds = (performance.now() - start) / 1000 / speakers.length;
  const mean = reportedStages.map((_, i) => folds.reduce((sum, fold) => sum + fold[i], 0) / folds.length);
  const bits = (Math.log2(recipe.training.codebookSize) * recipe.sampleRate) / recipe.hop / 1000;
  const row: Record<string, string | number> = { recipe: name, "kbit/s a codebook": bits, "mean SNR dB": show(mean) };
  for (const [i, left] of speakers.entries()) row[left] = show(folds[i]);
  rows.push({ ...row, "training s": seconds });
  console.error(`${name}: ${show(mean)}`);
}
printTable(`SNR in dB on a speaker not trained on, at ${reportedStages.join(" / ")} codebooks, ${machine()}`, rows);
saveJson("recipes", rows);

/** SNR on `left` at the reported stages, in dB, after training on the other speakers. */
async function unseenSnr(recipe: AudioRecipe, left: string): Promise<number[]> {
  const others = speakers.filter((name) => name !== left).map(signalOf);
  const rq = await ResidualQuantizer.train(trainingFrames(others, recipe), {
    ...recipe.training,
    dim: recipe.hop,
    backend: (flag("backend") ?? "auto") as BackendChoice,
  });
  const frames = framesOfSignals([signalOf(left)], recipe.hop);
  const distortion = await rq.distortion(frames, await rq.encode(frames));
  rq.dispose();
  return reportedStages.map((stages) => distortion[stages - 1].snrDb);
}

function show(values: readonly number[]): string {
  return values.map((value) => value.toFixed(2)).join(" / ");
}
