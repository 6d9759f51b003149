// The least time that a machine needs for a piece of work: of a GPU from what it is, of a processor from what it did just now.

/** Multiply-adds a clock and multiprocessor: float16 operands, float32 sums, dense. GeForce cards do half of it. */
const tensorRates: Readonly<Record<string, number>> = {
  "7.5": 512,
  "8.0": 1024,
  "8.6": 512,
  "8.9": 512,
  "9.0": 2048,
  "10.0": 4096,
  "12.0": 512,
};
/** MHz for which the makers state their rates; other cards: the highest clock that they report. */
const statedClocks: readonly [name: RegExp, mhz: number][] = [
  [/H100.*HBM3|H200/, 1830],
  [/A100/, 1410],
  [/RTX 3090$/, 1695],
  [/RTX 4090$/, 2520],
];
/** What a pair of vector and codeword costs beside its product: subtract or compare, choose, keep. */
const operationsPerPair = 4;
/** Integer and compare operations a clock and multiprocessor. */
const aluLanes = 64;
/** The tensor cores take sixteen dimensions at a time. */
const dimStep = 16;

/** What the rates of a card follow from. */
export interface Card {
  readonly name: string;
  /** "9.0" */
  readonly computeCapability: string;
  readonly multiprocessors: number;
  readonly clockMhz: number;
}

export interface Rates {
  /** float16 products, TFLOP/s. */
  readonly tensor: number;
  /** Operations of the epilogue, 10^12/s. */
  readonly alu: number;
  readonly clockMhz: number;
}

/** null: a card that the table does not know. */
export function ratesOf({ name, computeCapability, multiprocessors, clockMhz: highestMhz }: Card): Rates | null {
  const rate = tensorRates[computeCapability];
  const clockMhz = statedClocks.find(([pattern]) => pattern.test(name))?.[1] ?? highestMhz;
  if (rate === undefined || !(clockMhz > 0)) return null;
  const clocks = multiprocessors * clockMhz * 1e6;
  const tensor = (2 * rate * (/GeForce/.test(name) ? 0.5 : 1) * clocks) / 1e12;
  return { tensor, alu: (aluLanes * clocks) / 1e12, clockMhz };
}

export interface Search {
  readonly rows: number;
  readonly dim: number;
  readonly size: number;
  readonly stages: number;
}

export interface Floors {
  /** ms to read the vectors and write 16-bit codes once. */
  readonly memory: number;
  /** ms of the products on tensor cores. */
  readonly tensor: number;
  /** ms of the argmin. */
  readonly epilogue: number;
}

/** `deviceGbps`: of a copy, bytes read and written. */
export function floorsOf({ rows, dim, size, stages }: Search, rates: Rates, deviceGbps: number): Floors {
  const pairs = rows * size * stages;
  const padded = Math.ceil(dim / dimStep) * dimStep;
  return {
    memory: (rows * (4 * dim + 2 * stages)) / (1e6 * deviceGbps),
    tensor: (2 * pairs * padded) / (1e9 * rates.tensor),
    epilogue: (operationsPerPair * pairs) / (1e9 * rates.alu),
  };
}
