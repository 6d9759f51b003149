// Models of any of the quantizers: their first letters say whose they are.

import { checkBytes, checkOptions } from "./check.js";
import { RvqError } from "./errors.js";
import { GroupedQuantizer } from "./grouped-quantizer.js";
import { ProjectedQuantizer } from "./projected-quantizer.js";
import type { BackendChoiceOptions } from "./quantizer-options.js";
import { ResidualQuantizer } from "./residual-quantizer.js";
import { readSealedFile } from "./sealed-bytes.js";

export type AnyQuantizer = ResidualQuantizer | GroupedQuantizer | ProjectedQuantizer;

/**
 * The quantizer that `save` wrote to a file, of whatever class.
 * @throws RvqError IO, INVALID_MODEL, BACKEND_UNAVAILABLE
 */
export async function loadQuantizer(path: string | URL, options: BackendChoiceOptions = {}): Promise<AnyQuantizer> {
  checkOptions("options", options);
  const { name, bytes } = await readSealedFile(path);
  try {
    return quantizerFromBytes(bytes, options);
  } catch (cause) {
    if (!(cause instanceof RvqError) || cause.code !== "INVALID_MODEL") throw cause;
    throw new RvqError(cause.code, cause.message.replace(/^bytes/, name), { cause });
  }
}

/**
 * The quantizer of the bytes of `toBytes`, of whatever class.
 * @throws RvqError INVALID_MODEL, BACKEND_UNAVAILABLE
 */
export function quantizerFromBytes(bytes: Uint8Array, options: BackendChoiceOptions = {}): AnyQuantizer {
  const plain = checkBytes("bytes", bytes);
  switch (Buffer.from(plain.buffer, plain.byteOffset, Math.min(4, plain.length)).toString("latin1")) {
    case "RVQP":
      return ProjectedQuantizer.fromBytes(plain, options);
    case "RVQG":
      return GroupedQuantizer.fromBytes(plain, options);
    default:
      return ResidualQuantizer.fromBytes(plain, options);
  }
}
