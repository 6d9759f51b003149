// Codes belong to the model that made them: the check, and its sentence.

import { type AnyQuantizer, RvqError } from "../index.js";

/** Throws INVALID_STREAM unless the quantizer, from the file `model`, is the one that coded `input`. */
export function checkSameModel(input: string, modelId: string, model: string, quantizer: AnyQuantizer): void {
  if (modelId === quantizer.id) return;
  const got = `${model}, which is ${quantizer.id.slice(0, 16)}`;
  throw new RvqError(
    "INVALID_STREAM",
    `${input}: expected the model ${modelId.slice(0, 16)} that coded it, got ${got}`,
  );
}
