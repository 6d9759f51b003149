// Finds and loads the native addon, once, and says why where that cannot be done.

import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import nodeGypBuild from "node-gyp-build";

/** The addon's exports and its file; or no addon and one line for people. `file` null: none was found. */
export type LoadedAddon =
  | { readonly addon: object; readonly file: string }
  | { readonly addon: null; readonly file: string | null; readonly reason: string };

let loaded: LoadedAddon | undefined;

/** The addon of this installation: a development build before a prebuilt one. Never throws, prints or downloads. */
export function loadAddon(): LoadedAddon {
  loaded ??= loadAddonFrom(packageRoot());
  return loaded;
}

/** The addon below `root` (build/Release/ or prebuilds/<platform>-<arch>/); null: the package has no folder of its own. */
export function loadAddonFrom(root: string | null): LoadedAddon {
  if (root === null) {
    return {
      addon: null,
      file: null,
      reason: "not found: rvq is bundled into another file; keep it external to use it",
    };
  }
  let file: string;
  try {
    file = nodeGypBuild.resolve(root);
  } catch {
    const reason = `not found: no build for ${process.platform}-${process.arch} in prebuilds/ or build/Release/ of ${root}`;
    return { addon: null, file: null, reason };
  }
  try {
    // Not a plain `require`: a bundler must leave this one alone, and tests run the sources as ES modules.
    const addon: unknown = createRequire(__filename)(file);
    if (typeof addon === "object" && addon !== null) return { addon, file };
    return { addon: null, file, reason: `failed to load: ${file} is not rvq's addon` };
  } catch (error) {
    return { addon: null, file, reason: `failed to load: ${loadFailure(error)}` };
  }
}

/** rvq's folder, which holds package.json; for a bundled copy that of the package installed beside the bundle, or null. */
export function packageRoot(): string | null {
  // A bundle in the form of an ES module has no __dirname.
  if (typeof __dirname === "undefined") return null;
  const parent = path.dirname(__dirname);
  if (isRvq(path.join(parent, "package.json"))) return parent;
  try {
    return path.dirname(createRequire(__filename).resolve("rvq/package.json"));
  } catch {
    return null;
  }
}

function isRvq(manifest: string): boolean {
  try {
    const content: unknown = existsSync(manifest) && JSON.parse(readFileSync(manifest, "utf8"));
    return typeof content === "object" && content !== null && "name" in content && content.name === "rvq";
  } catch {
    return false;
  }
}

function loadFailure(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if ("code" in error && error.code === "ERR_DLOPEN_DISABLED") return "native addons are switched off (--no-addons)";
  return error.message.replace(/\s+/g, " ").trim();
}
