// The built package as its users see it: by require, by import, by types and by its command.

import { execFileSync } from "node:child_process";
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import * as cluster from "../lib/cluster/index.js";
import * as library from "../lib/index.js";

const packageRoot = path.resolve(__dirname, "..");
const manifest = JSON.parse(readFileSync(path.join(packageRoot, "package.json"), "utf8"));

beforeAll(() => {
  if (!existsSync(path.join(packageRoot, "dist/index.js"))) throw new Error("dist/ is missing: npm run build");
});

describe("the built package", () => {
  it("exports by require exactly what the sources export", () => {
    expect(evaluate("commonjs", `Object.keys(require("rvq")).sort()`)).toEqual(Object.keys(library).sort());
  });

  it("exports the same names by import", () => {
    const names = evaluate("module", `Object.keys(await import("rvq"))`) as string[];
    // Node adds these two to whatever it imports from CommonJS.
    const ofNode = ["__esModule", "module.exports"];
    expect(names.filter((name) => !ofNode.includes(name))).toEqual(Object.keys(library).sort());
  });

  it("is one instance whichever way it is loaded", () => {
    const same = evaluate(
      "module",
      `await import("node:module").then(async ({ createRequire }) => {
        const required = createRequire(process.cwd() + "/x.js")("rvq");
        const imported = await import("rvq");
        return Object.keys(required).filter((name) => required[name] !== imported[name]);
      })`,
    );
    expect(same).toEqual([]);
  });

  it("resolves every file that package.json points to", () => {
    const files = [manifest.main, manifest.types];
    for (const entry of [manifest.exports["."], manifest.exports["./cluster"]]) {
      files.push(...Object.values(entry.import), ...Object.values(entry.require));
    }
    for (const file of [...files, ...Object.values<string>(manifest.bin)]) {
      expect(existsSync(path.join(packageRoot, String(file))), String(file)).toBe(true);
    }
  });

  it("has a command that the shell can run", () => {
    const command = path.join(packageRoot, manifest.bin.rvq);
    expect(() => accessSync(command, constants.X_OK)).not.toThrow();
    expect(readFileSync(command, "utf8").startsWith("#!/usr/bin/env node\n")).toBe(true);
  });

  it("prints nothing when it is loaded", () => {
    expect(node("commonjs", `require("rvq"); require("rvq/cluster")`)).toBe("");
  });

  it("shares its classes with rvq/cluster, which loads without its peers", () => {
    const names = evaluate("module", `Object.keys(await import("rvq/cluster"))`) as string[];
    expect(names).toEqual(expect.arrayContaining(Object.keys(cluster)));
    const loaded = `require("rvq/cluster"), Object.keys(require.cache).filter((file) => /node_modules.(bullmq|ioredis)/.test(file))`;
    expect(evaluate("commonjs", `(${loaded})`)).toEqual([]);
  });
});

describe("package.json", () => {
  it("has the version that status() tells", () => {
    expect(library.status().version).toBe(manifest.version);
  });

  it("runs no script when the package is installed", () => {
    const scripts = Object.keys(manifest.scripts);
    expect(scripts).not.toEqual(expect.arrayContaining([expect.stringMatching(/^(pre|post)?(install|prepare)$/)]));
    // npm would run node-gyp by itself where it finds this file.
    expect(existsSync(path.join(packageRoot, "binding.gyp"))).toBe(false);
  });

  it("names the Node-API version, without which the addon's build would download headers", () => {
    expect(manifest.binary.napi_versions).toEqual([8]);
  });
});

/** The value of an expression in a fresh process inside the package, where `rvq` means the package itself. */
function evaluate(type: "commonjs" | "module", expression: string): unknown {
  const value = type === "module" ? `await (${expression})` : expression;
  return JSON.parse(node(type, `console.log(JSON.stringify(${value}))`));
}

function node(type: "commonjs" | "module", script: string): string {
  const options = { cwd: packageRoot, encoding: "utf8" } as const;
  return execFileSync(process.execPath, [`--input-type=${type}`, "-e", script], options);
}
