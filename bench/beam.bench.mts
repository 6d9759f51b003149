// Beam search on every backend: the codes must be the same and never worse than greedy before anything is timed.
//
//   npm run bench -- beam [--backend=cpu] [--beam=1,5] [--threads=1,2] [--shape=D128] [--data=gaussian] [--seconds=1] [--json=file]

import { ResidualQuantizer, status } from "../lib/index.js";
import { dataNames, flop, makeSearchData, residualShapes, type SearchData, type Shape } from "./data.js";
import { type Contender, timeInTurns } from "./interleave.js";
import { flag, machine, printTable, type Row, saveJson } from "./results.js";

/** Vectors that the plain definition encodes in a second or so. */
const checkedMultiplyAdds = 1e9;

const seconds = Number(flag("seconds") ?? 1);
const beams = (flag("beam") ?? "1,5").split(",").map(Number);
const threadCounts = (flag("threads") ?? "1,2").split(",").map(Number);
const wanted = flag("backend")?.split(",");
const backends = status().backends.filter(({ name, available }) => available && (wanted?.includes(name) ?? true));

const rows: Row[] = [];
for (const shape of residualShapes.filter(({ name }) => name.includes(flag("shape") ?? ""))) {
  for (const dataName of dataNames.filter((name) => flag("data")?.split(",").includes(name) ?? name === "gaussian")) {
    const data = await makeSearchData(dataName, shape);
    const gains = await check(shape, data);
    for (const { name } of backends) {
      const contenders = threadCounts.flatMap((threads) =>
        beams.map((beam) => contender(name, threads, beam, shape, data)),
      );
      const timings = await timeInTurns(contenders, { seconds });
      for (const [i, { beam, threads, count, close }] of contenders.entries()) {
        rows.push({
          shape: shape.name,
          data: dataName,
          backend: name,
          threads,
          beam,
          "vectors/s": Math.round((1000 * count) / timings[i].ms),
          "GFLOP/s": (beam * flop(shape, count)) / timings[i].ms / 1e6,
          "spread %": Math.round(timings[i].spread),
          "dB over greedy": gains.get(beam) ?? 0,
        });
        close();
      }
    }
    console.error(`${shape.name}, ${dataName}: done`);
  }
}
printTable(`Beam search through the public API (one thread: sync, more: async), ${machine()}`, rows);
saveJson("beam", rows);

interface Encoder extends Contender {
  readonly beam: number;
  readonly threads: number;
  readonly count: number;
  readonly close: () => void;
}

function contender(
  backend: "cuda" | "cpu" | "js",
  threads: number,
  beam: number,
  { count: all, dim, codebookSize, stages }: Shape,
  { vectors, codebooks }: SearchData,
): Encoder {
  const most = backend === "js" ? checkedMultiplyAdds / 4 : 1e11;
  const count = Math.min(all, Math.max(8, Math.floor(most / (dim * codebookSize * stages * beam))));
  const rq = ResidualQuantizer.fromCodebooks(codebooks, { dim, backend, threads });
  const part = vectors.subarray(0, count * dim);
  const run = threads === 1 ? () => rq.encodeSync(part, { beam }) : () => rq.encode(part, { beam });
  const name = `${backend}, ${threads} threads, beam ${beam}`;
  return { name, run, beam, threads, count, close: () => rq.dispose() };
}

/** By how many dB each beam is better than greedy; every backend must give the codes of the definition. */
async function check(shape: Shape, { vectors, codebooks }: SearchData): Promise<Map<number, number>> {
  const { dim, codebookSize, stages } = shape;
  const gains = new Map<number, number>();
  for (const beam of beams) {
    const count = Math.max(2, Math.floor(checkedMultiplyAdds / (dim * codebookSize * stages * beam)));
    const few = vectors.subarray(0, count * dim);
    let expected: ArrayLike<number> | undefined;
    for (const backend of ["js", ...backends.map(({ name }) => name)] as const) {
      const rq = ResidualQuantizer.fromCodebooks(codebooks, { dim, backend });
      const codes = await rq.encode(few, { beam });
      expected ??= codes.data;
      const bad = codes.data.findIndex((code, i) => code !== expected?.[i]);
      if (bad >= 0) throw new Error(`${backend} and js differ at code ${bad} with a beam of ${beam}`);
      const snr = async (of: typeof codes) => (await rq.distortion(few, of))[stages - 1].snrDb;
      const gain = (await snr(codes)) - (await snr(await rq.encode(few)));
      if (gain < 0) throw new Error(`${backend} loses ${-gain} dB to greedy with a beam of ${beam}`);
      gains.set(beam, gain);
      rq.dispose();
    }
  }
  return gains;
}
