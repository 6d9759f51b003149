// What a screen on tensor cores leaves open, by its operands and its bound, simulated: docs/gpu.md has the table.
//
//   npm run bench -- screens [--rows=600] [--json=file] [--save]

import { framesOfSignals } from "../lib/audio/audio-model.js";
import { readWav, wavToMono } from "../lib/audio/wav.js";
import { ResidualQuantizer } from "../lib/index.js";
import { Random } from "../lib/random.js";
import { normal } from "../test/contract/families.js";
import { makeSearchData, type SearchData } from "./data.js";
import { flag, printTable, type Row, saveJson } from "./results.js";

const count = Number(flag("rows") ?? 600);
const codebookSize = 1024;
const stages = 3;

/** The scores of one row among all codewords, `scores[k] ± bounds[k]`, and what nearness takes from the width of two bounds. */
interface Screened {
  readonly scores: Float64Array;
  readonly bounds: Float64Array;
  nearness(lower: number): number;
}

/** Rows and codewords in the screen's space: centred, the largest element of a codeword from 2^6 to 2^7. */
interface Space {
  readonly dim: number;
  readonly row: Float64Array;
  readonly codewords: Float64Array;
  readonly norms: Float64Array;
}

/** θ₀ of cuda/screen_bound.h. */
const rowRounding = 2 ** -10 * 0.2;
/** γ_c: two steps more, and what makes the score. */
const moreRounding = 3 * 17 * 2 ** -23;

/** Prepares a stage's codewords, and gives a function for its rows. */
type Screen = (space: Omit<Space, "row">) => (row: Float64Array) => Screened;

const screens: readonly { name: string; screen: Screen }[] = [
  { name: "float16, float32 sums", screen: float16Screen(0) },
  { name: "the same by norms alone", screen: byNormsAlone(float16Screen(0)) },
  // Roundings of a chain, each of at most the product of the chain's norms: two or four steps of eight dimensions.
  { name: "float16 sums, chains of 16", screen: float16Screen(2 * 2 ** -11) },
  { name: "float16 sums, chains of 32", screen: float16Screen(4 * 2 ** -11) },
  { name: "float16 sums cut off, chains of 16", screen: float16Screen(2 * 2 ** -10) },
  { name: "two int8", screen: limbScreen },
];

/** Without what nearness takes from the bounds. */
function byNormsAlone(screen: Screen): Screen {
  return (space) => {
    const screened = screen(space);
    return (row) => ({ ...screened(row), nearness: () => 0 });
  };
}

function float16Screen(sumRounding: number): Screen {
  return ({ dim, codewords, norms }) => {
    const steps = Math.ceil(dim / 16);
    const gamma = steps * 17 * 2 ** -23;
    const more = moreRounding + sumRounding;
    const rounded = codewords.map(float16);
    const errors = norms.map((_, k) => distance(codewords, rounded, k * dim, k * dim, dim));
    const sums = norms.map((_, k) => stepsLength(codewords, k * dim, dim));
    const slopes = norms.map(
      (norm, k) => rowRounding * norm + errors[k] + gamma * (sums[k] + errors[k]) + more * (norm + errors[k]),
    );
    const starts = norms.map((_, k) => startOf(codewords, rounded, k * dim, dim));
    const codebook = stageErrors(norms, errors, rowRounding, gamma * Math.min(...sums));
    return (row) => {
      const operand = row.map(float16);
      const norm = length(row, 0, dim);
      const error = distance(row, operand, 0, 0, dim);
      const radius = norm * Math.max(1, error / norm / rowRounding);
      const lengths = { norm, error, sum: stepsLength(row, 0, dim) };
      return {
        scores: norms.map((_, k) => dot(operand, rounded, k * dim) - starts[k]),
        bounds: norms.map((of, k) => radius * slopes[k] + (of * of) / 2 ** 22),
        nearness: (lower) => nearness(radius, lengths, lower, codebook),
      };
    };
  };
}

/** What the codewords of a stage have in common, as in cuda/screen_bound.h. */
interface StageErrors {
  readonly rowRounding: number;
  readonly leastNorm: number;
  readonly least: number;
  readonly largest: number;
  readonly relative: number;
  readonly leastOfSum: number;
}

function stageErrors(norms: Float64Array, errors: Float64Array, rowRounding: number, leastOfSum: number): StageErrors {
  return {
    rowRounding,
    leastNorm: Math.min(...norms),
    least: Math.min(...errors),
    largest: Math.max(...errors),
    relative: Math.max(...errors.map((error, k) => (norms[k] > 0 ? error / norms[k] : 0))),
    leastOfSum,
  };
}

