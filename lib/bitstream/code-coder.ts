// Entropy codes the codes of one stage, stage after stage: bits along the tree of a codebook's codes, by a model of them.

import type { CodeArray } from "../backend.js";
import { bitsPerCode } from "../pack-codes.js";
import { BitDecoder, BitEncoder } from "./bit-coder.js";
import { AdaptiveModel, addToContext, type BitModel, MixedModel, StaticModel } from "./bit-models.js";

/** codes[stages][count] as far as they are known, one array a stage. */
export type StageCodes = readonly CodeArray[];

/** How a section is coded: `packed` at ceil(log2 K) bits, by a table, by what was seen so far, or that in contexts too. */
export const codings = ["packed", "static", "adaptive", "mixed"] as const;
export type Coding = (typeof codings)[number];

/** What predicts the codes of a stage. */
interface StageModel {
  readonly model: BitModel;
  /** Called before the code of each frame. */
  readonly begin: (frame: number) => void;
}

/** The entropy-coded codes of `stage`; null where they take `limitBytes` or more. */
export function encodeStage(
  codes: StageCodes,
  stage: number,
  codebookSize: number,
  coding: Exclude<Coding, "packed">,
  table: Uint16Array | null,
  limitBytes: number,
): Uint8Array | null {
  if (limitBytes === 0) return null;
  const data = codes[stage];
  const depth = bitsPerCode(codebookSize);
  const coder = new BitEncoder();
  const { model, begin } = stageModel(codes, stage, data.length, depth, coding, table);
  for (let frame = 0; frame < data.length; frame++) {
    const code = data[frame];
    begin(frame);
    let node = 1;
    for (let bit = depth - 1; bit >= 0; bit--) {
      const one = (code >>> bit) & 1;
      // Where a one would lead beyond the codebook there is nothing to code.
      if (firstOfOne(node, bit) < codebookSize) {
        coder.encode(one, model.p(node, depth - 1 - bit));
        model.update(one);
      }
      node = 2 * node + one;
    }
    if (coder.sizeBytes >= limitBytes) return null;
  }
  const bytes = coder.finish();
  return bytes.length < limitBytes ? bytes : null;
}

/**
 * Decodes into[count], the codes of `stage`, from any bytes; `codes` has the stages before. Every code is below the size. False for
 * bytes that end too early.
 */
export function decodeStage(
  bytes: Uint8Array,
  codes: StageCodes,
  stage: number,
  codebookSize: number,
  coding: Exclude<Coding, "packed">,
  table: Uint16Array | null,
  into: CodeArray,
): boolean {
  const depth = bitsPerCode(codebookSize);
  const coder = new BitDecoder(bytes);
  const { model, begin } = stageModel([...codes.slice(0, stage), into], stage, into.length, depth, coding, table);
  for (let frame = 0; frame < into.length; frame++) {
    begin(frame);
    let node = 1;
    for (let bit = depth - 1; bit >= 0; bit--) {
      let one = 0;
      if (firstOfOne(node, bit) < codebookSize) {
        one = coder.decode(model.p(node, depth - 1 - bit));
        model.update(one);
      }
      node = 2 * node + one;
    }
    into[frame] = node - 2 ** depth;
    if (coder.overrun) return false;
  }
  return true;
}

/** The smallest code below the child for a one of `node`, of which `bit` more bits follow: node without its leading one, and a one. */
function firstOfOne(node: number, bit: number): number {
  const prefix = node - (1 << (31 - Math.clz32(node)));
  return (2 * prefix + 1) << bit;
}

function stageModel(
  codes: StageCodes,
  stage: number,
  count: number,
  depth: number,
  coding: Exclude<Coding, "packed">,
  table: Uint16Array | null,
): StageModel {
  if (coding === "static") return { model: new StaticModel(table as Uint16Array), begin: () => {} };
  const bits = tableBits(count, depth);
  if (coding === "adaptive") return { model: new AdaptiveModel(bits), begin: () => {} };
  const contexts = new Int32Array(contextCount(stage));
  return { model: new MixedModel(contexts, bits), begin: (frame) => setContexts(contexts, codes, stage, frame) };
}

/** Slots of one context: at least four for each bit there is to learn from, as far as memory for them is worth it. */
const fewestTableBits = 10;
const mostTableBits = 18;

function tableBits(count: number, depth: number): number {
  const wanted = 32 - Math.clz32(Math.min(2 ** mostTableBits, 4 * count * depth) - 1);
  return Math.max(fewestTableBits, Math.min(mostTableBits, wanted));
}

/** Contexts that exist for the stage; those further back in the stages want stages to look back to. */
function contextCount(stage: number): number {
  return [2, 4, 5][stage] ?? 6;
}

/**
 * The contexts of a code: nothing; the stage's code in the previous frame; the frame's code in the previous stage; both of these;
 * the frame's code in the first stage; and in the stage before the previous one.
 */
function setContexts(contexts: Int32Array, codes: StageCodes, stage: number, frame: number): void {
  const before = frame === 0 ? 0 : codes[stage][frame - 1] + 1;
  contexts[1] = addToContext(0, before);
  if (stage === 0) return;
  const above = codes[stage - 1][frame];
  contexts[2] = addToContext(0, above);
  contexts[3] = addToContext(contexts[1], above);
  if (stage === 1) return;
  contexts[4] = addToContext(0, codes[0][frame]);
  if (stage > 2) contexts[5] = addToContext(0, codes[stage - 2][frame]);
}
