// The model of a GroupedQuantizer as bytes, in the envelope of lib/sealed-bytes.ts.
//
// Header { modelBytes: [of each group], metadata }, padded to 4 bytes; then the models of group 0, 1, … (lib/model-file.ts).

import type { CodebookSpec } from "./backend.js";
import { checkInteger, checkMetadata, limits } from "./check.js";
import { invalidArgument } from "./errors.js";
import { modelFromBytes, modelToBytes } from "./model-file.js";
import { openBytes, type SealedFormat, sealBytes } from "./sealed-bytes.js";

export interface GroupedModel {
  /** One a group: of the same metric and number of stages, all with weights or none. */
  readonly specs: readonly CodebookSpec[];
  readonly metadata: Readonly<Record<string, unknown>>;
}

const format: SealedFormat = {
  magic: "RVQG",
  version: 1,
  what: "a grouped model",
  code: "INVALID_MODEL",
  headerMultiple: 4,
};

export function groupedModelToBytes({ specs, metadata }: GroupedModel): Uint8Array {
  const models = specs.map((spec) => modelToBytes({ spec, metadata: {} }));
  return sealBytes(format, { modelBytes: models.map((model) => model.length), metadata }, models);
}

/**
 * @param name what to call the source in an error: a path, or "bytes"
 * @throws RvqError INVALID_MODEL for anything that is not a whole, undamaged model
 */
export function groupedModelFromBytes(name: string, bytes: Uint8Array): GroupedModel {
  return openBytes(format, name, bytes, (header, arrays) => {
    const lengths = checkLengths(header.modelBytes);
    arrays.expect(
      lengths.reduce((sum, length) => sum + length, 0),
      "models",
    );
    const specs = lengths.map((length, group) => modelFromBytes(`${name}, group ${group}`, arrays.uint8(length)).spec);
    checkAlike(specs);
    return { specs, metadata: checkMetadata(header.metadata) };
  });
}

/** Groups of one quantizer have the same metric, as many stages, and all of them weights or none; together at most dim. */
export function checkAlike(specs: readonly CodebookSpec[]): void {
  const [first] = specs;
  for (const [group, { metric, weights, codebooks }] of specs.entries()) {
    const stages = codebooks.length;
    if (stages !== first.codebooks.length) {
      throw invalidArgument(`codebooks[${group}]`, `${first.codebooks.length} stages, as in group 0`, stages);
    }
    if (metric !== first.metric) throw invalidArgument(`group ${group}`, `metric "${first.metric}"`, metric);
    if ((weights === null) !== (first.weights === null)) {
      throw invalidArgument(`group ${group}`, "weights in all groups or in none", weights);
    }
  }
  checkInteger(
    "dim",
    specs.reduce((sum, { dim }) => sum + dim, 0),
    1,
    limits.dim,
  );
}

function checkLengths(value: unknown): number[] {
  if (!Array.isArray(value)) throw invalidArgument("modelBytes", "an array", value);
  checkInteger("modelBytes.length", value.length, 1, limits.groups);
  return Array.from(value, (length: unknown, group) =>
    checkInteger(`modelBytes[${group}]`, length, 0, Number.MAX_SAFE_INTEGER),
  );
}
