// Encodes twice on a device, for a profiler to look at the second time: the program that scripts/gpu.sh runs under Nsight Compute.
//
//   node scripts/gpu-profile.mjs <shape>   with dist/ built; without a shape it prints their names

import { ResidualQuantizer } from "../dist/index.js";
import { Random } from "../dist/random.js";

/** Enough rows for several blocks a multiprocessor. Codebooks are learnt from few rows, or where there are many codewords drawn. */
const shapes = {
  encodec: { count: 2 ** 18, dim: 128, codebookSize: 1024, stages: 8, learnt: true },
  mimi: { count: 2 ** 18, dim: 256, codebookSize: 2048, stages: 8, learnt: true },
  dac: { count: 2 ** 20, dim: 8, codebookSize: 1024, stages: 9, learnt: true },
  wide: { count: 2 ** 16, dim: 768, codebookSize: 65_536, stages: 1, learnt: false },
};

const name = process.argv[2];
if (name === undefined) {
  console.log(Object.keys(shapes).join("\n"));
} else {
  if (shapes[name] === undefined) throw new Error(`there is no shape ${name}, but ${Object.keys(shapes).join(", ")}`);
  const { count, dim, codebookSize, stages, learnt } = shapes[name];
  const random = new Random(1);
  const centres = normals(256 * dim, 1);
  const rq = await quantizer();
  const vectors = await rq.device.upload(rows(count));
  for (let time = 0; time < 2; time++) {
    const codes = await rq.device.encode(vectors);
    console.log(
      `profile: ${name}, N ${count} D ${dim} K ${codebookSize}, ${stages} stages: ${codes.kernelMs.toFixed(3)} ms`,
    );
    codes.dispose();
  }

  async function quantizer() {
    if (!learnt) return ResidualQuantizer.fromCodebooks([rows(codebookSize)], { dim, backend: "cuda" });
    const shape = { dim, codebookSize, stages, iterations: 3, init: "random" };
    const trained = await ResidualQuantizer.train(rows(16 * codebookSize), { ...shape, backend: "cpu" });
    return ResidualQuantizer.fromCodebooks(trained.codebooks(), { dim, backend: "cuda" });
  }

  /** Of a Gaussian mixture, the same few over and over where there are many. */
  function rows(wanted) {
    const different = Math.min(wanted, 2 ** 16);
    const drawn = normals(different * dim, 0.5);
    for (let row = 0; row < different; row++) {
      const centre = random.below(256) * dim;
      for (let i = 0; i < dim; i++) drawn[row * dim + i] += centres[centre + i];
    }
    const matrix = new Float32Array(wanted * dim);
    for (let at = 0; at < matrix.length; at += drawn.length) matrix.set(drawn.subarray(0, matrix.length - at), at);
    return matrix;
  }

  function normals(length, scale) {
    return Float32Array.from({ length }, () => {
      const radius = Math.sqrt(-2 * Math.log(1 - random.fraction()));
      return scale * radius * Math.cos(2 * Math.PI * random.fraction());
    });
  }
}
