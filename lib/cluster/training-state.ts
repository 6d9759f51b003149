// How far a training run has come, in one file: a model whose metadata says so.

import { readFile } from "node:fs/promises";
import { checkInteger } from "../check.js";
import { invalidArgument, RvqError } from "../errors.js";
import { ResidualQuantizer } from "../residual-quantizer.js";
import type { SharedFolders } from "./folders.js";

export interface TrainingState {
  /** SHA-256 (hex) of all that decides the codebooks. */
  readonly recipe: string;
  /** Stages that are finished. */
  readonly finished: readonly Float32Array[];
  /** The stage in training; null: it has not begun. */
  readonly current: CurrentStage | null;
  /** Of the generator. */
  readonly random: readonly number[];
}

export interface CurrentStage {
  readonly codebook: Float32Array;
  /** Iterations done. */
  readonly iteration: number;
  /** Codewords that the last iteration has started again. */
  readonly reseeded: number;
  /** Digest of the codes of the last iteration; null before the first. */
  readonly codes: string | null;
}

export async function saveState(
  folders: SharedFolders,
  file: string,
  { recipe, finished, current, random }: TrainingState,
  dim: number,
): Promise<void> {
  const codebooks = current === null ? finished : [...finished, current.codebook];
  const { iteration = null, reseeded = 0, codes = null } = current ?? {};
  const metadata = { recipe, iteration, reseeded, codes, random };
  const model = ResidualQuantizer.fromCodebooks(codebooks, { dim, metadata, backend: "js" });
  await model.save(await folders.newOutput(file));
  model.dispose();
}

/**
 * The state of an earlier run; null: there is none.
 * @throws RvqError INVALID_ARGUMENT for one of another recipe; INVALID_MODEL, IO
 */
export async function loadState(folders: SharedFolders, file: string, recipe: string): Promise<TrainingState | null> {
  const path = await folders.outputPath(file);
  const there = await readFile(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => error.code !== "ENOENT",
  );
  if (!there) return null;
  const model = await ResidualQuantizer.load(path, { backend: "js" });
  const { metadata } = model;
  if (metadata.recipe !== recipe) {
    const remedy = "take another folder, or remove this one";
    throw invalidArgument("work", `a folder of this very run (${remedy})`, `${file} of another`);
  }
  try {
    const codebooks = model.codebooks();
    const random = metadata.random as number[];
    if (!Array.isArray(random) || random.length !== 4) throw invalidArgument("random", "four words", random);
    for (const word of random) checkInteger("random", word, 0, 2 ** 32 - 1);
    if (metadata.iteration === null) return { recipe, finished: codebooks, current: null, random };
    const current = {
      codebook: codebooks.pop() as Float32Array,
      iteration: checkInteger("iteration", metadata.iteration, 0, 1_000_000),
      reseeded: checkInteger("reseeded", metadata.reseeded, 0, 2 ** 24),
      codes: typeof metadata.codes === "string" ? metadata.codes : null,
    };
    return { recipe, finished: codebooks, current, random };
  } catch (cause) {
    throw new RvqError("INVALID_MODEL", `${file}: ${(cause as Error).message}`, { cause });
  }
}
