// The folders that a cluster shares: names from jobs become paths that stay below them.

import { mkdir, readdir, realpath, rm, stat } from "node:fs/promises";
import path from "node:path";
import { isTemporaryName } from "../atomic-file.js";
import { type ByteSource, openSource } from "../bitstream/byte-source.js";
import { checkPath, checkRequiredOptions } from "../check.js";
import { invalidArgument, RvqError } from "../errors.js";

/** Bytes of an input; `version` changes when they do. */
export interface InputSource extends ByteSource {
  readonly version?: string;
}

/** Opens an input by its name, such as an object in a store. */
export type InputOpener = (name: string) => Promise<InputSource>;

export interface FolderOptions {
  /** The folder below which inputs are, or what opens them by their names. */
  readonly inputs: string | URL | InputOpener;
  /** The folder for all that is written. Every process sees the same files there, at whatever path. */
  readonly outputs: string | URL;
}

/** Where an input lies: with the corpus, or among what earlier jobs wrote. */
export type Side = "inputs" | "outputs";

export class SharedFolders {
  private constructor(
    private readonly inputs: string | InputOpener,
    private readonly outputs: string,
  ) {}

  /** @throws RvqError INVALID_ARGUMENT; IO for what is no folder */
  static async open(options: FolderOptions): Promise<SharedFolders> {
    checkRequiredOptions("options", options);
    const { inputs, outputs } = options;
    const opened = typeof inputs === "function" ? inputs : await openFolder("inputs", inputs);
    return new SharedFolders(opened, await openFolder("outputs", outputs));
  }

  /** The path of an output or of a folder of outputs. */
  outputPath(name: string): Promise<string> {
    return pathBelow(this.outputs, name);
  }

  /** The path of an output that will be written; its folder is made. */
  async newOutput(name: string): Promise<string> {
    const file = await pathBelow(this.outputs, name);
    try {
      await mkdir(path.dirname(file), { recursive: true });
    } catch (cause) {
      throw new RvqError("IO", `cannot make the folder of ${name}: ${(cause as Error).message}`, { cause });
    }
    return file;
  }

  /** Removes a folder of outputs with all that is in it. */
  async remove(name: string): Promise<void> {
    await rm(await pathBelow(this.outputs, name), { recursive: true, force: true }).catch((cause: Error) => {
      throw new RvqError("IO", `cannot remove ${name}: ${cause.message}`, { cause });
    });
  }

  /** Removes what writers that were killed left in a folder of outputs. */
  async removeUnfinished(name: string): Promise<void> {
    const folder = await pathBelow(this.outputs, name);
    for (const entry of await readdir(folder).catch(() => [])) {
      if (isTemporaryName(entry)) await rm(path.join(folder, entry), { force: true });
    }
  }

  /** The bytes of a file. */
  async open(side: Side, name: string): Promise<InputSource> {
    if (side === "inputs" && typeof this.inputs === "function") {
      const source = await this.inputs(checkFileName("name", name));
      return (await openSource(source)).source;
    }
    const root = side === "outputs" ? this.outputs : (this.inputs as string);
    const file = await pathBelow(root, name);
    try {
      const entry = await stat(file);
      if (!entry.isFile()) throw new Error("it is not a regular file");
      const { source } = await openSource(file);
      const close = () => source.close?.() ?? Promise.resolve();
      const version = `${entry.size} ${entry.mtimeMs}`;
      return { sizeBytes: source.sizeBytes, version, read: (at, length) => source.read(at, length), close };
    } catch (cause) {
      throw new RvqError("IO", `cannot read ${name}: ${(cause as Error).message}`, { cause });
    }
  }
}

/** A name such as "a/b.npy": parts between slashes, none of which leads up or elsewhere. */
export function checkFileName(name: string, value: unknown): string {
  const expected = 'a relative path with "/" between its parts, below the folder';
  if (typeof value !== "string" || value.length > 1024 || /[\0\\:]/.test(value)) {
    throw invalidArgument(name, expected, value);
  }
  if (value.split("/").some((part) => part === "" || part === "." || part === "..")) {
    throw invalidArgument(name, expected, value);
  }
  return value;
}

async function openFolder(name: string, value: unknown): Promise<string> {
  const given = checkPath(name, value);
  try {
    if (!(await stat(given)).isDirectory()) throw new Error("it is not a folder");
    return await realpath(given);
  } catch (cause) {
    throw new RvqError("IO", `${name}: cannot use ${given}: ${(cause as Error).message}`, { cause });
  }
}

/** root/name, also where symbolic links are on the way: what exists of it must lie below root. */
async function pathBelow(root: string, name: string): Promise<string> {
  const target = path.join(root, ...checkFileName("name", name).split("/"));
  let existing = target;
  for (;;) {
    const real = await realpath(existing).catch(() => null);
    if (real === null) {
      existing = path.dirname(existing);
      continue;
    }
    const way = path.relative(root, real);
    if (way === ".." || way.startsWith(`..${path.sep}`) || path.isAbsolute(way)) {
      throw invalidArgument("name", "a path below the folder", `${name}, which links out of it`);
    }
    return target;
  }
}
