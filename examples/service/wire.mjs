// Vectors and codes between requests and rvq.

import { endianness } from "node:os";

/** vectors[count][dim] of an array of arrays. */
export function vectorsFromRows(rows, dim) {
  const vectors = new Float32Array(rows.length * dim);
  for (let row = 0; row < rows.length; row++) vectors.set(rows[row], row * dim);
  return vectors;
}

/** Codes of an array of arrays, which are all as long as the first. */
export function codesFromRows(rows) {
  const stages = rows[0]?.length ?? 1;
  const bad = rows.findIndex((row) => row.length !== stages);
  if (bad >= 0) throw badRequest(`codes: expected ${stages} in every row, got ${rows[bad].length} in row ${bad}`);
  return { count: rows.length, stages, data: Uint32Array.from(rows.flat()) };
}

/** Little-endian float32 numbers. Bodies lie anywhere in memory: where that is not at a multiple of four, they are copied. */
export function floatsFromBytes(bytes, dim) {
  if (bytes.length % (4 * dim) !== 0) {
    throw badRequest(`body: expected whole vectors of ${4 * dim} bytes, got ${bytes.length} bytes`);
  }
  const aligned =
    bytes.byteOffset % 4 === 0 && endianness() === "LE" ? bytes : Buffer.from(Uint8Array.from(bytes).buffer);
  if (endianness() === "BE") aligned.swap32();
  return new Float32Array(aligned.buffer, aligned.byteOffset, aligned.length / 4);
}

/** matrix[…][width] of finite numbers as JSON: an array of arrays. */
export function jsonOfRows(matrix, width) {
  const rows = [];
  for (let at = 0; at < matrix.length; at += width) rows.push(`[${matrix.subarray(at, at + width).join()}]`);
  return `[${rows.join()}]`;
}

function badRequest(message) {
  return Object.assign(new Error(message), { statusCode: 400, code: "INVALID_ARGUMENT" });
}
