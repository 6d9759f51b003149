// Searches of vectors with more dimensions than a thread's registers hold, on a GPU or the build that emulates one: with
// wgmma their operands are in shared memory too, from 257 dimensions to 1,024.

import { describe, it } from "vitest";
import type { CodebookSpec } from "../lib/backend.js";
import { openBackend, status } from "../lib/open-backend.js";
import { Random } from "../lib/random.js";
import { expectSame } from "./contract/backends.js";

const available = status().backends.find(({ name }) => name === "cuda")?.available === true;

/**
 * At least two tiles of codewords, or less than one; one warpgroup of rows, two, and several blocks of them; every
 * remainder of steps of 16 dimensions that are made four at a time.
 */
const shapes = [
  { dim: 257, count: 65, sizes: [150, 3] },
  { dim: 272, count: 400, sizes: [129, 128, 1] },
  { dim: 288, count: 130, sizes: [140] },
  { dim: 320, count: 130, sizes: [64, 300] },
  { dim: 336, count: 70, sizes: [257] },
  { dim: 352, count: 70, sizes: [140, 140] },
  { dim: 384, count: 70, sizes: [140, 140] },
  { dim: 416, count: 70, sizes: [140, 140] },
  { dim: 512, count: 129, sizes: [600, 40] },
  { dim: 750, count: 70, sizes: [140, 140] },
  { dim: 768, count: 200, sizes: [512, 130] },
  { dim: 992, count: 70, sizes: [140, 140] },
  { dim: 1000, count: 131, sizes: [21, 260] },
  { dim: 1023, count: 66, sizes: [140] },
  { dim: 1024, count: 300, sizes: [257, 33] },
  { dim: 1025, count: 66, sizes: [140] },
];

/** Rows like codewords, rows halfway between two, and rows far out, in turn. */
function makeRows(count: number, dim: number, codebook: Float32Array, random: Random): Float32Array {
  const numCodewords = codebook.length / dim;
  const rows = new Float32Array(count * dim);
  for (let n = 0; n < count; n++) {
    const a = random.below(numCodewords) * dim;
    const b = random.below(numCodewords) * dim;
    const scale = n % 7 === 0 ? 10 ** (n % 12) : 1;
    for (let i = 0; i < dim; i++) {
      rows[n * dim + i] = n % 3 === 0 ? (codebook[a + i] + codebook[b + i]) / 2 : scale * (random.fraction() - 0.5);
    }
  }
  return rows;
}

async function encodeOn(name: "cuda" | "js", spec: CodebookSpec, vectors: Float32Array) {
  const stages = spec.codebooks.length;
  const count = vectors.length / spec.dim;
  const prepared = openBackend(name, undefined).prepare(spec);
  const codes = new Uint16Array(count * stages);
  const residuals = new Float32Array(vectors.length);
  await prepared.encode({ vectors, count, stages, codes, residuals });
  prepared.dispose();
  return { codes, residuals: new Uint32Array(residuals.buffer) };
}

describe.skipIf(!available)("searches of wide vectors on a GPU", () => {
  for (const { dim, count, sizes } of shapes) {
    for (const metric of ["l2", "weighted", "cosine"] as const) {
      it(`equal the definition for ${dim} dimensions, ${metric}`, async () => {
        const random = new Random(dim);
        const codebooks = sizes.map((size) => Float32Array.from({ length: size * dim }, () => random.fraction() - 0.5));
        const spec: CodebookSpec = {
          dim,
          metric: metric === "cosine" ? "cosine" : "l2",
          weights: metric === "weighted" ? Float32Array.from({ length: dim }, (_, i) => (i % 5) / 3) : null,
          codebooks,
        };
        const vectors = makeRows(count, dim, codebooks[0], random);
        const found = await encodeOn("cuda", spec, vectors);
        const wanted = await encodeOn("js", spec, vectors);
        expectSame(found.codes, wanted.codes, { dim, metric, what: "codes" });
        expectSame(found.residuals, wanted.residuals, { dim, metric, what: "bits of residuals" });
      });
    }
  }
});
