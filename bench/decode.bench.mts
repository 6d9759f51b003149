// Decoding beside copying: bytes of reconstruction a second, against a copy of the same bytes by the runtime.
//
//   npm run bench -- decode [--level=avx2] [--shape=D128] [--seconds=0.5] [--json=file] [--save]
//
// "into an array" writes memory that is there, as `copy` does; without the option `into` the API allocates its result, as `slice`
// does: the first touch of fresh pages costs more than the copy.

import { Random } from "../lib/random.js";
import { cpuLevels, occupyProcessors, openCore, openForm } from "./cpu-forms.js";
import { residualShapes, type Shape, searchShapes } from "./data.js";
import { type Contender, timeInTurns } from "./interleave.js";
import { flag, machine, printTable, type Row, saveJson } from "./results.js";

/** Codes do not depend on data here, and the rows are chosen to give 64 MiB, more than the caches hold. */
const outputBytes = 64 * 2 ** 20;

const seconds = Number(flag("seconds") ?? 0.5);
const rows: Row[] = [];
for (const shape of [...searchShapes, ...residualShapes].filter(({ name }) => name.includes(flag("shape") ?? ""))) {
  const { dim, codebookSize, stages } = shape;
  const count = Math.floor(outputBytes / (4 * dim));
  const random = new Random(1);
  const codebooks = Array.from({ length: stages }, () => randomCodebook(shape, random));
  const data = codebookSize > 65_535 ? new Uint32Array(count * stages) : new Uint16Array(count * stages);
  for (let i = 0; i < data.length; i++) data[i] = random.below(codebookSize);
  const codes = { count, stages, data };
  const expected = decodeFirst(codebooks, dim, data);

  const source = new Float32Array(count * dim).fill(1);
  const target = new Float32Array(count * dim);
  const contenders: (Contender & { check: (() => Promise<Float32Array>) | null })[] = [
    { name: "copy into an array", run: () => target.set(source), check: null },
    { name: "slice (allocates)", run: () => source.slice(), check: null },
  ];
  for (const level of cpuLevels(flag("level"))) {
    const form = { level, screen: undefined };
    for (const threads of [1, 2]) {
      const core = openCore(form, codebooks, dim, threads);
      const rq = openForm(form, codebooks, dim, threads);
      const request = { codes: data, count, codeStages: stages, stages, vectors: target };
      const into = () => {
        core.decodeSync(request);
        return target;
      };
      const ready = () => occupyProcessors(level, threads);
      const suffix = `${level}, ${threads === 1 ? "1 thread" : `${threads} threads`}`;
      contenders.push(
        { name: `core, into an array, ${suffix}`, run: into, ready, check: async () => into() },
        {
          name: `sync API, ${suffix}`,
          ready,
          run: () => rq.decodeSync(codes),
          check: async () => rq.decodeSync(codes),
        },
        { name: `async API, ${suffix}`, ready, run: () => rq.decode(codes), check: () => rq.decode(codes) },
        {
          name: `sync API, into an array, ${suffix}`,
          ready,
          run: () => rq.decodeSync(codes, { into: target }),
          check: async () => rq.decodeSync(codes, { into: target }),
        },
        {
          name: `async API, into an array, ${suffix}`,
          ready,
          run: () => rq.decode(codes, { into: target }),
          check: () => rq.decode(codes, { into: target }),
        },
      );
    }
  }
  for (const { name, check } of contenders) {
    const first = (await check?.())?.subarray(0, dim);
    if (first?.some((x, i) => x !== expected[i])) throw new Error(`${shape.name}, ${name}: wrong`);
  }

  const timings = await timeInTurns(contenders, { seconds });
  for (const [i, { name }] of contenders.entries()) {
    const peer = name.includes("into") ? 0 : 1;
    rows.push({
      shape: shape.name,
      what: name,
      rows: count,
      "median ms": timings[i].ms,
      "GB/s written": (4 * count * dim) / timings[i].ms / 1e6,
      "of the copy's speed %": Math.round((100 * timings[peer].ms) / timings[i].ms),
    });
  }
}
printTable(`Decode, ${outputBytes / 2 ** 20} MiB of reconstruction, ${machine()}`, rows);
saveJson("decode", rows);

function randomCodebook({ codebookSize, dim }: Shape, random: Random): Float32Array {
  return Float32Array.from({ length: codebookSize * dim }, () => random.fraction());
}

/** The reconstruction of the first vector by the definition. */
function decodeFirst(codebooks: readonly Float32Array[], dim: number, codes: ArrayLike<number>): Float32Array {
  const sum = new Float32Array(dim);
  for (const [stage, codebook] of codebooks.entries()) {
    for (let i = 0; i < dim; i++) sum[i] += codebook[codes[stage] * dim + i];
  }
  return sum;
}
