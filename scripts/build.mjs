// Builds what this machine can build: lib/ to dist/, and the native addon where CMake and a C++ compiler are there.
//
// Nothing changed: nothing compiled and nothing printed. No compiler: one line, and rvq runs on its `js` backend.
// A compiler that is there and fails is an error. --typescript leaves the addon as it is.

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { missingTools } from "./toolchain.mjs";

const root = path.resolve(import.meta.dirname, "..");
const dist = path.join(root, "dist");

// Inside dist/, so that removing dist/ also makes the compiler forget what it has emitted.
const incrementalState = path.join(dist, ".tsbuildinfo");

buildTypeScript();
if (!process.argv.includes("--typescript")) buildAddon();

/** lib/**: TypeScript is compiled, any other file is copied; what no longer has a source is removed from dist/. */
function buildTypeScript() {
  const outputs = new Set([incrementalState]);
  const assets = [];
  for (const source of filesUnder(path.join(root, "lib"))) {
    const target = path.join(dist, path.relative(path.join(root, "lib"), source));
    if (/\.d\.m?ts$/.test(source)) continue;
    if (/\.m?ts$/.test(source)) {
      const [, stem, m] = /^(.*)\.(m?)ts$/.exec(target);
      for (const ending of [`.${m}js`, `.${m}js.map`, `.d.${m}ts`]) outputs.add(stem + ending);
    } else {
      outputs.add(target);
      assets.push([source, target]);
    }
  }
  for (const file of filesUnder(dist)) if (!outputs.has(file)) fs.rmSync(file);
  removeEmptyFolders(dist);

  // The incremental compiler trusts its own record of what it wrote: without one of the outputs, start over.
  const copies = new Set(assets.map(([, target]) => target));
  if ([...outputs].some((file) => !copies.has(file) && !fs.existsSync(file)))
    fs.rmSync(incrementalState, { force: true });
  const compiler = path.join(root, "node_modules/typescript/bin/tsc");
  run(process.execPath, [
    compiler,
    "-p",
    "tsconfig.build.json",
    "--incremental",
    "--tsBuildInfoFile",
    incrementalState,
  ]);

  for (const [source, target] of assets) {
    fs.mkdirSync(path.dirname(target), { recursive: true });
    fs.copyFileSync(source, target);
  }
  const command = path.join(dist, "cli/main.js");
  if (fs.existsSync(command)) fs.chmodSync(command, 0o755);
}

/** CMakeLists.txt, binding/ and cuda/ to build/Release/rvq.node, where anything is newer than the last good build. */
function buildAddon() {
  const addon = path.join(root, "build/Release/rvq.node");
  const stamp = path.join(root, "build/.built");
  const missing = missingTools();
  if (missing.length > 0) {
    const instead = fs.existsSync(addon) ? "the addon that was built before stays" : "rvq will use its js backend";
    console.log(`build: native addon skipped, ${missing.join(" and ")} not found; ${instead}`);
    return;
  }
  const inputs = ["CMakeLists.txt", "binding", "cuda", "package-lock.json"].map((name) => path.join(root, name));
  if (fs.existsSync(addon) && fs.existsSync(stamp) && newest(inputs) <= fs.statSync(stamp).mtimeMs) return;

  console.log("build: compiling the native addon");
  const started = performance.now();
  const compiler = path.join(root, "node_modules/cmake-js/bin/cmake-js");
  forgetMovedBuild();
  run(process.execPath, [compiler, "build", "--log-level", "error"], { quiet: true });
  if (!fs.existsSync(addon)) fail(`cmake-js succeeded but ${path.relative(root, addon)} is not there`);
  fs.writeFileSync(stamp, "");
  console.log(`build: native addon compiled in ${((performance.now() - started) / 1000).toFixed(1)} s`);
}

/** A build folder configured for another place (the checkout was moved or copied) cannot be used: CMake refuses it. */
function forgetMovedBuild() {
  const cache = path.join(root, "build/CMakeCache.txt");
  if (!fs.existsSync(cache)) return;
  const home = /^CMAKE_HOME_DIRECTORY:INTERNAL=(.*)$/m.exec(fs.readFileSync(cache, "utf8"))?.[1];
  if (home !== undefined && path.resolve(home) !== root) fs.rmSync(path.join(root, "build"), { recursive: true });
}

/** Runs a command to its end; what it printed is shown when it fails, or at once unless `quiet`. */
function run(command, args, { quiet = false } = {}) {
  const result = spawnSync(command, args, { cwd: root, stdio: quiet ? "pipe" : "inherit", maxBuffer: 2 ** 28 });
  if (result.status === 0) return;
  if (quiet) process.stderr.write(Buffer.concat([result.stdout ?? Buffer.of(), result.stderr ?? Buffer.of()]));
  const what = path.basename(args[0]);
  fail(
    result.error ? `${what}: ${result.error.message}` : `${what} failed (${result.signal ?? `exit ${result.status}`})`,
  );
}

function fail(message) {
  console.error(`build: ${message}`);
  process.exit(1);
}

/** The newest modification time under the given files and folders, in ms; folders count, so a removed file is seen. */
function newest(paths) {
  let latest = 0;
  for (const place of paths) {
    if (!fs.existsSync(place)) continue;
    const entry = fs.statSync(place);
    latest = Math.max(latest, entry.mtimeMs);
    if (entry.isDirectory())
      latest = Math.max(latest, newest(fs.readdirSync(place).map((name) => path.join(place, name))));
  }
  return latest;
}

function removeEmptyFolders(folder) {
  if (!fs.existsSync(folder)) return;
  for (const entry of fs.readdirSync(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) removeEmptyFolders(path.join(folder, entry.name));
  }
  if (fs.readdirSync(folder).length === 0) fs.rmdirSync(folder);
}

function filesUnder(folder) {
  if (!fs.existsSync(folder)) return [];
  const entries = fs.readdirSync(folder, { withFileTypes: true, recursive: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath, entry.name));
}
