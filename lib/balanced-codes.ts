// Codes that no codeword has more often than its capacity allows, stage by stage, for identifiers that share the load.

import { assignRows, newAssignment } from "./assign-rows.js";
import type { Backend, CodeArray, CodebookSpec, Metric } from "./backend.js";
import { firstBadInput } from "./bad-input.js";
import { moveExcess, roomOf } from "./balance.js";
import { badInput, type Codes, checkInteger, checkOptions, checkSignal, checkVectors } from "./check.js";
import { newCodeArray } from "./code-array.js";
import { invalidArgument } from "./errors.js";
import type { StageOptions } from "./quantizer-options.js";
import { subtractCodewords } from "./residual-rows.js";
import { inSlices } from "./time-slice.js";

export interface BalancedOptions extends StageOptions {
  /** At most ceil(capacity · N/K) of the N vectors get the same code: a number ≥ 1, or one a stage; Infinity is no limit. Default 1. */
  readonly capacity?: number | readonly number[];
  readonly signal?: AbortSignal;
}

/**
 * Codes of vectors[N][D] by all stages asked for, each on what the balanced codes of those before leave over.
 * @throws RvqError INVALID_ARGUMENT, NOT_FINITE; the signal's reason when aborted
 */
export async function encodeBalanced(
  backend: Backend,
  { dim, metric, weights, codebooks }: CodebookSpec,
  vectorsArgument: unknown,
  options: BalancedOptions,
): Promise<Codes> {
  checkOptions("options", options);
  const stages = checkInteger("stages", options.stages ?? codebooks.length, 1, codebooks.length);
  const capacities = checkCapacity(options.capacity ?? 1, stages, metric);
  const signal = checkSignal("signal", options.signal);
  signal?.throwIfAborted();
  const residuals = checkVectors("vectors", vectorsArgument, dim).slice();
  const count = residuals.length / dim;
  const sizes = codebooks.map((codebook) => codebook.length / dim);
  const data = newCodeArray(count * stages, sizes);
  await inSlices(residuals.length, dim, (from, to) => {
    const rows = residuals.subarray(from, to);
    const bad = firstBadInput(rows, dim, false);
    if (bad !== null) throw badInput("vectors", bad, from / dim, rows[bad.row * dim + bad.column]);
  });

  for (let stage = 0; count > 0 && stage < stages; stage++) {
    const spec = { dim, metric, weights, codebooks: [codebooks[stage]] };
    const room = roomOf(capacities[stage], count, sizes[stage]);
    const codes = await balancedCodes(backend, spec, residuals, room, signal);
    await inSlices(count, 1, (from, to) => {
      for (let n = from; n < to; n++) data[n * stages + stage] = codes[n];
    });
    if (stage + 1 < stages) await subtractCodewords(codebooks[stage], codes, residuals);
  }
  return { count, stages, data };
}

/** codes[N] of vectors[N][D], N ≥ 1 and finite, by the first stage: none more often than `room`. */
export async function balancedCodes(
  backend: Backend,
  spec: CodebookSpec,
  vectors: Float32Array,
  room: number,
  signal: AbortSignal | undefined,
): Promise<CodeArray> {
  const numCodewords = spec.codebooks[0].length / spec.dim;
  const assignment = newAssignment(vectors.length / spec.dim, numCodewords, spec.weights);
  const prepared = backend.prepare(spec);
  try {
    await assignRows(backend, prepared, vectors, assignment, numCodewords, signal);
  } finally {
    prepared.dispose();
  }
  await moveExcess(backend, spec, vectors, assignment, room, signal);
  return assignment.codes;
}

/** One capacity a stage; with the cosine metric only none, for a residual that is zero has no nearest codeword to move on from. */
export function checkCapacity(value: unknown, stages: number, metric: Metric): number[] {
  const check = (name: string, capacity: unknown): number => {
    if (typeof capacity !== "number" || !(capacity >= 1)) throw invalidArgument(name, "a number ≥ 1", capacity);
    if (capacity < Infinity && metric !== "l2") throw invalidArgument(name, `none with metric "${metric}"`, capacity);
    return capacity;
  };
  if (!Array.isArray(value)) return new Array<number>(stages).fill(check("capacity", value));
  if (value.length !== stages) throw invalidArgument("capacity", `one number or ${stages}, as many as stages`, value);
  // Array.from calls the function for holes too.
  return Array.from(value, (entry: unknown, stage) => check(`capacity[${stage}]`, entry));
}
