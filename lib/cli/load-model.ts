// Models for commands that work with one class of quantizer: others are refused with the reason.

import {
  type BackendChoiceOptions,
  GroupedQuantizer,
  loadQuantizer,
  ProjectedQuantizer,
  ResidualQuantizer,
  RvqError,
} from "../index.js";

/** A model whose vectors are frames of audio. */
export async function loadAudioModel(path: string, backend: BackendChoiceOptions): Promise<ResidualQuantizer> {
  const quantizer = await loadQuantizer(path, backend);
  if (quantizer instanceof ResidualQuantizer && quantizer.metadata.audio !== undefined) return quantizer;
  quantizer.dispose();
  const why =
    quantizer instanceof ResidualQuantizer
      ? "of other vectors (of which rvq encode takes a .npy file, and rvq decode writes one)"
      : quantizer instanceof ProjectedQuantizer
        ? "whose vectors are the latents of a codec"
        : "of dimensions in groups";
  throw new RvqError(
    "INVALID_MODEL",
    `${path}: expected a model trained on audio (by rvq train or rvq demo), got one ${why}`,
  );
}

/** A model whose reconstructions are sums of codewords, one a code. */
export async function loadSearchableModel(
  path: string,
  backend: BackendChoiceOptions,
): Promise<ResidualQuantizer | ProjectedQuantizer> {
  const quantizer = await loadQuantizer(path, backend);
  if (!(quantizer instanceof GroupedQuantizer)) return quantizer;
  quantizer.dispose();
  throw new RvqError(
    "INVALID_MODEL",
    `${path}: expected a model that an index can search, got one of dimensions in groups`,
  );
}
