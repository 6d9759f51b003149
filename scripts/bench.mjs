// Runs benchmarks: bench/<name>.bench.mts for the names given, or all of them; other arguments are passed on.
//
// They are bundled by esbuild, because Node 20 does not run TypeScript. What they import from lib/ is taken from dist/:
// what is measured is what users run.

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { build } from "esbuild";

const root = path.resolve(import.meta.dirname, "..");
const ending = ".bench.mts";
const available = fs.readdirSync(path.join(root, "bench")).filter((name) => name.endsWith(ending));
const names = available.map((name) => name.slice(0, -ending.length)).sort();

const words = process.argv.slice(2);
const options = words.filter((word) => word.startsWith("-"));
const chosen = words.filter((word) => !word.startsWith("-"));
const unknown = chosen.find((name) => !names.includes(name));
if (unknown !== undefined) {
  console.error(`bench: no benchmark "${unknown}"; there are: ${names.join(", ")}`);
  process.exit(2);
}

for (const name of chosen.length > 0 ? chosen : names) {
  const bundle = path.join(root, "build/bench", `${name}.mjs`);
  await build({
    entryPoints: [path.join(root, "bench", name + ending)],
    outfile: bundle,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    packages: "external",
    sourcemap: "inline",
    logLevel: "warning",
    plugins: [{ name: "compiled-library", setup: useCompiledLibrary }],
  });
  const flags = ["--enable-source-maps", "--expose-gc"];
  const result = spawnSync(process.execPath, [...flags, bundle, ...options], { cwd: root, stdio: "inherit" });
  if (result.status !== 0) process.exit(result.status ?? 1);
}

/** ../lib/x.js, imported from bench/, is dist/x.js and stays outside the bundle. */
function useCompiledLibrary(bundler) {
  bundler.onResolve({ filter: /\/lib\// }, ({ path: specifier, resolveDir }) => {
    const inside = path.relative(path.join(root, "lib"), path.resolve(resolveDir, specifier));
    return inside.startsWith("..") ? undefined : { path: path.join(root, "dist", inside), external: true };
  });
}
