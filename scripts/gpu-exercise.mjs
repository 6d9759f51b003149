// Runs every operation of the `cuda` backend once on a short list of shapes, and compares with the definition: the program
// that scripts/gpu.sh runs under compute-sanitizer.
//
//   node scripts/gpu-exercise.mjs [backend]   with dist/ built; another backend to try this script itself

import { newCodeArray } from "../dist/code-array.js";
import { CodebookTrainer, ResidualQuantizer, vectorRange } from "../dist/index.js";
import { openBackend } from "../dist/open-backend.js";
import { Random } from "../dist/random.js";

/** Odd counts and dimensions, one and several tiles of each, both sides of D 256, many exact ties on the grid. */
const shapes = [
  { count: 1, dim: 1, sizes: [1], data: "normal" },
  { count: 5, dim: 3, sizes: [7, 5, 6, 4], data: "grid" },
  // Several blocks of rows from which seeds are drawn; all rows equal, and not.
  { count: 2100, dim: 1, sizes: [5], data: "grid" },
  { count: 2100, dim: 3, sizes: [9], data: "normal" },
  { count: 66, dim: 8, sizes: [1024, 1000, 3], data: "normal" },
  { count: 131, dim: 17, sizes: [65, 64, 20, 64], data: "grid" },
  { count: 259, dim: 64, sizes: [128, 128, 200, 128], data: "normal" },
  { count: 100, dim: 96, sizes: [4100], data: "normal" },
  { count: 133, dim: 128, sizes: [256, 256, 256, 256, 256, 256, 256, 256], data: "normal" },
  { count: 70, dim: 128, sizes: [1024, 1024], data: "grid" },
  { count: 35, dim: 256, sizes: [300, 2048], data: "normal" },
  { count: 21, dim: 300, sizes: [40, 19], data: "grid" },
  { count: 70, dim: 352, sizes: [140, 70], data: "normal" },
  { count: 150, dim: 400, sizes: [260, 70, 130], data: "normal" },
  { count: 17, dim: 768, sizes: [130], data: "normal" },
  { count: 7, dim: 1000, sizes: [21], data: "normal" },
];
const forms = [
  { metric: "l2", weighted: false },
  { metric: "l2", weighted: true },
  { metric: "cosine", weighted: false },
];

const name = process.argv[2] ?? "cuda";
const [tried, definition] = [openBackend(name, undefined), openBackend("js", undefined)];
console.log(`exercise: ${tried.name}, ${tried.description}`);
let compared = 0;
for (const [index, shape] of shapes.entries()) {
  for (const form of forms) {
    const input = makeInput(shape, form, index + 1);
    const [actual, expected] = [await runAll(tried, input), await runAll(definition, input)];
    for (const key of Object.keys(expected)) expectSame(actual[key], expected[key], { key, ...shape, ...form });
    if (tried.name === "cuda") await runResident(input, expected, { ...shape, ...form });
  }
  console.log(`exercise: N ${shape.count} D ${shape.dim} K ${shape.sizes.join(" ")} ${shape.data}`);
}
console.log(`exercise: ${compared} results are the same`);

/** Every operation on one input; the outputs by name. */
async function runAll(backend, { spec, vectors, centre, count }) {
  const { dim, codebooks, weights } = spec;
  const stages = codebooks.length;
  const sizes = codebooks.map((codebook) => codebook.length / dim);
  const prepared = backend.prepare(spec);
  const codes = newCodeArray(count * stages, sizes);
  const residuals = new Float32Array(count * dim);
  const bad = await prepared.encode({ vectors, count, stages, codes, residuals });
  if (bad !== null) throw new Error(`encode refuses ${JSON.stringify(bad)}`);
  const sync = newCodeArray(count * stages, sizes);
  prepared.encodeSync({ vectors: vectors.slice(), count, stages, codes: sync });

  const reconstruction = new Float32Array(count * dim);
  await prepared.decode({ codes, count, codeStages: stages, stages, vectors: reconstruction });
  const distances = new Float64Array(count * stages);
  await prepared.distances({ vectors, count, codes, codeStages: stages, stages, weighted: true, distances });

  const first = newCodeArray(count, sizes);
  const nearest = new Float64Array(count);
  const plainDistances = new Float64Array(count);
  await prepared.assign({ vectors, count, codes: first, distances: nearest, plainDistances });
  prepared.dispose();

  const counts = new Float64Array(sizes[0]);
  const sums = new Float64Array(sizes[0] * dim);
  const gridExponents = new Int32Array(dim).fill(-30);
  const statistics = { vectors, count, dim, numCodewords: sizes[0], gridExponents, counts, sums };
  await backend.accumulate({ ...statistics, codes: first });
  const moved = first.map((code, row) => (row % 3 === 0 ? code : (code + 1) % sizes[0]));
  await backend.accumulate({ ...statistics, codes: moved, previousCodes: first });

  const lowered = new Float64Array(count).fill(Number.POSITIVE_INFINITY);
  await backend.lowerDistances({ vectors, count, dim, weights, centre, distances: lowered });
  return {
    codes,
    residuals,
    sync,
    reconstruction,
    distances,
    first,
    nearest,
    plainDistances,
    counts,
    sums,
    moved,
    lowered,
  };
}

