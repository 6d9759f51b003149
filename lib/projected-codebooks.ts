// The codebooks of a ProjectedQuantizer in the space of its vectors, for what adds up codewords and knows no projections.

import type { Backend, PreparedProjection } from "./backend.js";
import { firstBadInput } from "./bad-input.js";
import { badInput } from "./check.js";
import type { ProjectedSpec } from "./projected-options.js";

/**
 * codebooks[stages], each [K_s][dim]: the projected codewords, that of a part's first stage with the bias. Their sum is the
 * reconstruction, exactly where parts have one stage, else but for rounding.
 * @throws RvqError NOT_FINITE where one overflows float32
 */
export async function projectedCodebooks(
  backend: Backend,
  { dim, parts }: ProjectedSpec,
  stages: number,
): Promise<Float32Array[]> {
  const projected: Float32Array[] = [];
  for (const part of parts) {
    for (const [s, codebook] of part.codebooks.entries()) {
      if (projected.length === stages) return projected;
      if (part.output === null) {
        projected.push(codebook.slice());
        continue;
      }
      const bias = s === 0 ? part.output.bias : null;
      const projection = backend.prepareProjection({ ...part.output, bias });
      projected.push(await projectAll(projection, codebook, part.dim, dim));
      const bad = firstBadInput(projected[projected.length - 1], dim, false);
      if (bad !== null) throw badInput(`projected codewords of stage ${projected.length - 1}`, bad, 0);
    }
  }
  return projected;
}

async function projectAll(
  projection: PreparedProjection,
  codebook: Float32Array,
  partDim: number,
  dim: number,
): Promise<Float32Array> {
  const count = codebook.length / partDim;
  const projected = new Float32Array(count * dim);
  try {
    await projection.project({ vectors: codebook, count, projected, into: "replace" });
  } finally {
    projection.dispose();
  }
  return projected;
}
