// Entropy codes the codes of one stage, stage after stage: bits along the tree of a codebook's codes, by a model of them.

import type { CodeArray } from "../backend.js";
import { bitsPerCode } from "../pack-layout.js";
import type { Steps } from "../time-slice.js";
import { BitDecoder, BitEncoder } from "./bit-coder.js";
import { AdaptiveModel, addToContext as addTo, type BitModel, MixedModel, StaticModel } from "./bit-models.js";

// Bound here, as in bit-models.ts.
const addToContext = addTo;

/** How a section is coded: `packed` at ceil(log2 K) bits, by a table, by what was seen so far, or that in contexts too. */
export type Coding = "packed" | "static" | "adaptive" | "mixed";
/** By the numbers that stand for them in a file. */
export const codings: readonly Coding[] = ["packed", "static", "adaptive", "mixed"];
export type EntropyCoding = Exclude<Coding, "packed">;

/** The codes of a stage, and what is known when they are decoded. */
export interface StageCodes {
  readonly stage: number;
  /** K of the stage. */
  readonly codebookSize: number;
  /** codes[s][frames], s = 0 … stage; of the stage itself what is coded, or room for what is decoded. */
  readonly codes: readonly CodeArray[];
  /** The frames that have this stage, in order; null: all. They have the stages before too. */
  readonly frames: Uint32Array | null;
  /** The stage's static table. */
  readonly table: Uint16Array | null;
}

/** The entropy-coded codes of a stage; null where they take `limitBytes` or more. */
export function* encodeStage(stage: StageCodes, coding: EntropyCoding, limitBytes: number): Steps<Uint8Array | null> {
  if (limitBytes === 0) return null;
  const coder = new BitEncoder();
  const predictor = new Predictor(stage, coding);
  for (let from = 0; from < predictor.count; from += codesPerStep) {
    encodeCodes(coder, predictor, stage, from, Math.min(predictor.count, from + codesPerStep));
    if (coder.sizeBytes >= limitBytes) return null;
    yield;
  }
  const bytes = coder.finish();
  return bytes.length < limitBytes ? bytes : null;
}

/** Decodes a stage from any bytes; every code is below the codebook's size. False for bytes that end too early. */
export function* decodeStage(bytes: Uint8Array, stage: StageCodes, coding: EntropyCoding): Steps<boolean> {
  const coder = new BitDecoder(bytes);
  const predictor = new Predictor(stage, coding);
  for (let from = 0; from < predictor.count; from += codesPerStep) {
    decodeCodes(coder, predictor, stage, from, Math.min(predictor.count, from + codesPerStep));
    if (coder.overrun) return false;
    yield;
  }
  return true;
}

/** About a millisecond of mixing. */
const codesPerStep = 512;

function encodeCodes(coder: BitEncoder, predictor: Predictor, stage: StageCodes, from: number, to: number): void {
  const { codebookSize, frames } = stage;
  const { model, depth } = predictor;
  const codes = stage.codes[stage.stage];
  for (let i = from; i < to; i++) {
    const frame = frames === null ? i : frames[i];
    const code = codes[frame];
    predictor.begin(frame);
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
    predictor.end(code);
  }
}

function decodeCodes(coder: BitDecoder, predictor: Predictor, stage: StageCodes, from: number, to: number): void {
  const { codebookSize, frames } = stage;
  const { model, depth } = predictor;
  const codes = stage.codes[stage.stage];
  for (let i = from; i < to; i++) {
    const frame = frames === null ? i : frames[i];
    predictor.begin(frame);
    let node = 1;
    for (let bit = depth - 1; bit >= 0; bit--) {
      let one = 0;
      if (firstOfOne(node, bit) < codebookSize) {
        one = coder.decode(model.p(node, depth - 1 - bit));
        model.update(one);
      }
      node = 2 * node + one;
    }
    const code = node - 2 ** depth;
    codes[frame] = code;
    predictor.end(code);
  }
}

/** The smallest code below the child for a one of `node`, of which `bit` more bits follow: node without its leading one, and a one. */
function firstOfOne(node: number, bit: number): number {
  const prefix = node - (1 << (31 - Math.clz32(node)));
  return (2 * prefix + 1) << bit;
}

/** What predicts the codes of a stage: a model of bits, and the contexts for it. */
class Predictor {
  readonly model: BitModel;
  /** Codes to come in all. */
  readonly count: number;
  /** Bits of a code. */
  readonly depth: number;
  private readonly contexts: Int32Array;
  /** The stage's code before and 1; 0 at first. */
  private before = 0;
  private readonly above: CodeArray | undefined;
  private readonly twoAbove: CodeArray | undefined;
  private readonly first: CodeArray | undefined;

  constructor({ stage, codebookSize, codes, frames, table }: StageCodes, coding: EntropyCoding) {
    this.count = frames?.length ?? codes[stage].length;
    this.depth = bitsPerCode(codebookSize);
    this.contexts = new Int32Array(coding === "mixed" ? contextCount(stage) : 0);
    const bits = tableBits(this.count, this.depth);
    if (coding === "static") this.model = new StaticModel(table as Uint16Array);
    else if (coding === "adaptive") this.model = new AdaptiveModel(bits);
    else this.model = new MixedModel(this.contexts, bits);
    if (stage > 0) this.above = codes[stage - 1];
    if (stage > 1) this.first = codes[0];
    if (stage > 2) this.twoAbove = codes[stage - 2];
  }

  /**
   * Sets the contexts of the code to come: nothing; the stage's code before; the frame's code in the previous stage; both of
   * these; the frame's code in the first stage; and in the stage before the previous one.
   */
  begin(frame: number): void {
    const { contexts, above, first, twoAbove } = this;
    if (contexts.length === 0) return;
    contexts[1] = addToContext(0, this.before);
    if (above === undefined) return;
    contexts[2] = addToContext(0, above[frame]);
    contexts[3] = addToContext(contexts[1], above[frame]);
    if (first !== undefined) contexts[4] = addToContext(0, first[frame]);
    if (twoAbove !== undefined) contexts[5] = addToContext(0, twoAbove[frame]);
  }

  end(code: number): void {
    this.before = code + 1;
  }
}

/** Contexts that exist for the stage; those further back in the stages want stages to look back to. */
function contextCount(stage: number): number {
  return [2, 4, 5][stage] ?? 6;
}

/** Slots of one context: at least four for each bit there is to learn from, as far as memory for them is worth it. */
const fewestTableBits = 10;
const mostTableBits = 18;

function tableBits(count: number, depth: number): number {
  const slots = Math.max(1, Math.min(2 ** mostTableBits, 4 * count * depth));
  return Math.max(fewestTableBits, 32 - Math.clz32(slots - 1));
}
