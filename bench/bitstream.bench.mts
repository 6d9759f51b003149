// What entropy coding saves on the codes of the speech demo, and how fast codes are packed and coded.
//
//   npm run bench -- bitstream [--model=rvq-demo/model.rvqm] [--seconds=0.5] [--json=file] [--save]
//
// Without a model, the demo's is trained first. The clip is a speaker that it was not trained on; the tables of "static" are from
// its training recordings. Every coding is decoded and compared before it is timed.

import { framesOfSignals } from "../lib/audio/audio-model.js";
import { demoRecipe } from "../lib/audio/recipe.js";
import { trainingFrames } from "../lib/audio/training-frames.js";
import { readWav, wavToMono } from "../lib/audio/wav.js";
import {
  type Codes,
  codeTables,
  compressCodes,
  expandCodes,
  packCodes,
  packedSizeBytes,
  ResidualQuantizer,
  unpackCodes,
} from "../lib/index.js";
import { Random } from "../lib/random.js";
import { timeInTurns } from "./interleave.js";
import { flag, machine, printTable, type Row, saveJson } from "./results.js";

/** What the package promises: percent saved against packed at 8 stages. */
const promisedSaving = 5;

const seconds = Number(flag("seconds") ?? 0.5);
const { hop, training } = demoRecipe;
const load = async (name: string) => wavToMono(await readWav(`data/speech16k/${name}.wav`));
const trainingSignals = [await load("train_it_male"), await load("train_ru_female")];
const model = flag("model");
const rq =
  model === undefined
    ? await ResidualQuantizer.train(trainingFrames(trainingSignals, demoRecipe), { ...training, dim: hop })
    : await ResidualQuantizer.load(model);
const trainingCodes = await rq.encode(framesOfSignals(trainingSignals, hop));
const clipCodes = await rq.encode(framesOfSignals([await load("dev_librivox")], hop));

const savings: Row[] = [];
for (const stages of [4, 8, 16, 32]) {
  const sizes = rq.codebookSizes.slice(0, stages);
  const tables = codeTables(firstStages(trainingCodes, stages), sizes);
  const codes = firstStages(clipCodes, stages);
  const packed = packedSizeBytes(codes.count, sizes);
  for (const frames of [256, 1024, 2048, codes.count]) {
    const row: Row = { stages, "frames a chunk": frames, "packed bytes": packed };
    for (const coding of ["static", "adaptive", "mixed"] as const) {
      let bytes = 0;
      for (let first = 0; first < codes.count; first += frames) {
        const count = Math.min(frames, codes.count - first);
        const data = codes.data.slice(first * stages, (first + count) * stages);
        const coded = compressCodes({ count, stages, data }, sizes, { coding, tables });
        expectEqual(expandCodes(coded, count, sizes, { tables }).data, data);
        bytes += coded.length;
      }
      row[`${coding}: saved %`] = 100 * (1 - bytes / packed);
    }
    savings.push(row);
  }
}
printTable(`Codes of dev_librivox, ${clipCodes.count} frames, K ${training.codebookSize}, against packed`, savings);

const speeds: Row[] = [];
for (const { name, codes, sizes } of [
  { name: "speech, K 256, 8 stages", codes: firstStages(clipCodes, 8), sizes: rq.codebookSizes.slice(0, 8) },
  { name: "noise, K 1024, 8 stages", ...noise(1024, 8, 2 ** 16) },
  { name: "noise, K 1000, 9 stages", ...noise(1000, 9, 2 ** 16) },
  { name: "noise, K 5, 8 stages", ...noise(5, 8, 2 ** 16) },
  { name: "noise, K 2048, 32 stages", ...noise(2048, 32, 2 ** 14) },
]) {
  const { count, data } = codes;
  const tables = codeTables(codes, sizes);
  const packed = packCodes(codes, sizes);
  expectEqual(unpackCodes(packed, count, sizes).data, data);
  const contenders = [
    { name: "packCodes", bytes: packed.length, run: (): unknown => packCodes(codes, sizes) },
    { name: "unpackCodes", bytes: packed.length, run: (): unknown => unpackCodes(packed, count, sizes) },
  ];
  const few = { ...codes, count: Math.min(count, 2048), data: data.slice(0, 2048 * codes.stages) };
  for (const coding of ["static", "adaptive", "mixed"] as const) {
    const bytes = compressCodes(few, sizes, { coding, tables });
    expectEqual(expandCodes(bytes, few.count, sizes, { tables }).data, few.data);
    contenders.push(
      {
        name: `compressCodes, ${coding}`,
        bytes: bytes.length,
        run: () => compressCodes(few, sizes, { coding, tables }),
      },
      {
        name: `expandCodes, ${coding}`,
        bytes: bytes.length,
        run: () => expandCodes(bytes, few.count, sizes, { tables }),
      },
    );
  }
  const timings = await timeInTurns(contenders, { seconds });
  for (const [i, contender] of contenders.entries()) {
    const length = contender.name.includes("pack") ? data.length : few.data.length;
    const codesPerSecond = length / timings[i].ms / 1e3;
    const bits = (8 * contender.bytes) / length;
    const speed = { "Mcodes/s": codesPerSecond, "MB/s of codes": 2 * codesPerSecond };
    speeds.push({ codes: name, what: contender.name, "bits a code": bits, ...speed });
  }
}
printTable(`Speed, 16-bit codes in or out, one thread, ${machine()}`, speeds);
saveJson("bitstream", [...savings, ...speeds]);

const saved = Number(savings.find((row) => row.stages === 8 && row["frames a chunk"] === 2048)?.["mixed: saved %"]);
if (!(saved >= promisedSaving)) {
  console.error(`saves ${saved} % at 8 stages, promised are ${promisedSaving} %`);
  process.exitCode = 1;
}

function firstStages({ count, stages, data }: Codes, kept: number): Codes {
  return { count, stages: kept, data: data.filter((_, i) => i % stages < kept) };
}

function noise(size: number, stages: number, count: number): { codes: Codes; sizes: number[] } {
  const random = new Random(1);
  const data = new Uint16Array(count * stages);
  for (let i = 0; i < data.length; i++) data[i] = random.below(size);
  return { codes: { count, stages, data }, sizes: new Array<number>(stages).fill(size) };
}

function expectEqual(actual: ArrayLike<number>, expected: ArrayLike<number>): void {
  for (let i = 0; i < expected.length; i++) if (actual[i] !== expected[i]) throw new Error(`code ${i} came back wrong`);
}
