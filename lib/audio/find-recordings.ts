// Finding WAV files in folders, and in the folders below them, however these are linked.

import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { ioError } from "./io-error.js";

/** What a search for recordings found. */
export interface FoundRecordings {
  readonly files: readonly string[];
  /** Folders that cannot be listed, and why. */
  readonly unreadable: readonly { readonly path: string; readonly reason: string }[];
}

/**
 * The WAV files among `paths` and, in the order of their names, under the folders among them. Links to folders are
 * followed, but no folder is visited twice: links may lead back to where they lie.
 */
export async function findRecordings(
  paths: readonly string[],
  { signal }: { readonly signal?: AbortSignal } = {},
): Promise<FoundRecordings> {
  const files = new Set<string>();
  const unreadable: { path: string; reason: string }[] = [];
  const visited = new Set<string>();
  for (const path of paths) {
    if ((await folderKey(path)) === null) {
      files.add(path);
      continue;
    }
    const names: string[] = [];
    // Links wait until all folders are visited, so that a file has its own name rather than one by way of a link. Both
    // in the order of the names: nothing depends on the order that the file system lists them in.
    const folders = [""];
    const links: string[] = [];
    for (let name = folders.pop(); name !== undefined; name = folders.pop() ?? links.shift()) {
      signal?.throwIfAborted();
      const key = await folderKey(join(path, name));
      if (key !== null && visited.has(key)) continue;
      if (key !== null) visited.add(key);
      try {
        const found = await listFolder(path, name);
        names.push(...found.files);
        folders.push(...found.folders.sort().reverse());
        links.push(...found.links.sort());
      } catch (error) {
        unreadable.push({ path: join(path, name), reason: ioError(join(path, name), "listed", error).message });
      }
    }
    // Sorted by code unit, so that the order, and with it the trained model, is the same in every locale.
    for (const name of names.sort()) files.add(join(path, name));
  }
  return { files: [...files], unreadable };
}

/** Which folder it is, by whatever path; null for anything else. */
async function folderKey(path: string): Promise<string | null> {
  try {
    const entry = await stat(path, { bigint: true });
    return entry.isDirectory() ? `${entry.dev}:${entry.ino}` : null;
  } catch {
    return null; // reading it as a file will say what is wrong
  }
}

/** WAV files, folders and links to folders in the folder `name`, all as paths from `root`. */
async function listFolder(root: string, name: string) {
  const files: string[] = [];
  const folders: string[] = [];
  const links: string[] = [];
  for (const entry of await readdir(join(root, name), { withFileTypes: true })) {
    const path = join(name, entry.name);
    if (entry.isDirectory()) folders.push(path);
    else if (entry.isSymbolicLink() && (await folderKey(join(root, path))) !== null) links.push(path);
    else if (/\.wave?$/i.test(entry.name)) files.push(path);
  }
  return { files, folders, links };
}
