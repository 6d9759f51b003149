// What a screen on tensor cores leaves open, by its operands and its bound, simulated: docs/gpu.md has the table.
//
//   npm run bench -- screens [--rows=600] [--json=file] [--save]

import { framesOfSignals } from "../lib/audio/audio-model.js";
import { readWav, wavToMono } from "../lib/audio/wav.js";
import { ResidualQuantizer } from "../lib/index.js";
import { makeSearchData, type SearchData } from "./data.js";
import { flag, printTable, type Row, saveJson } from "./results.js";

const count = Number(flag("rows") ?? 600);
const codebookSize = 1024;
const stages = 3;

/** The scores of one row among all codewords, `scores[k] ± bounds[k]`. */
interface Screened {
  readonly scores: Float64Array;
  readonly bounds: Float64Array;
}

/** Rows and codewords in the screen's space: centred, the largest element of a codeword from 2^6 to 2^7. */
interface Space {
  readonly dim: number;
  readonly row: Float64Array;
  readonly codewords: Float64Array;
  readonly norms: Float64Array;
}

/** θ₀ of cuda/screen_bound.h. */
const rowRounding = 2 ** -10 * 0.16;

/** Prepares a stage's codewords, and gives a function for its rows. */
type Screen = (space: Omit<Space, "row">) => (row: Float64Array) => Screened;

const screens: readonly { name: string; screen: Screen }[] = [
  { name: "float16, float32 sums", screen: float16Screen(0) },
  // Roundings of a chain, each of at most the product of the chain's norms: two or four steps of eight dimensions.
  { name: "float16 sums, chains of 16", screen: float16Screen(2 * 2 ** -11) },
  { name: "float16 sums, chains of 32", screen: float16Screen(4 * 2 ** -11) },
  { name: "float16 sums cut off, chains of 16", screen: float16Screen(2 * 2 ** -10) },
  { name: "two int8", screen: limbScreen },
];

function float16Screen(sumRounding: number): Screen {
  return ({ dim, codewords, norms }) => {
    const gamma = (dim + 56) * 17 * 2 ** -27 + sumRounding;
    const rounded = codewords.map(float16);
    const slopes = norms.map((norm, k) => {
      const error = distance(codewords, rounded, k * dim, k * dim, dim);
      return rowRounding * norm + error + gamma * (norm + error);
    });
    return (row) => {
      const operand = row.map(float16);
      const norm = length(row, 0, dim);
      const error = distance(row, operand, 0, 0, dim);
      const radius = norm * Math.max(1, error / norm / rowRounding);
      return {
        scores: norms.map((of, k) => dot(operand, rounded, k * dim) - (of * of) / 2),
        bounds: norms.map((of, k) => radius * slopes[k] + (of * of) / 2 ** 22),
      };
    };
  };
}

/** x = (256·high + low)/scale, both of eight bits: high·high, high·low and low·high are summed exactly, low·low is left out. */
function limbScreen({ dim, codewords, norms }: Omit<Space, "row">): (row: Float64Array) => Screened {
  const { limbs, scale } = toLimbs(codewords);
  const lows = limbs.map(low);
  const norm = (k: number) => ({
    error: Math.hypot(...Array.from({ length: dim }, (_, i) => limbs[k * dim + i] / scale - codewords[k * dim + i])),
    low: length(lows, k * dim, dim) / scale,
  });
  const parts = Array.from(norms, (_, k) => norm(k));
  // Rows are taken to be as peaky as the codewords mostly are: any value is correct.
  const peaks = Array.from(norms, (of, k) => {
    let largest = 0;
    for (let i = 0; i < dim; i++) largest = Math.max(largest, Math.abs(codewords[k * dim + i]));
    return of > 0 ? largest / of : 0;
  }).sort((a, b) => a - b);
  const peak = peaks[peaks.length >> 1];
  // For a row with this share in its largest element: its error, the norm of its low limbs, and a unit, over its norm.
  const unit = peak / 32512;
  const usual = { error: unit * Math.sqrt(dim / 12), low: unit * 256 * Math.sqrt(dim / 12), unit };
  const slopes = norms.map(
    (of, k) =>
      parts[k].error + usual.error * of + usual.low * parts[k].low + (usual.unit * 2 ** 15) / scale + 2 ** -21 * of,
  );
  return (row) => {
    const own = toLimbs(row);
    const ownLows = own.limbs.map(low);
    const rowNorm = length(row, 0, dim);
    const error = Math.hypot(...row.map((x, i) => own.limbs[i] / own.scale - x));
    const ratio = Math.max(
      1,
      error / rowNorm / usual.error,
      length(ownLows, 0, dim) / own.scale / rowNorm / usual.low,
      1 / own.scale / rowNorm / usual.unit,
    );
    return {
      scores: norms.map(
        (of, k) => (dot(own.limbs, limbs, k * dim) - dot(ownLows, lows, k * dim)) / own.scale / scale - (of * of) / 2,
      ),
      bounds: norms.map((of, k) => rowNorm * ratio * slopes[k] + (of * of) / 2 ** 22),
    };
  };
}