/** 2·G of cuda/screen_bound.h. */
function nearness(
  radius: number,
  row: { norm: number; error: number; sum: number },
  lower: number,
  codebook: StageErrors,
): number {
  const root = Math.sqrt(Math.max(0, row.norm ** 2 - 2 * lower));
  const { relative } = codebook;
  const largest = Math.min(codebook.largest, relative < 2 ** -10 ? relative * (row.norm + root + row.error) : Infinity);
  const d = root + row.error + 2 * largest;
  const leastNorm = Math.max(codebook.leastNorm, row.norm - d);
  const ofRow = radius * codebook.rowRounding * leastNorm - row.error * d;
  const rest = radius - d - row.error;
  const ofSum = (radius - row.sum) * codebook.leastOfSum;
  return 2 * (Math.max(0, ofRow) + rest * (rest > 0 ? codebook.least : largest) + Math.max(0, ofSum));
}

/** What is taken from the products of a row and a rounded codeword: half the codeword's squared norm, and its product with its error. */
function startOf(codewords: Float64Array, rounded: Float64Array, start: number, dim: number): number {
  let sum = 0;
  for (let i = start; i < start + dim; i++) sum += codewords[i] * (rounded[i] - codewords[i] / 2);
  return sum;
}

/** The root mean square, over steps of sixteen elements, of the norm up to the end of the step. */
function stepsLength(x: Float64Array, start: number, dim: number): number {
  let [soFar, sum] = [0, 0];
  for (let i = 0; i < dim; i++) {
    soFar += x[start + i] ** 2;
    if (i % 16 === 15 || i === dim - 1) sum += soFar;
  }
  return Math.sqrt(sum / Math.ceil(dim / 16));
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
  const rounded = limbs.map((x) => x / scale);
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
  const errors = Float64Array.from(parts, ({ error }) => error);
  const starts = norms.map((_, k) => startOf(codewords, rounded, k * dim, dim));
  const codebook = stageErrors(norms, errors, usual.error, 0);
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
        (_, k) => (dot(own.limbs, limbs, k * dim) - dot(ownLows, lows, k * dim)) / own.scale / scale - starts[k],
      ),
      bounds: norms.map((of, k) => rowNorm * ratio * slopes[k] + (of * of) / 2 ** 22),
      nearness: (lower) => nearness(rowNorm * ratio, { norm: rowNorm, error, sum: 0 }, lower, codebook),
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
    const { scores, bounds, nearness } = screened(toRow(rows.subarray(n, n + dim)));
    let lower = Number.NEGATIVE_INFINITY;
    for (let k = 0; k < scores.length; k++) lower = Math.max(lower, scores[k] - bounds[k]);
    lower += nearness(lower);
    const reach = scores.reduce((sum, score, k) => sum + (score + bounds[k] >= lower ? 1 : 0), 0);
    if (reach > 1) {
      open++;
      candidates += reach;
    }
  }
  return { open: (100 * open * dim) / rows.length, candidates: candidates / open || 0 };
}

async function learn(training: Float32Array, dim: number): Promise<Float32Array[]> {
  const rq = await ResidualQuantizer.train(training, { dim, codebookSize, stages, iterations: 3, seed: 1 });
  const codebooks = rq.codebooks();
  rq.dispose();
  return codebooks;
}

/** That of the GPU benchmark: 64 centres, and noise that falls off with the dimension (bench/cuda/server.py). */
async function mixture(dim: number): Promise<SearchData> {
  const random = new Random(6);
  const centres = Float32Array.from({ length: 64 * dim }, () => normal(random));
  const draw = (rows: number) => {
    const matrix = new Float32Array(rows * dim);
    for (let row = 0; row < rows; row++) {
      const centre = random.below(64) * dim;
      for (let i = 0; i < dim; i++) matrix[row * dim + i] = centres[centre + i] + (i + 1) ** -0.3 * normal(random);
    }
    return matrix;
  };
  const codebooks = await learn(draw(20_000), dim);
  return { vectors: draw(count), codebooks };
}

async function speech(dim: number): Promise<SearchData> {
  const load = async (name: string) => wavToMono(await readWav(`data/speech16k/${name}.wav`));
  const training = framesOfSignals(await Promise.all(["train_it_male", "train_ru_female"].map(load)), dim);
  const vectors = framesOfSignals([await load("dev_librivox")], dim);
  return { vectors, codebooks: await learn(training, dim) };
}

const results: Row[] = [];
for (const dim of [8, 64, 128, 256, 768]) {
  const shape = { name: `D${dim} K${codebookSize}`, count, dim, codebookSize, stages };
  const sets: [string, SearchData][] = [
    ["gaussian", await makeSearchData("gaussian", shape)],
    ["power-law", await makeSearchData("power-law", shape)],
    ["mixture", await mixture(dim)],
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
