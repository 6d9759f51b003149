// Copies a matrix of the caller's to device memory, chunk by chunk, so that the event loop and the abort signal get their turns.

import type { Backend, CodeArray } from "../backend.js";
import { type ChunkOptions, forEachChunk } from "../chunks.js";
import type { DeviceMemory } from "../resident.js";
import { StagedRows } from "../staging.js";

/**
 * memory = matrix[count][width], called `name`. Native threads read copies of the rows: the caller's may go meanwhile.
 * @param check looks at every copy, whose first row is `firstRow`, before it goes
 */
export async function uploadRows<Rows extends Float32Array | CodeArray>(
  backend: Backend,
  memory: DeviceMemory,
  name: string,
  matrix: Rows,
  width: number,
  options: ChunkOptions,
  check: (staged: Rows, firstRow: number) => void = () => {},
): Promise<void> {
  const staging = new StagedRows(name, matrix, width, backend.staging);
  const upload = async (first: number, rows: number) => {
    const source = staging.copy(first, rows);
    check(source, first);
    await memory.upload({ source, offset: first * width * matrix.BYTES_PER_ELEMENT });
    return source;
  };
  const chunked = { backend, dim: width, codewordsPerVector: 1 };
  const finish = (source: Rows) => staging.release(source);
  await forEachChunk(matrix.length / width, chunked, options, upload, finish).finally(() => staging.close());
}