function toLimbs(x: Float64Array): { limbs: Float64Array; scale: number } {
  const largest = x.reduce((most, element) => Math.max(most, Math.abs(element)), 0);
  const scale = 32512 / largest;
  return { limbs: x.map((element) => Math.round(element * scale)), scale };
}

function low(limbs: number): number {
  return limbs - 256 * Math.floor((limbs + 128) / 256);
}

function float16(x: number): number {
  const exponent = Math.max(-14, Math.floor(Math.log2(Math.abs(x) || 1)));
  const unit = 2 ** (exponent - 10);
  return Math.round(x / unit) * unit;
}

function dot(row: Float64Array, codewords: Float64Array, start: number): number {
  let sum = 0;
  for (let i = 0; i < row.length; i++) sum += row[i] * codewords[start + i];
  return sum;
}

function length(x: Float64Array, start: number, dim: number): number {
  let sum = 0;
  for (let i = start; i < start + dim; i++) sum += x[i] * x[i];
  return Math.sqrt(sum);
}

function distance(a: Float64Array, b: Float64Array, startA: number, startB: number, dim: number): number {
  let sum = 0;
  for (let i = 0; i < dim; i++) sum += (a[startA + i] - b[startB + i]) ** 2;
  return Math.sqrt(sum);
}

/** The space of a stage's codewords. */
function spaceOf(codebook: Float32Array, dim: number) {
  const size = codebook.length / dim;
  const centre = new Float32Array(dim);
  for (let i = 0; i < dim; i++) {
    let sum = 0;
    for (let k = 0; k < size; k++) sum += codebook[k * dim + i];
    centre[i] = sum / size;
  }
  const centred = Float64Array.from(codebook, (x, i) => x - centre[i % dim]);
  const largest = centred.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  const power = 2 ** (6 - Math.floor(Math.log2(largest)));
  const codewords = centred.map((x) => x * power);
  const norms = Float64Array.from({ length: size }, (_, k) => length(codewords, k * dim, dim));
  const toRow = (x: Float32Array) => Float64Array.from(x, (element, i) => (element - centre[i]) * power);
  return { space: { dim, codewords, norms }, toRow };
}

/** Rows that are left open in percent, and the codewords that each of them has then, on average. */
function measure(screen: Screen, codebook: Float32Array, rows: Float32Array, dim: number) {
  const { space, toRow } = spaceOf(codebook, dim);
  const screened = screen(space);
  let open = 0;
  let candidates = 0;
  for (let n = 0; n < rows.length; n += dim) {
    const { scores, bounds } = screened(toRow(rows.subarray(n, n + dim)));
    let lower = Number.NEGATIVE_INFINITY;
    for (let k = 0; k < scores.length; k++) lower = Math.max(lower, scores[k] - bounds[k]);
    const reach = scores.reduce((sum, score, k) => sum + (score + bounds[k] >= lower ? 1 : 0), 0);
    if (reach > 1) {
      open++;
      candidates += reach;
    }
  }
  return { open: (100 * open * dim) / rows.length, candidates: candidates / open || 0 };
}

async function speech(dim: number): Promise<SearchData> {
  const load = async (name: string) => wavToMono(await readWav(`data/speech16k/${name}.wav`));
  const training = framesOfSignals(await Promise.all(["train_it_male", "train_ru_female"].map(load)), dim);
  const vectors = framesOfSignals([await load("dev_librivox")], dim);
  const rq = await ResidualQuantizer.train(training, { dim, codebookSize, stages, iterations: 3, seed: 1 });
  const codebooks = rq.codebooks();
  rq.dispose();
  return { vectors, codebooks };
}

const results: Row[] = [];
for (const dim of [8, 64, 128, 256]) {
  const shape = { name: `D${dim} K${codebookSize}`, count, dim, codebookSize, stages };
  const sets: [string, SearchData][] = [
    ["gaussian", await makeSearchData("gaussian", shape)],
    ["power-law", await makeSearchData("power-law", shape)],
    ["speech", await speech(dim)],
  ];
  for (const [data, { vectors, codebooks }] of sets) {
    const rq = ResidualQuantizer.fromCodebooks(codebooks, { dim });
    const available = vectors.length / dim;
    const step = Math.max(1, Math.floor(available / count));
    const sample = Float32Array.from(
      { length: Math.min(count, available) * dim },
      (_, i) => vectors[Math.floor(i / dim) * step * dim + (i % dim)],
    );
    for (const stage of [0, stages - 1]) {
      let rows = sample;
      if (stage > 0) {
        const decoded = await rq.decode(await rq.encode(sample, { stages: stage }), { stages: stage });
        rows = sample.map((x, i) => x - decoded[i]);
      }
      const row: Row = { shape: shape.name, data, stage: stage + 1 };
      for (const { name, screen } of screens) {
        const { open, candidates } = measure(screen, codebooks[stage], rows, dim);
        row[name] = `${open.toFixed(1)} (${candidates.toFixed(1)})`;
      }
      results.push(row);
    }
    rq.dispose();
  }
}
printTable(
  "Rows that a screen leaves open, in percent, and in brackets the codewords that each of them is compared with",
  results,
);
saveJson("screens", results);