/** The same on arrays that stay on the device; the sums are compared with the counts alone, which no grid changes. */
async function runResident({ spec, vectors, count }, expected, context) {
  const { dim, metric, weights, codebooks } = spec;
  const options = { dim, metric, backend: "cuda", ...(weights === null ? {} : { weights }) };
  const rq = ResidualQuantizer.fromCodebooks(codebooks, options);
  const { device } = rq;
  const uploaded = await device.upload(vectors);
  const codes = await device.encode(uploaded, { residuals: true });
  const decoded = await device.decode(codes);
  const range = await vectorRange(vectors, { dim });
  const { counts } = await device.accumulate(uploaded, codes, { range });
  const used = new Float64Array(counts.length);
  for (let row = 0; row < count; row++) used[expected.codes[row * codebooks.length]]++;
  expectSame((await codes.download()).data, expected.codes, { key: "codes on the device", ...context });
  expectSame(await codes.residuals.download(), expected.residuals, { key: "residuals on the device", ...context });
  expectSame(await decoded.download(), expected.reconstruction, { key: "decoded on the device", ...context });
  expectSame(counts, used, { key: "counts on the device", ...context });
  const learning = { ...options, seed: 1, deadBelow: { ratio: 0.5 }, dropout: { probability: 0.3 } };
  const [onDevice, fromHost, definition] = ["cuda", "cuda", "js"].map((backend) =>
    CodebookTrainer.fromCodebooks(codebooks, { ...learning, backend }),
  );
  await onDevice.step(uploaded);
  await fromHost.step(vectors);
  await definition.step(vectors);
  expectSame(onDevice.toBytes(), definition.toBytes(), { key: "a step on the device", ...context });
  expectSame(fromHost.toBytes(), definition.toBytes(), { key: "a step from the host", ...context });
  const trained = await Promise.all(
    ["cuda", "js"].map((backend) => {
      const codebookSize = Math.min(count, codebooks[0].length / dim, 8);
      // With the cosine metric the residuals come from the host, and may all be zero.
      const stages = metric === "cosine" ? 1 : 2;
      const training = { ...options, codebookSize, stages, iterations: 3, shrinkage: 0.5, backend };
      return ResidualQuantizer.train(vectors, training);
    }),
  );
  const [own, expectedBooks] = trained.map((quantizer) => quantizer.codebooks());
  for (const [stage, book] of own.entries()) {
    expectSame(book, expectedBooks[stage], { key: "k-means on the device", stage, ...context });
  }
  for (const array of [uploaded, codes.residuals, codes, decoded, rq, ...trained]) array.dispose();
}

function makeInput({ count, dim, sizes, data }, { metric, weighted }, seed) {
  const random = new Random(seed);
  // Twelve uniform numbers, near enough to normal ones. The grid's values are −2 … 2, never all zero.
  const normal = () => Array.from({ length: 12 }, () => random.fraction()).reduce((sum, value) => sum + value, -6);
  const element = data === "grid" ? (i) => (i % dim === 0 ? 1 : random.below(5) - 2) : normal;
  const matrix = (rows, scale) => Float32Array.from({ length: rows * dim }, (_, i) => scale * element(i));
  const weights = weighted ? Float32Array.from({ length: dim }, () => random.below(3) / 2) : null;
  const codebooks = sizes.map((size, stage) => matrix(size, 0.5 ** stage));
  return { spec: { dim, metric, weights, codebooks }, vectors: matrix(count, 1), centre: matrix(1, 1), count };
}

function expectSame(actual, expected, context) {
  compared++;
  for (let i = 0; i < expected.length; i++) {
    if (Object.is(actual[i], expected[i])) continue;
    console.error(`exercise: element ${i} is ${actual[i]}, not ${expected[i]}: ${JSON.stringify(context)}`);
    process.exit(1);
  }
}
