// Training vectors from `.npy` files.

import { readRegularFile } from "../audio/regular-file.js";
import { firstBadInput } from "../bad-input.js";
import { badInput } from "../check.js";
import { RvqError, readNpy } from "../index.js";
import { inSlices } from "../time-slice.js";

const reading = {
  expected: "a .npy file",
  code: "INVALID_ARGUMENT",
  // readNpy looks at the whole header.
  checkHead: () => {},
} as const;

/** What else has vectors of that dimension, for messages. */
interface VectorsLike {
  readonly dim: number;
  readonly name: string;
}

/**
 * vectors[N][dim]: the rows of all files, one file after the other; with `like` of its dimension. Arrays of integers or other floating-point numbers become float32.
 * @throws RvqError IO, INVALID_ARGUMENT; the signal's reason when aborted
 */
export async function readVectorFiles(
  paths: readonly string[],
  { like, signal }: { readonly like?: VectorsLike; readonly signal?: AbortSignal } = {},
): Promise<{ vectors: Float32Array; dim: number }> {
  const parts: Float32Array[] = [];
  let { dim, name } = like ?? { dim: 0, name: paths[0] };
  for (const path of paths) {
    const { shape, data } = readArray(path, await readRegularFile(path, { ...reading, signal }));
    if (shape.length !== 2 || data.length === 0)
      throw refused(path, "an array [vectors][dim]", `(${shape.join(", ")})`);
    if (dim !== 0 && shape[1] !== dim) {
      throw refused(path, `vectors of ${dim} numbers, as ${name} has`, `${shape[1]} numbers`);
    }
    dim = shape[1];
    await requireFinite(path, data, dim);
    parts.push(data);
  }
  if (parts.length === 1) return { vectors: parts[0], dim };
  const vectors = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let next = 0;
  for (const part of parts) {
    vectors.set(part, next);
    next += part.length;
  }
  return { vectors, dim };
}

export function isVectorFile(path: string): boolean {
  return /\.npy$/i.test(path);
}

function readArray(path: string, bytes: Uint8Array) {
  try {
    return readNpy(bytes);
  } catch (cause) {
    throw new RvqError("INVALID_ARGUMENT", `${path}: ${(cause as Error).message}`, { cause });
  }
}

/** Now, not hours later when it is in a batch. */
async function requireFinite(path: string, vectors: Float32Array, dim: number): Promise<void> {
  await inSlices(vectors.length, dim, (from, to) => {
    const rows = vectors.subarray(from, to);
    const bad = firstBadInput(rows, dim, false);
    if (bad !== null) throw badInput(path, bad, from / dim, rows[bad.row * dim + bad.column]);
  });
}

function refused(path: string, expected: string, got: string): RvqError {
  return new RvqError("INVALID_ARGUMENT", `${path}: expected ${expected}, got ${got}`);
}
