// What the GPU benchmark searches: shapes, and what is wanted of them.

export interface DataSet {
  readonly name: string;
  readonly dim: number;
  readonly size: number;
  /** Stages that are learnt; `runs` are the numbers that are measured, the codebooks being those of the first stages. */
  readonly stages: number;
  readonly runs: readonly number[];
  readonly rows: number;
  readonly distinct: number;
  readonly compile?: boolean;
  /** Least ratio to a peer, at the first of `runs`. */
  readonly targets?: Readonly<Record<string, number>>;
  /** Least share of the float16 roofline, in percent. */
  readonly tensorTarget?: number;
}

const million = 2 ** 20;
const distinct = 2 ** 16;

/** The most telling first: a run may end before the last. */
export const dataSets: readonly DataSet[] = [
  {
    name: "EnCodec D128 K1024",
    ...{ dim: 128, size: 1024, stages: 32, runs: [8, 32], rows: million, distinct, compile: true },
    targets: { "PyTorch cdist": 20, "compiled TF32": 4, "flash-kmeans, assign alone": 1.3 },
    tensorTarget: 60,
  },
  {
    name: "DAC D8 K1024",
    ...{ dim: 8, size: 1024, stages: 9, runs: [9], rows: million, distinct, compile: true },
    targets: { "compiled TF32": 3 },
  },
  { name: "Mimi D256 K2048", dim: 256, size: 2048, stages: 8, runs: [8], rows: million, distinct, tensorTarget: 60 },
  { name: "D768 K1024", dim: 768, size: 1024, stages: 1, runs: [1], rows: million, distinct },
  { name: "D64 K1024", dim: 64, size: 1024, stages: 1, runs: [1], rows: million, distinct },
  { name: "D96 K4096", dim: 96, size: 4096, stages: 1, runs: [1], rows: million, distinct },
  {
    name: "D768 K65536",
    ...{ dim: 768, size: 65_536, stages: 1, runs: [1], rows: distinct, distinct, tensorTarget: 50 },
  },
];
