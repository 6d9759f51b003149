// `rvq search`: the coded vectors of a `.rvq` file that are nearest to queries.

import { type AnyQuantizer, CodeIndex, type Codes, RvqError, RvqReader, type SearchMetric } from "../index.js";
import { type CommandContext, printLine } from "./context.js";
import { readNpyFile } from "./input-file.js";
import { loadSearchableModel } from "./load-model.js";
import { checkSameModel } from "./same-model.js";
import { textTable } from "./table.js";

export interface SearchCommandOptions {
  readonly model: string;
  readonly neighbours: number;
  readonly metric: SearchMetric;
  readonly stages?: number;
  readonly vectors?: string;
  readonly rerank?: number;
  readonly json: boolean;
}

export async function searchCommand(
  { stdout, signal, backend }: CommandContext,
  input: string,
  queriesPath: string,
  options: SearchCommandOptions,
): Promise<void> {
  const { neighbours, metric, rerank } = options;
  const quantizer = await loadSearchableModel(options.model, backend);
  const codes = await readCodes(input, options, quantizer, signal);
  const queries = await readRows(queriesPath, quantizer.dim, signal);
  const vectors = options.vectors === undefined ? undefined : await readRows(options.vectors, quantizer.dim, signal);
  const index = await CodeIndex.create(quantizer, codes, { signal });
  const { count, k, ids, scores } = await index.search(queries, { k: neighbours, metric, vectors, rerank, signal });

  if (options.json) {
    const ofQuery = <Row extends Uint32Array | Float64Array>(rows: Row, q: number) => [
      ...rows.subarray(q * k, (q + 1) * k),
    ];
    const found = Array.from({ length: count }, (_, q) => ({ ids: ofQuery(ids, q), scores: ofQuery(scores, q) }));
    printLine(stdout, JSON.stringify(found));
    return;
  }
  const rows = Array.from(ids, (id, i) =>
    [Math.floor(i / k), (i % k) + 1, id].map(String).concat(scores[i].toPrecision(8)),
  );
  const score = metric === "l2" ? "squared distance" : "inner product";
  printLine(stdout, textTable([["query", "rank", "frame", score], ...rows], new Set([0, 1, 2, 3])));
}

/** The codes of all frames, with the same number of stages each. */
async function readCodes(
  input: string,
  { model, stages }: SearchCommandOptions,
  quantizer: AnyQuantizer,
  signal: AbortSignal,
): Promise<Codes> {
  const reader = await RvqReader.open(input);
  try {
    checkSameModel(input, reader.header.modelId, model, quantizer);
    const frames = await reader.read({ stages, signal });
    if (frames.stageCounts?.some((count) => count < frames.stages)) {
      const got = "frames with fewer (--stages searches by those that all have)";
      throw new RvqError("INVALID_STREAM", `${input}: expected ${frames.stages} stages of every frame, got ${got}`);
    }
    return { count: frames.count, stages: frames.stages, data: frames.data };
  } finally {
    await reader.close();
  }
}

/** rows[…][dim] of a .npy file, or one row as an array of its own. */
async function readRows(path: string, dim: number, signal: AbortSignal): Promise<Float32Array> {
  const { shape, data } = await readNpyFile(path, signal);
  if (shape.length >= 1 && shape.length <= 2 && shape.at(-1) === dim) return data;
  throw new RvqError("INVALID_ARGUMENT", `${path}: expected rows of ${dim} numbers, got ${shape.join(" × ")}`);
}
