// How long making a quantizer holds the calling thread: `fromCodebooks`, of codebooks that the backend then prepares for searches.
//
//   npm run bench -- making [--threads=2] [--seconds=2] [--json=file] [--save]

import { ResidualQuantizer } from "../lib/index.js";
import { gaussian, type Shape } from "./data.js";
import { timeInTurns } from "./interleave.js";
import { flag, machine, printTable, type Row, saveJson } from "./results.js";

const shapes: readonly Omit<Shape, "count">[] = [
  { name: "D128 K1024 8 stages (EnCodec)", dim: 128, codebookSize: 1024, stages: 8 },
  { name: "D8 K1024 9 stages (DAC)", dim: 8, codebookSize: 1024, stages: 9 },
  { name: "D256 K2048 32 stages (Mimi)", dim: 256, codebookSize: 2048, stages: 32 },
  { name: "D64 K65536", dim: 64, codebookSize: 65536, stages: 1 },
  { name: "D768 K65536", dim: 768, codebookSize: 65536, stages: 1 },
];

const seconds = Number(flag("seconds") ?? 2);
const threads = flag("threads") === undefined ? undefined : Number(flag("threads"));
const rows: Row[] = [];
for (const shape of shapes) {
  const { dim, stages } = shape;
  const { codebooks } = gaussian({ ...shape, count: 1 });
  const backends = ["cpu", "js"] as const;
  const contenders = backends.map((backend) => ({
    name: backend,
    run: () => ResidualQuantizer.fromCodebooks(codebooks, { dim, backend, threads }).dispose(),
  }));
  const timings = await timeInTurns(contenders, { seconds });
  for (const [i, backend] of backends.entries()) {
    const elements = stages * shape.codebookSize * dim;
    rows.push({
      shape: shape.name,
      backend,
      "median ms": timings[i].ms,
      "ns an element": (1e6 * timings[i].ms) / elements,
    });
  }
}
printTable(`Making a quantizer, ${machine()}`, rows);
saveJson("making", rows);
