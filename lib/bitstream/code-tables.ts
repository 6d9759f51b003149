// Static tables: how often each code of a stage occurs, as the probabilities at the nodes of its codebook's tree.

import { type Codes, checkBytes, checkCodeRange, checkCodes, checkRequiredOptions } from "../check.js";
import { invalidArgument, RvqError } from "../errors.js";
import { bitsPerCode, checkCodebookSizes } from "../pack-layout.js";

/** Tables for the coding "static". The same tables must be there for decoding; a `.rvq` file has them in its header. */
export interface CodeTables {
  /** K_s ≤ 65536 of each stage. */
  readonly codebookSizes: readonly number[];
  /**
   * nodes[s][2^ceil(log2 K_s)]: at index n the probability, in 65536ths, that the next bit of a code is a one where n is a one
   * followed by its bits so far, from the highest. Index 0 is not used.
   */
  readonly nodes: readonly Uint16Array[];
}

/** Codes of more bits would make larger tables than they could save. */
const mostTableDepth = 16;

/**
 * Tables from codes that are typical of those to come, such as a quantizer's codes of its training vectors.
 * @throws RvqError INVALID_ARGUMENT, CODE_OUT_OF_RANGE
 */
export function codeTables(codes: Codes, codebookSizes: readonly number[]): CodeTables {
  const sizes = checkCodebookSizes(codebookSizes);
  const { stages, data } = checkCodes("codes", codes, sizes.length);
  checkCodeRange("codes", data, stages, sizes, 0);
  const used = sizes.slice(0, stages);
  const nodes = used.map((size, stage) => {
    const depth = tableDepth(stage, size);
    // counts[node]: codes below the node. A leaf is a code and the leading one.
    const counts = new Float64Array(2 ** (depth + 1));
    for (let i = stage; i < data.length; i += stages) counts[2 ** depth + data[i]]++;
    for (let node = 2 ** depth - 1; node > 0; node--) counts[node] = counts[2 * node] + counts[2 * node + 1];
    return Uint16Array.from({ length: 2 ** depth }, (_, node) => {
      return node === 0 ? 0 : probability(counts[2 * node + 1], counts[node]);
    });
  });
  return { codebookSizes: used, nodes };
}

/**
 * Bytes of the tables: for each stage the probabilities of nodes 1, 2, …, 16 bits each, little-endian.
 * @throws RvqError INVALID_ARGUMENT
 */
export function tablesToBytes(tables: CodeTables): Uint8Array {
  const { nodes } = checkTables(tables, checkCodebookSizes(tables?.codebookSizes));
  const bytes = Buffer.alloc(nodes.reduce((sum, table) => sum + 2 * (table.length - 1), 0));
  let at = 0;
  for (const table of nodes) {
    for (let node = 1; node < table.length; node++, at += 2) bytes.writeUInt16LE(table[node], at);
  }
  return bytes;
}

/** Bytes that tables of stages with these sizes take. */
export function tablesSizeBytes(codebookSizes: readonly number[]): number {
  return codebookSizes.reduce((sum, size) => sum + 2 * (2 ** bitsPerCode(size) - 1), 0);
}

/**
 * The inverse of `tablesToBytes`: any bytes that are as many as tables of these sizes have.
 * @throws RvqError INVALID_ARGUMENT
 */
export function tablesFromBytes(bytes: Uint8Array, codebookSizes: readonly number[]): CodeTables {
  const sizes = checkCodebookSizes(codebookSizes);
  for (const [stage, size] of sizes.entries()) tableDepth(stage, size);
  const { buffer, byteOffset, byteLength } = checkBytes("bytes", bytes);
  const expected = tablesSizeBytes(sizes);
  if (byteLength !== expected)
    throw invalidArgument("bytes", `${expected} bytes for tables of these sizes`, byteLength);
  const view = new DataView(buffer, byteOffset, byteLength);
  let at = -2;
  const nodes = sizes.map((size) => {
    const table = new Uint16Array(2 ** bitsPerCode(size));
    for (let node = 1; node < table.length; node++) {
      at += 2;
      table[node] = view.getUint16(at, true);
    }
    return table;
  });
  return { codebookSizes: sizes, nodes };
}

/** The tables of at least the stages with these sizes. */
export function checkTables(value: unknown, codebookSizes: readonly number[]): CodeTables {
  checkRequiredOptions("tables", value);
  const { codebookSizes: sizes, nodes } = value as Partial<Record<keyof CodeTables, unknown>>;
  if (!Array.isArray(sizes) || !Array.isArray(nodes)) throw invalidArgument("tables", "what codeTables gives", value);
  for (const [stage, size] of codebookSizes.entries()) {
    if (sizes[stage] !== size) throw invalidArgument(`tables.codebookSizes[${stage}]`, `${size}`, sizes[stage]);
    const table: unknown = nodes[stage];
    const length = 2 ** tableDepth(stage, size);
    if (!(table instanceof Uint16Array) || table.length !== length) {
      throw invalidArgument(`tables.nodes[${stage}]`, `a Uint16Array of ${length}`, table);
    }
  }
  return { codebookSizes, nodes: nodes.slice(0, codebookSizes.length) };
}

function tableDepth(stage: number, size: number): number {
  const depth = bitsPerCode(size);
  if (depth <= mostTableDepth) return depth;
  const expected = `at most ${2 ** mostTableDepth} for static tables`;
  throw new RvqError("INVALID_ARGUMENT", `codebookSizes[${stage}]: expected ${expected}, got ${size}`);
}

/** Of ones among all, as if half a one and half a zero more had been seen: nothing is impossible. */
function probability(ones: number, all: number): number {
  return Math.min(65_535, Math.floor(((2 * ones + 1) * 65_536) / (2 * all + 2)));
}
