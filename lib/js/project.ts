// Linear maps of vectors in plain TypeScript, which define those of the other backends.

import type { BadInput, PreparedProjection, Projection, ProjectRequest } from "../backend.js";
import { firstBadInput } from "../bad-input.js";
import { runInSlices, runToEnd, StepMeter, type Steps } from "../time-slice.js";

/** Sums that are computed together: enough for none to wait for its own last addition, few enough to stay in registers. */
const rowsTogether = 2;
const outputsTogether = 4;

export class JsProjection implements PreparedProjection {
  private readonly inDim: number;
  private readonly outDim: number;
  /** panels[⌈outDim / 4⌉][inDim][4]: the weights of four outputs side by side, zeros where there is no output. */
  private readonly panels: Float64Array;
  /** [⌈outDim / 4⌉ · 4] */
  private readonly bias: Float64Array;

  constructor({ weight, bias, inDim, outDim }: Projection) {
    this.inDim = inDim;
    this.outDim = outDim;
    const padded = Math.ceil(outDim / outputsTogether) * outputsTogether;
    this.panels = new Float64Array(padded * inDim);
    for (let o = 0; o < outDim; o++) {
      const panel = (o - (o % outputsTogether)) * inDim + (o % outputsTogether);
      for (let i = 0; i < inDim; i++) this.panels[panel + i * outputsTogether] = weight[o * inDim + i];
    }
    this.bias = new Float64Array(padded);
    if (bias !== null) this.bias.set(bias);
  }

  project(request: ProjectRequest): Promise<BadInput | null> {
    return runInSlices(this.projectSteps(request));
  }

  projectSync(request: ProjectRequest): BadInput | null {
    return runToEnd(this.projectSteps(request));
  }

  dispose(): void {}

  private *projectSteps({ vectors, count, projected, into }: ProjectRequest): Steps<BadInput | null> {
    const { inDim, outDim } = this;
    const write = writers[into];
    const meter = new StepMeter();
    const sums = new Float64Array(rowsTogether * outputsTogether);
    for (let first = 0; first < count; first += rowsTogether) {
      const rows = Math.min(rowsTogether, count - first);
      const bad = firstBadInput(vectors.subarray(first * inDim, (first + rows) * inDim), inDim, false);
      if (bad !== null) return { ...bad, row: first + bad.row };
      for (let output = 0; output < outDim; output += outputsTogether) {
        this.sumTile(vectors, first * inDim, (first + rows - 1) * inDim, output, sums);
        const outputs = Math.min(outputsTogether, outDim - output);
        for (let row = 0; row < rows; row++) {
          write(sums, row * outputsTogether, outputs, projected, (first + row) * outDim + output);
        }
        // Of wide projections a step is a part of two rows.
        if (meter.add(inDim * rowsTogether * outputsTogether)) yield;
      }
    }
    return null;
  }

  /** sums[2][4] of the rows at `a` and `b`, which may be the same, and of four outputs from `output` on. */
  private sumTile(vectors: Float32Array, a: number, b: number, output: number, sums: Float64Array): void {
    const { panels, inDim, bias } = this;
    let a0 = bias[output];
    let a1 = bias[output + 1];
    let a2 = bias[output + 2];
    let a3 = bias[output + 3];
    let b0 = a0;
    let b1 = a1;
    let b2 = a2;
    let b3 = a3;
    let w = output * inDim;
    for (let i = 0; i < inDim; i++, w += 4) {
      const x = vectors[a + i];
      const y = vectors[b + i];
      const w0 = panels[w];
      const w1 = panels[w + 1];
      const w2 = panels[w + 2];
      const w3 = panels[w + 3];
      a0 += w0 * x;
      a1 += w1 * x;
      a2 += w2 * x;
      a3 += w3 * x;
      b0 += w0 * y;
      b1 += w1 * y;
      b2 += w2 * y;
      b3 += w3 * y;
    }
    sums[0] = a0;
    sums[1] = a1;
    sums[2] = a2;
    sums[3] = a3;
    sums[4] = b0;
    sums[5] = b1;
    sums[6] = b2;
    sums[7] = b3;
  }
}

/** out[offset … +count] from sums[start … +count], each rounded to float32 before it is added or subtracted. */
type Write = (sums: Float64Array, start: number, count: number, out: Float32Array, offset: number) => void;

const writers: Readonly<Record<ProjectRequest["into"], Write>> = {
  replace: (sums, start, count, out, offset) => {
    for (let o = 0; o < count; o++) out[offset + o] = sums[start + o];
  },
  add: (sums, start, count, out, offset) => {
    for (let o = 0; o < count; o++) out[offset + o] += Math.fround(sums[start + o]);
  },
  subtract: (sums, start, count, out, offset) => {
    for (let o = 0; o < count; o++) out[offset + o] -= Math.fround(sums[start + o]);
  },
};
