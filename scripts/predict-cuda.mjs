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
  /** Multiply-adds on the tensor cores. With float32 sums it is half of what professional cards with this chip do. */
  tensor: { float32Sums: 256, float16Sums: 512, int8: 1024 },
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

/** What the kernel of cuda/encode_kernel.cuh does: each number is read off its code, or the machine code of its loop. */
const kernel = {
  warps: 8,
  warpRows: 16,
  steps: [1, 2, 4, 6, 8, 12, 16],
  /** Places of a row that keep the best two: where both can be nearest, all codewords of the place are looked through. */
  places: 16,
  /** Of open rows, those that float32 leaves open too: they compare two codewords in float64, at three operations an element. */
  openInFloat32: 0.05,
};

/**
 * Screens. Shares of open rows, and their codewords, are the larger ones of Gaussian and power-law data at D 128 that
 * `npm run bench -- screens` prints, rounded up.
 */
const float16 = {
  name: "float16",
  leastDim: 0,
  /** Multiply-adds an element, and their rate. */
  products: 1,
  tensor: card.tensor.float32Sums,
  /** Dimensions of a product of 16 rows and 8 codewords. */
  productDims: 16,
  /** A pair: of two pairs six minima and maxima for the two best, and a tag that two rows share. */
  aluPerPair: 3.5,
  /** A pair: score, its upper end, its rank; and the tagging, an integer multiply-add, at half the rate. */
  fmaPerPair: 5,
  instructionsPerPair: 7.5,
  /** An element of a row and stage: subtract, centre, scale, round, two norms, conversions. */
  fmaPerElement: 10,
  aluPerElement: 0,
  /** How often a row is read in a stage. */
  reads: 1,
  chainDims: Number.POSITIVE_INFINITY,
  openRows: 0.06,
  openCodewords: 2,
};
const screens = [
  float16,
  {
    name: "int8",
    // Below, products are not what takes the time: cuda/stage.cuh.
    leastDim: 33,
    products: 3,
    tensor: card.tensor.int8,
    productDims: 32,
    // One more to put two sums together.
    aluPerPair: 4.5,
    // One more to make a number of the sum, and a start of the sum, by an instruction at half the rate.
    fmaPerPair: 8,
    instructionsPerPair: 10.5,
    // Subtract, centre and scale twice, a row's own scale, round, two norms; the largest element and bytes.
    fmaPerElement: 13,
    aluPerElement: 5,
    reads: 2,
    chainDims: Number.POSITIVE_INFINITY,
    openRows: 0.03,
    openCodewords: 2,
  },
  {
    ...float16,
    name: "float16 sums",
    tensor: card.tensor.float16Sums,
    // Sums of so many are added to float32 sums: a conversion at half the rate, and an addition.
    chainDims: 32,
    openRows: 0.26,
    openCodewords: 2.3,
  },
];

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

const results = shapes.flatMap((shape) =>
  screens.filter(({ leastDim }) => shape.dim >= leastDim).map((screen) => predict(shape, screen)),
);
const columns = Object.keys(results[0]);
const line = (cells) => `| ${cells.join(" | ")} |`;
const table = [columns, columns.map(() => "---"), ...results.map((row) => columns.map((key) => row[key]))].map(line);
console.log(`${card.name}, ${rows} vectors; cycles of a multiprocessor for a row and stage\n\n${table.join("\n")}`);
if (process.argv.includes("--docs")) document(table.join("\n"));

/** Cycles for one row and stage on each unit; then both ends: all units side by side, and products and argmin in turn. */
function predict({ name, dim, size, stages }, screen) {
  const steps = kernel.steps.find((least) => 16 * least >= dim);
  const padded = 16 * steps;
  const { warpRows } = kernel;
  const blockRows = kernel.warps * warpRows;
  // What is read of one codeword: two bytes an element, and two floats of its bound.
  const codewordBytes = 2 * padded + 8;
  // An open row is compared with its codewords in float32, and now and then with all of a place.
  const { openRows, openCodewords } = screen;
  const hidden = (openRows * (openCodewords - 1)) / kernel.places;
  const compared = openRows * openCodewords + (hidden * size) / kernel.places;
  const chains = screen.chainDims < padded ? padded / screen.chainDims : 0;

  const tensor = (size * padded * screen.products) / screen.tensor;
  const alu = (size * screen.aluPerPair + dim * screen.aluPerElement) / card.alu;
  const chained = (size * chains * 3) / card.fma;
  const fma = (size * screen.fmaPerPair + dim * (screen.fmaPerElement + 2 * compared)) / card.fma + chained;
  // From shared memory once for a warp's rows, into it once for a block's.
  const shared = (size * codewordBytes * (1 / warpRows + 1 / blockRows)) / card.sharedBytes;
  // A product of 16 rows and 8 codewords, and a load of 32 dimensions of 8 codewords, is an instruction.
  const products = ((size / 8) * (padded / screen.productDims) * screen.products) / warpRows;
  const loads = ((size / 8) * (steps / 2 + 1)) / warpRows;
  const issue = (products + loads + (size * (screen.instructionsPerPair + 2 * chains)) / 32) / card.issue;
  const float64 = (openRows * kernel.openInFloat32 * 2 * dim * 3) / card.float64;
  // The residual is read and written once a stage.
  const perMultiprocessor = card.multiprocessors * card.clock;
  const dram = ((8 * dim + 2) / card.dram) * perMultiprocessor;
  const l2Bytes = (size * codewordBytes) / blockRows + 4 * dim * (screen.reads - 1 + openRows + compared);
  const l2 = (l2Bytes / card.l2) * perMultiprocessor;

  const least = Math.max(tensor, alu, fma, shared, issue, dram, l2);
  const most = Math.max(tensor + alu + chained, shared, issue, dram, l2) + float64;
  const floorTensor = (size * 16 * Math.ceil(dim / 16)) / card.tensor.float32Sums;
  const floor = Math.max(floorTensor, (size * floorPerPair) / card.alu);
  const ms = (cycles) => ((1000 * cycles * rows * stages) / perMultiprocessor).toFixed(1);
  const round = (value) => value.toFixed(1);
  return {
    shape: name,
    stages,
    screen: screen.name,
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
