// Predicts how close the encode kernel comes to a GeForce RTX 3090's roofline, by counting what a tile costs each unit.
//
//   node scripts/predict-cuda.mjs [--docs]   --docs writes the table into docs/gpu.md
//
// A prediction, not a measurement: units that work side by side are assumed to overlap as far as stated, and no cache misses.

import fs from "node:fs";
import path from "node:path";

const root = path.resolve(import.meta.dirname, "..");

/** Of GA102; rates a clock and multiprocessor. */
const card = {
  name: "RTX 3090",
  multiprocessors: 82,
  clock: 1.695e9,
  /** Multiply-adds of float16 operands and float32 sums: half of what professional cards with this chip do. */
  tensor: 256,
  /** Comparisons and bit operations. */
  alu: 64,
  /** float32 multiply-adds. */
  fma: 128,
  float64: 2,
  /** Warp instructions. */
  issue: 4,
  sharedBytes: 128,
  /** Bytes a second. The L2 figure is what microbenchmarks of this chip report. */
  l2: 2.0e12,
  dram: 936e9,
};

/** What the kernel of cuda/encode_kernel.cuh does: each number is read off its code. */
const kernel = {
  warps: 8,
  warpRows: 16,
  steps: [1, 2, 4, 6, 8, 12, 16],
  /** A pair: of two pairs six minima and maxima for the two best, and a tag that two rows share. */
  aluPerPair: 3.5,
  /** A pair: score, its upper end, its rank; and the tagging, an integer multiply-add, at half the rate. */
  fmaPerPair: 5,
  instructionsPerPair: 7.5,
  /** An element of a row and stage: subtract, centre, scale, round, two norms, conversions. */
  fmaPerElement: 10,
  /** Rows that the screen leaves open, and codewords that each then compares in float64, at three operations an element. */
  openRows: 0.05,
  openCodewords: 3,
};

/** N = 2^20. */
const shapes = [
  { name: "EnCodec D128 K1024", dim: 128, size: 1024, stages: 8 },
  { name: "EnCodec D128 K1024", dim: 128, size: 1024, stages: 32 },
  { name: "DAC D8 K1024", dim: 8, size: 1024, stages: 9 },
  { name: "Mimi D256 K2048", dim: 256, size: 2048, stages: 8 },
  { name: "D64 K1024", dim: 64, size: 1024, stages: 1 },
  { name: "D96 K4096", dim: 96, size: 4096, stages: 1 },
];
const rows = 2 ** 20;

/** Of the benchmark's floor (lib/cli/roofline.ts): operations a pair for the argmin. */
const floorPerPair = 4;

const results = shapes.map(predict);
const columns = Object.keys(results[0]);
const line = (cells) => `| ${cells.join(" | ")} |`;
const table = [columns, columns.map(() => "---"), ...results.map((row) => columns.map((key) => row[key]))].map(line);
console.log(`${card.name}, ${rows} vectors; cycles of a multiprocessor for a row and stage\n\n${table.join("\n")}`);
if (process.argv.includes("--docs")) document(table.join("\n"));

/** Cycles for one row and stage on each unit; then both ends: all units side by side, and products and argmin in turn. */
function predict({ name, dim, size, stages }) {
  const steps = kernel.steps.find((least) => 16 * least >= dim);
  const padded = 16 * steps;
  const { warpRows } = kernel;
  const blockRows = kernel.warps * warpRows;
  // What is read of one codeword: float16 operands, and two floats of its bound.
  const codewordBytes = 2 * padded + 8;

  const tensor = (size * padded) / card.tensor;
  const alu = (size * kernel.aluPerPair) / card.alu;
  const fma = (size * kernel.fmaPerPair + dim * kernel.fmaPerElement) / card.fma;
  // From shared memory once for a warp's rows, into it once for a block's.
  const shared = (size * codewordBytes * (1 / warpRows + 1 / blockRows)) / card.sharedBytes;
  // A product of 16 rows, 8 codewords and 16 dimensions, and a load for two steps of 8 codewords, is an instruction.
  const products = (size / 8) * steps * (1 / 16);
  const loads = ((size / 8) * (steps / 2 + 1)) / warpRows;
  const issue = (products + loads + (size * kernel.instructionsPerPair) / 32) / card.issue;
  const float64 = (kernel.openRows * kernel.openCodewords * dim * 3) / card.float64;
  // The residual is read and written once a stage.
  const perMultiprocessor = card.multiprocessors * card.clock;
  const dram = ((8 * dim + 2) / card.dram) * perMultiprocessor;
  const l2 = ((size * codewordBytes) / blockRows / card.l2) * perMultiprocessor;

  const least = Math.max(tensor, alu, fma, shared, issue, dram, l2);
  const most = Math.max(tensor + alu, shared, issue, dram, l2) + float64;
  const floor = Math.max((size * 16 * Math.ceil(dim / 16)) / card.tensor, (size * floorPerPair) / card.alu);
  const ms = (cycles) => ((1000 * cycles * rows * stages) / perMultiprocessor).toFixed(1);
  const round = (value) => value.toFixed(1);
  return {
    shape: name,
    stages,
    tensor: round(tensor),
    ALU: round(alu),
    FMA: round(fma),
    shared: round(shared),
    issue: round(issue),
    float64: round(float64),
    DRAM: round(dram),
    L2: round(l2),
    "floor ms": ms(floor),
    "predicted ms": `${ms(least + float64)} … ${ms(most)}`,
    "share of the floor %": `${((100 * floor) / most).toFixed(0)} … ${((100 * floor) / (least + float64)).toFixed(0)}`,
  };
}

/** Between the two comments that mark the place. */
function document(text) {
  const file = path.join(root, "docs/gpu.md");
  const content = fs.readFileSync(file, "utf8");
  const marked = /(<!-- predict-cuda -->\n)[\s\S]*?(<!-- end -->)/;
  if (!marked.test(content)) throw new Error("docs/gpu.md has no place for the table");
  fs.writeFileSync(
    file,
    content.replace(marked, (_, begin, end) => `${begin}${text}\n${end}`),
  );
}
