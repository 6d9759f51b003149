// Bundles a benchmark by esbuild, because Node 20 does not run TypeScript.
//
// What it imports from lib/ is taken from dist/ and stays outside the bundle: what is measured is what users run. The
// bundle names it by a relative path, so that both can be moved to another machine together.

import path from "node:path";
import { build } from "esbuild";

const root = path.resolve(import.meta.dirname, "..");

/** bench/<name>.bench.mts to build/bench/<name>.mjs; returns that file. */
export async function bundleBench(name) {
  const bundle = path.join(root, "build/bench", `${name}.mjs`);
  await build({
    entryPoints: [path.join(root, "bench", `${name}.bench.mts`)],
    outfile: bundle,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    packages: "external",
    sourcemap: "inline",
    logLevel: "warning",
    plugins: [{ name: "compiled-library", setup: (bundler) => useCompiledLibrary(bundler, path.dirname(bundle)) }],
  });
  return bundle;
}

/** ../lib/x.js, imported from bench/ or test/, is dist/x.js. */
function useCompiledLibrary(bundler, folder) {
  bundler.onResolve({ filter: /\/lib\// }, ({ path: specifier, resolveDir }) => {
    const inside = path.relative(path.join(root, "lib"), path.resolve(resolveDir, specifier));
    if (inside.startsWith("..")) return undefined;
    const compiled = path.relative(folder, path.join(root, "dist", inside));
    return { path: compiled.split(path.sep).join("/"), external: true };
  });
}
