// A worker thread of lib/row-workers.ts: does one request after the other with a backend of its own.
//
// An error is not caught: it ends the thread, and the other side hears of it.

import { parentPort, workerData } from "node:worker_threads";
import { type Assignment, assignRows, newAssignment } from "./assign-rows.js";
import type { BadInput } from "./backend.js";
import { openBackend } from "./open-backend.js";
import type {
  HeldAssignRequest,
  RowRequest,
  RowWorkerData,
  WalkedStage,
  WalkRequest,
  WalkResult,
} from "./row-workers.js";
import { addRows, emptySums } from "./stage-sums.js";
import { walkStages } from "./stage-walk.js";
import { accumulate, emptyStatistics } from "./statistics.js";

const port = parentPort;
if (port === null) throw new Error("row-worker.js is not a program");
const { backend: name, threads } = workerData as RowWorkerData;
const backend = openBackend(name, threads);

/** What "hold" left here. */
let vectors: Float32Array | null = null;
let dim = 1;
let assignment: Assignment | null = null;

port.on("message", (request: RowRequest) => {
  // A rejection is an error of the worker.
  void answer(request).then((result) => port.postMessage(result));
});

async function answer(request: RowRequest): Promise<unknown> {
  switch (request.kind) {
    case "hold":
      // Out of the shared memory.
      vectors = request.vectors.slice();
      dim = request.dim;
      assignment = null;
      return null;
    case "assign":
      return assign(request);
    case "accumulate": {
      const { codes, previousCodes, numCodewords, gridExponents } = request;
      const statistics = emptyStatistics(numCodewords, gridExponents);
      await accumulate(backend, statistics, held(), codes, previousCodes);
      return { counts: statistics.counts, sums: statistics.sums };
    }
    case "walk":
      return walk(request);
  }
}

function held(): Float32Array {
  if (vectors === null) throw new Error("no rows are held here");
  return vectors;
}

async function assign({ spec, previous }: HeldAssignRequest): Promise<Assignment> {
  const numCodewords = spec.codebooks[0].length / dim;
  assignment ??= newAssignment(held().length / dim, numCodewords, spec.weights);
  const prepared = backend.prepare(spec, previous);
  try {
    await assignRows(backend, prepared, held(), assignment, numCodewords, undefined);
  } finally {
    prepared.dispose();
  }
  return assignment;
}

/** A refusal of the search: not an error of the worker. */
class Refusal extends Error {
  constructor(readonly bad: BadInput) {
    super("refused");
  }
}

async function walk({ spec, grids, vectors: rows, weights, stagesOfRow }: WalkRequest): Promise<WalkResult> {
  const stages: WalkedStage[] = [];
  const options = { stagesOfRow, measure: true, signal: undefined, refuse: (bad: BadInput) => new Refusal(bad) };
  try {
    await walkStages(backend, spec, rows.slice(), options, async ({ stage, residuals, ...assigned }) => {
      const sums = emptySums(spec.codebooks[stage].length / spec.dim, grids[stage], weights !== null);
      await addRows(backend, sums, residuals, assigned.counted, weights);
      stages.push({ ...assigned, sums });
    });
  } catch (error) {
    if (error instanceof Refusal) return { bad: error.bad, stages };
    throw error;
  }
  return { bad: null, stages };
}
