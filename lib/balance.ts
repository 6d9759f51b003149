// Balanced assignment: moves rows from crowded codewords to the nearest ones that have room, those that lose least by it first.
//
// Every row starts at its nearest codeword. Then, round after round, with `room` the most rows that a codeword may have:
//
//   open      the codewords with fewer than `room` rows; crowded: those with more
//   o_n, e_n  of each row n of a crowded codeword: the nearest open codeword (the smallest code on a tie), and its distance
//   regret    e_n − d_n, d_n being the distance of the row's own codeword
//   move      of each crowded codeword the rows with the smallest (regret, n), to their o_n, until `room` are left
//
// All moves of a round come from the counts before it. A codeword that was crowded once has exactly `room` rows for good, since
// only open ones take any: there are at most K rounds. Distances are d64 of lib/backend.ts, regrets their float64 difference.

import { type Assignment, assignRows, newAssignment, partOfAssignment } from "./assign-rows.js";
import type { Backend, CodebookSpec } from "./backend.js";
import { copyRow } from "./copy-row.js";
import { nthSmallest } from "./nth-smallest.js";
import { inSlices, runInSlices, StepMeter, type Steps } from "./time-slice.js";

/** The most of `count` rows that one of `numCodewords` codewords may have: `capacity` ≥ 1 times the mean, rounded up. */
export function roomOf(capacity: number, count: number, numCodewords: number): number {
  return Math.ceil((capacity * count) / numCodewords);
}

/** Moves rows, which are assigned to their nearest codewords of the first stage, until none has more than `room`: K · room ≥ N. */
export async function moveExcess(
  backend: Backend,
  spec: CodebookSpec,
  vectors: Float32Array,
  assignment: Assignment,
  room: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { codes } = assignment;
  const counts = new Uint32Array(spec.codebooks[0].length / spec.dim);
  await inSlices(codes.length, 1, (from, to) => {
    for (let n = from; n < to; n++) counts[codes[n]]++;
  });
  while (counts.some((count) => count > room)) {
    const crowded = await crowdedRows(assignment, counts, room);
    const open = placesWhere(counts, (count) => count < room);
    const elsewhere = await nearestOpen(backend, spec, vectors, crowded, open, signal);
    await runInSlices(moveCheapest(assignment, counts, room, crowded, open, elsewhere));
  }
}

/** The rows of codewords that have more than `room`, in order. */
async function crowdedRows({ codes }: Assignment, counts: Uint32Array, room: number): Promise<Uint32Array> {
  const crowded = new Uint32Array(counts.reduce((sum, count) => (count > room ? sum + count : sum), 0));
  let next = 0;
  await inSlices(codes.length, 1, (from, to) => {
    for (let n = from; n < to; n++) if (counts[codes[n]] > room) crowded[next++] = n;
  });
  return crowded;
}

function placesWhere(counts: Uint32Array, wanted: (count: number) => boolean): Uint32Array {
  return Uint32Array.from(counts.keys()).filter((k) => wanted(counts[k]));
}

/** The nearest open codewords of the crowded rows; their codes are places in `open`. */
async function nearestOpen(
  backend: Backend,
  spec: CodebookSpec,
  vectors: Float32Array,
  crowded: Uint32Array,
  open: Uint32Array,
  signal: AbortSignal | undefined,
): Promise<Assignment> {
  const { dim, weights, codebooks } = spec;
  const codebook = new Float32Array(open.length * dim);
  for (const [place, k] of open.entries()) copyRow(codebooks[0], k, codebook, place, dim);
  const nearest = newAssignment(crowded.length, open.length, weights);
  const chunkRows = Math.min(crowded.length, backend.chunkRows(dim, open.length));
  const gathered = new Float32Array(chunkRows * dim);
  const prepared = backend.prepare({ ...spec, codebooks: [codebook] });
  try {
    for (let first = 0; first < crowded.length; first += chunkRows) {
      const end = Math.min(crowded.length, first + chunkRows);
      const rows = gathered.subarray(0, (end - first) * dim);
      await inSlices(rows.length, dim, (from, to) => {
        for (let i = from / dim; i < to / dim; i++) copyRow(vectors, crowded[first + i], rows, i, dim);
      });
      await assignRows(backend, prepared, rows, partOfAssignment(nearest, first, end), open.length, signal);
    }
  } finally {
    prepared.dispose();
  }
  return nearest;
}

/** Moves the excess of every crowded codeword, by regret and row; keeps the counts. */
function* moveCheapest(
  { codes, distances, plainDistances }: Assignment,
  counts: Uint32Array,
  room: number,
  crowded: Uint32Array,
  open: Uint32Array,
  elsewhere: Assignment,
): Steps<void> {
  // Regrets, codeword after codeword.
  const meter = new StepMeter();
  const next = new Uint32Array(counts.length);
  let length = 0;
  for (const [k, count] of counts.entries()) {
    next[k] = length;
    if (count > room) length += count;
  }
  const regrets = new Float64Array(length);
  for (const [i, row] of crowded.entries()) {
    regrets[next[codes[row]]++] = elsewhere.distances[i] - distances[row];
    if (meter.add(16)) yield;
  }

  // The largest regret that still moves, and how many rows with just this one do.
  const most = new Float64Array(counts.length);
  const ties = new Uint32Array(counts.length);
  for (const [k, count] of counts.entries()) {
    if (count <= room) continue;
    const own = regrets.subarray(next[k] - count, next[k]);
    most[k] = yield* nthSmallest(own, count - room - 1);
    ties[k] = count - room;
    for (const regret of own) {
      if (regret < most[k]) ties[k]--;
      if (meter.add(8)) yield;
    }
  }

  // Those rows, in order.
  for (const [i, row] of crowded.entries()) {
    if (meter.add(16)) yield;
    const k = codes[row];
    const regret = elsewhere.distances[i] - distances[row];
    if (regret > most[k]) continue;
    if (regret === most[k]) {
      if (ties[k] === 0) continue;
      ties[k]--;
    }
    const to = open[elsewhere.codes[i]];
    counts[k]--;
    counts[to]++;
    codes[row] = to;
    distances[row] = elsewhere.distances[i];
    plainDistances[row] = elsewhere.plainDistances[i];
  }
}
