// The loader of the native addon: what it finds, what it prefers, and how it says that there is none.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { loadAddon, loadAddonFrom } from "../lib/addon.js";

const packageRoot = path.resolve(__dirname, "..");
const compiledLoader = path.join(packageRoot, "dist/addon.js");
const builtAddon = path.join(packageRoot, "build/Release/rvq.node");
const prebuildFolder = `prebuilds/${process.platform}-${process.arch}`;

let root: string;

beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), "rvq-addon-"));
});

afterEach(() => {
  rmSync(root, { recursive: true });
});

describe("loadAddonFrom", () => {
  it("says that nothing was found in an empty folder, and which folders it looked in", () => {
    const result = loadAddonFrom(root);
    expect(result).toMatchObject({ addon: null, file: null });
    expect(result).toHaveProperty("reason", expect.stringContaining("not found: no build for"));
    expect(result).toHaveProperty("reason", expect.stringContaining(root));
  });

  it("says that a bundled copy has no folder of its own", () => {
    const result = loadAddonFrom(null);
    expect(result).toMatchObject({ addon: null, file: null });
    expect(result).toHaveProperty("reason", expect.stringContaining("keep it external"));
  });

  it("tells a file that does not load apart from one that is missing, and passes the loader's words on", () => {
    const file = place("build/Release/rvq.node", "this is not a shared library");
    const result = loadAddonFrom(root);
    expect(result).toMatchObject({ addon: null, file });
    expect(result).toHaveProperty("reason", expect.stringMatching(/^failed to load: .*rvq\.node/));
    expect(result).toHaveProperty("reason", expect.not.stringContaining("\n"));
  });

  it("finds a prebuilt addon of this platform, and prefers a development build to it", () => {
    const prebuilt = place(`${prebuildFolder}/rvq.node`, "");
    expect(loadAddonFrom(root)).toMatchObject({ addon: null, file: prebuilt });
    const built = place("build/Release/rvq.node", "");
    expect(loadAddonFrom(root)).toMatchObject({ addon: null, file: built });
  });

  it("does not take a prebuilt addon of another platform or C library", () => {
    const otherLibc = existsSync("/etc/alpine-release") ? "glibc" : "musl";
    place("prebuilds/plan9-x64/rvq.node", "");
    place(`${prebuildFolder}/rvq.${otherLibc}.node`, "");
    expect(loadAddonFrom(root)).toMatchObject({ addon: null, file: null });
  });
});

describe("loadAddon", () => {
  it("answers from memory the second time", () => {
    expect(loadAddon()).toBe(loadAddon());
  });

  it.skipIf(!existsSync(builtAddon) || process.env.RVQ_PREBUILD)("loads the addon that was built here", () => {
    expect(loadAddon()).toMatchObject({ file: builtAddon });
    expect(loadAddon().addon).not.toBeNull();
  });

  it("says that addons are switched off under --no-addons, from the compiled package", () => {
    place("package.json", JSON.stringify({ name: "rvq" }));
    place("build/Release/rvq.node", "");
    const script = `console.log(JSON.stringify(require(${JSON.stringify(compiledLoader)}).loadAddonFrom(process.argv[1])))`;
    const output = execFileSync(process.execPath, ["--no-addons", "-e", script, root], { encoding: "utf8" });
    expect(JSON.parse(output)).toMatchObject({
      addon: null,
      reason: "failed to load: native addons are switched off (--no-addons)",
    });
  });
});

function place(name: string, content: string): string {
  const file = path.join(root, name);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, content);
  return file;
}
