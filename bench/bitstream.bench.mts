// What entropy coding saves on the codes of the speech demo, and how fast codes are packed, natively and in TypeScript, and coded.
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

const packing: Row[] = [];
for (const { name, sizes } of [
  { name: "K 256, 8 stages", sizes: alike(256, 8) },
  { name: "K 1024, 8 stages", sizes: alike(1024, 8) },
  { name: "K 1000, 9 stages", sizes: alike(1000, 9) },
  { name: "K 1025, 8 stages", sizes: alike(1025, 8) },
  { name: "K 5, 8 stages", sizes: alike(5, 8) },
  { name: "K 2048, 32 stages", sizes: alike(2048, 32) },
  { name: "K 1024 to 5, 8 stages", sizes: [1024, 1000, 512, 300, 256, 100, 12, 5] },
]) {
  const codes = noise(sizes, 2 ** 20 / sizes.length);
  for (const order of ["frame-major", "stage-major"] as const) {
    for (const dense of [false, true]) {
      const options = { order, dense };
      const packed = packCodes(codes, sizes, options);
      // Which loops run is read from the environment at every call.
      const by = (backend: string, run: () => unknown) => () => {
        process.env.RVQ_BACKEND = backend;
        run();
      };
      const contenders = ["cpu", "js"].flatMap((backend) => {
        process.env.RVQ_BACKEND = backend;
        expectEqual(packCodes(codes, sizes, options), packed);
        expectEqual(unpackCodes(packed, codes.count, sizes, options).data, codes.data);
        return [
          { name: `pack, ${backend}`, run: by(backend, () => packCodes(codes, sizes, options)) },
          { name: `unpack, ${backend}`, run: by(backend, () => unpackCodes(packed, codes.count, sizes, options)) },
        ];
      });
      const timings = await timeInTurns(contenders, { seconds });
      const row: Row = {
        codes: name,
        order,
        dense: String(dense),
        "bits a code": (8 * packed.length) / codes.data.length,
      };
      for (const [i, contender] of contenders.entries())
        row[`${contender.name}: GB/s`] = codes.data.byteLength / timings[i].ms / 1e6;
      packing.push(row);
    }
  }
}
delete process.env.RVQ_BACKEND;
printTable(`Packing, 16-bit codes in or out, one thread, ${machine()}`, packing);

const speeds: Row[] = [];
for (const { name, codes, sizes } of [
  { name: "speech, K 256, 8 stages", codes: firstStages(clipCodes, 8), sizes: rq.codebookSizes.slice(0, 8) },
  ...[alike(1024, 8), alike(1000, 9), alike(5, 8), alike(2048, 32)].map((sizes) => ({
    name: `noise, K ${sizes[0]}, ${sizes.length} stages`,
    codes: noise(sizes, 2 ** 16),
    sizes,
  })),
]) {
  const few = { ...codes, count: Math.min(codes.count, 2048), data: codes.data.slice(0, 2048 * codes.stages) };
  const tables = codeTables(codes, sizes);
  const contenders = (["static", "adaptive", "mixed"] as const).flatMap((coding) => {
    const bytes = compressCodes(few, sizes, { coding, tables });
    expectEqual(expandCodes(bytes, few.count, sizes, { tables }).data, few.data);
    const bits = (8 * bytes.length) / few.data.length;
    return [
      { name: `compressCodes, ${coding}`, bits, run: (): unknown => compressCodes(few, sizes, { coding, tables }) },
      { name: `expandCodes, ${coding}`, bits, run: (): unknown => expandCodes(bytes, few.count, sizes, { tables }) },
    ];
  });
  const timings = await timeInTurns(contenders, { seconds });
  for (const [i, contender] of contenders.entries()) {
    const codesPerSecond = few.data.length / timings[i].ms / 1e3;
    speeds.push({ codes: name, what: contender.name, "bits a code": contender.bits, "Mcodes/s": codesPerSecond });
  }
}
printTable(`Entropy coding, one thread, ${machine()}`, speeds);
saveJson("bitstream", [...savings, ...packing, ...speeds]);

const saved = Number(savings.find((row) => row.stages === 8 && row["frames a chunk"] === 2048)?.["mixed: saved %"]);
if (!(saved >= promisedSaving)) {
  console.error(`saves ${saved} % at 8 stages, promised are ${promisedSaving} %`);
  process.exitCode = 1;
}

function firstStages({ count, stages, data }: Codes, kept: number): Codes {
  return { count, stages: kept, data: data.filter((_, i) => i % stages < kept) };
}

function alike(size: number, stages: number): number[] {
  return new Array<number>(stages).fill(size);
}

function noise(sizes: readonly number[], frames: number): Codes {
  const random = new Random(1);
  const count = Math.floor(frames);
  const data = new Uint16Array(count * sizes.length);
  for (let i = 0; i < data.length; i++) data[i] = random.below(sizes[i % sizes.length]);
  return { count, stages: sizes.length, data };
}

function expectEqual(actual: ArrayLike<number>, expected: ArrayLike<number>): void {
  for (let i = 0; i < expected.length; i++) if (actual[i] !== expected[i]) throw new Error(`code ${i} came back wrong`);
}
