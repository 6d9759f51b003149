// Decoding as it is the same for quantizers with and without projections: checks, staging, chunks, frames with stages of their own.

import type { DecodeRequest, StagingMemory } from "./backend.js";
import { allocate, type Codes, checkCodeRange } from "./check.js";
import type { ChunkWork } from "./chunks.js";
import { countedCodes, decodeCounted, decodeCountedSync } from "./counted-codes.js";
import { type CodingEvent, decodeCalls, traced, tracedSync } from "./diagnostics.js";
import { type CheckedCall, checkDecode, type DecodeOptions, type DecodeSyncOptions } from "./quantizer-options.js";
import { StagedRows } from "./staging.js";

/** What a quantizer decodes with. */
export interface Decoder {
  readonly dim: number;
  readonly stages: number;
  readonly codebookSizes: readonly number[];
  /** The backend's. */
  readonly staging: StagingMemory | undefined;
  /** `decode` rejects codes that are not in range. */
  readonly checksCodes?: boolean;
  /** @throws RvqError where an option is wrong, or after dispose() */
  checkCall(options: DecodeOptions): CheckedCall;
  event(vectors: number, stages: number, sync: boolean): CodingEvent;
  /** Codes that are in range unless it checks them, of which the first row of the request is `firstRow` of the call. */
  decode(request: DecodeRequest, firstRow: number): Promise<void>;
  decodeSync(request: DecodeRequest): void;
  /** `forEachChunk` in chunks that suit the backend. */
  forEachChunk(
    count: number,
    call: CheckedCall,
    work: ChunkWork<Float32Array>,
    finish: (result: Float32Array, firstRow: number, rows: number) => void,
  ): Promise<void>;
}

/** Reconstruction [count][dim], `options.into` where that is given. */
export async function decodeRows(decoder: Decoder, codes: Codes, options: DecodeOptions): Promise<Float32Array> {
  const { dim, codebookSizes } = decoder;
  const call = decoder.checkCall(options);
  const counted = countedCodes(codes, decoder.stages);
  if (counted !== null) {
    const decodeSome = (some: Codes) => decodeRows(decoder, some, { signal: call.signal });
    return decodeCounted(counted, call, dim, codebookSizes, decodeSome);
  }
  const { into, given, stages, codes: checked } = checkDecode(codes, call, dim, decoder.stages);
  const { count, stages: codeStages, data } = checked;
  const vectors = into ?? newReconstruction(count, dim);
  // New memory is out of the caller's reach until the end: it is written to as it is.
  const staged = into === null ? null : new StagedRows("into", into, dim, decoder.staging);
  const stagedCodes = new StagedRows("codes.data", data, codeStages, undefined);
  const decodeChunk: ChunkWork<Float32Array> = async (firstRow, rows, chunkOf) => {
    const some = stagedCodes.copy(firstRow, rows);
    const checkRange = () => checkCodeRange("codes", some, codeStages, codebookSizes, firstRow);
    // A backend looks only at stages that it decodes.
    if (!decoder.checksCodes || stages < codeStages) checkRange();
    const out = staged?.take(rows) ?? vectors.subarray(firstRow * dim, (firstRow + rows) * dim);
    const target = out.subarray(0, rows * dim);
    try {
      await decoder.decode({ codes: some, count: rows, codeStages, stages, vectors: target, chunkOf }, firstRow);
    } catch (error) {
      checkRange();
      throw error;
    }
    stagedCodes.release(some);
    return out;
  };
  return traced(
    decodeCalls,
    () => decoder.event(count, stages, false),
    async () => {
      const putBack = (out: Float32Array, firstRow: number, rows: number) => staged?.put(out, firstRow, rows);
      await decoder.forEachChunk(count, { ...call, stages }, decodeChunk, putBack).finally(() => staged?.close());
      return given ?? vectors;
    },
  );
}

/** The same on the calling thread. */
export function decodeRowsSync(decoder: Decoder, codes: Codes, options: DecodeSyncOptions): Float32Array {
  const { dim, codebookSizes } = decoder;
  const call = decoder.checkCall(options);
  const counted = countedCodes(codes, decoder.stages);
  if (counted !== null) {
    return decodeCountedSync(counted, call, dim, codebookSizes, (some) => decodeRowsSync(decoder, some, {}));
  }
  const { into, given, stages, codes: checked } = checkDecode(codes, call, dim, decoder.stages);
  const { count, stages: codeStages, data } = checked;
  checkCodeRange("codes", data, codeStages, codebookSizes, 0);
  const vectors = into ?? newReconstruction(count, dim);
  return tracedSync(
    decodeCalls,
    () => decoder.event(count, stages, true),
    () => {
      if (count > 0) decoder.decodeSync({ codes: data, count, codeStages, stages, vectors });
      return given ?? vectors;
    },
  );
}

function newReconstruction(count: number, dim: number): Float32Array {
  return allocate("the reconstruction", count * dim, (length) => new Float32Array(length));
}
