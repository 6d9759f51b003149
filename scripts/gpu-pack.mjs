// Fills .gpu/ with what scripts/gpu.sh needs on a machine that has a GPU but no Node, no registry and no time to compile.
//
//   node scripts/gpu-pack.mjs [--arch=90a-real]   GPU architectures of the addon, as CMake takes them: "86-real;90a-real"
//
//   .gpu/node.xz              this process's node, stripped
//   .gpu/files.tar.xz         node_modules/ (what vitest and the package need to run), dist/, build/bench/cuda.mjs
//   .gpu/build/Release/       the addon, with RVQ_TESTING and line numbers of kernels for compute-sanitizer
//   .gpu/sources.sha256       the files that these were made of: gpu.sh refuses others
//   .gpu/flash-kmeans/        a peer of the benchmark, where somebody has put it there
//
// Runs again do only what has changed. The other machine needs the same processor and a glibc that is not older.

import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { bundleBench } from "./bundle-bench.mjs";

const root = path.resolve(import.meta.dirname, "..");
const folder = path.join(root, ".gpu");
const work = path.join(root, "build/gpu");
const maxBytes = 50 * 2 ** 20;
const arch = process.argv.find((argument) => argument.startsWith("--arch="))?.slice("--arch=".length) ?? "90a-real";

/** What scripts/gpu.sh runs: the rest of node_modules stays here. */
const packages = ["vitest", "fast-check", "tinybench", ...Object.keys(manifestOf(root).dependencies)];
/** Vite loads it for style sheets alone. */
const unused = /^lightningcss|^@types\//;
const droppedFiles = /\.(map|md|markdown|d\.[cm]?ts|flow)$/;
/** The other machine must have these in the state that they have here. */
const sources = ["CMakeLists.txt", "binding", "cuda", "lib", "bench/cuda", "bench/cuda.bench.mts", "package-lock.json"];

fs.mkdirSync(folder, { recursive: true });
fs.mkdirSync(work, { recursive: true });
packNode();
buildAddon();
await packFiles();
writeSources();
printSizes();

/** Stripping saves 13 of 99 MB; what addons link to stays. */
function packNode() {
  const target = path.join(folder, "node.xz");
  const made = path.join(work, "node");
  unlessSame(target, [process.version, process.execPath], () => {
    fs.copyFileSync(process.execPath, made);
    fs.chmodSync(made, 0o755);
    run("strip", [made]);
    run("xz", ["-9e", "--force", "--keep", made]);
    fs.renameSync(`${made}.xz`, target);
  });
}

function buildAddon() {
  const options = ["RVQ_REQUIRE_CUDA=ON", "RVQ_TESTING=ON", `CMAKE_CUDA_ARCHITECTURES=${arch}`];
  // CMake does not look at the architectures again in a folder that it knows.
  const place = path.join(work, `build-${arch.replaceAll(";", "+")}`);
  const flags = ["build", "--log-level", "error", "--out", place];
  console.log(`gpu-pack: compiling the addon with ${options.join(" ")}`);
  run(process.execPath, [
    path.join(root, "node_modules/cmake-js/bin/cmake-js"),
    ...flags,
    ...options.map((option) => `--CD${option}`),
    "--CDCMAKE_CUDA_FLAGS=-lineinfo",
  ]);
  const target = path.join(folder, "build/Release/rvq.node");
  fs.mkdirSync(path.dirname(target), { recursive: true });
  fs.copyFileSync(path.join(place, "Release/rvq.node"), target);
  run("strip", [target]);
}

async function packFiles() {
  run(process.execPath, [path.join(root, "scripts/build.mjs"), "--typescript"]);
  const benchmark = await bundleBench("cuda");
  const target = path.join(folder, "files.tar.xz");
  const closure = closureOf(packages);
  const inputs = [path.join(root, "dist"), benchmark, path.join(root, "package-lock.json")];
  unlessSame(target, [closure.join("\n"), ...inputs.map(hashOf)], () => {
    const stage = path.join(work, "files");
    fs.rmSync(stage, { recursive: true, force: true });
    for (const place of closure) copyPackage(place, path.join(stage, path.relative(root, place)));
    const copies = [path.join(root, "dist"), benchmark];
    for (const place of copies) fs.cpSync(place, path.join(stage, path.relative(root, place)), { recursive: true });
    const order = ["--sort=name", "--owner=0", "--group=0", "--mtime=@0"];
    const names = ["node_modules", "dist", "build"];
    run("tar", [...order, "--create", "--use-compress-program=xz -9e", "--file", target, "-C", stage, ...names]);
  });
}

/** Hashes as sha256sum checks them, of every file below `sources` that git does not ignore. */
function writeSources() {
  const list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", ...sources];
  const names = spawnSync("git", list, { cwd: root, encoding: "utf8" }).stdout.split("\0").filter(Boolean);
  const lines = names
    .filter((name) => fs.existsSync(path.join(root, name)))
    .map((name) => `${sha256(fs.readFileSync(path.join(root, name)))}  ${name}\n`);
  fs.writeFileSync(path.join(folder, "sources.sha256"), lines.join(""));
}

function printSizes() {
  let total = 0;
  for (const name of fs.readdirSync(folder)) {
    if (name === "out") continue;
    const bytes = filesUnder(path.join(folder, name)).reduce((sum, file) => sum + fs.statSync(file).size, 0);
    total += bytes;
    console.log(`gpu-pack: ${(bytes / 2 ** 20).toFixed(2).padStart(7)} MiB  .gpu/${name}`);
  }
  console.log(`gpu-pack: ${(total / 2 ** 20).toFixed(2).padStart(7)} MiB  in all, addon for ${arch}`);
  if (total > maxBytes) fail(`at most ${maxBytes / 2 ** 20} MiB are wanted`);
}

/** The folders of packages and of all that they depend on, by the rules by which Node finds them. */
function closureOf(names) {
  const found = new Set();
  const add = (name, from) => {
    const place = packageFolder(name, from);
    if (place === undefined || found.has(place) || unused.test(name)) return;
    found.add(place);
    const { dependencies, optionalDependencies } = manifestOf(place);
    for (const next of Object.keys({ ...dependencies, ...optionalDependencies })) add(next, place);
  };
  for (const name of names) add(name, root);
  return [...found].sort();
}

/** undefined: an optional package of another platform. */
function packageFolder(name, from) {
  for (let place = from; ; place = path.dirname(place)) {
    const candidate = path.join(place, "node_modules", name);
    if (fs.existsSync(candidate)) return candidate;
    if (place === root) return undefined;
  }
}

/** Without the packages inside, which are in the closure themselves where they are needed, and without what only people read. */
function copyPackage(from, to) {
  const filter = (source) => {
    if (source === from) return true;
    const name = path.basename(source);
    return name !== "node_modules" && !droppedFiles.test(name);
  };
  fs.cpSync(from, to, { recursive: true, filter });
}

function manifestOf(place) {
  return JSON.parse(fs.readFileSync(path.join(place, "package.json"), "utf8"));
}

/** Makes the file unless it is there and was made of the same; the key is kept in build/, and is no part of what travels. */
function unlessSame(target, parts, make) {
  const key = sha256(parts.join("\n"));
  const record = path.join(work, `${path.basename(target)}.key`);
  if (fs.existsSync(target) && fs.existsSync(record) && fs.readFileSync(record, "utf8") === key) return;
  console.log(`gpu-pack: packing ${path.relative(root, target)}`);
  fs.rmSync(record, { force: true });
  make();
  fs.writeFileSync(record, key);
}

function hashOf(place) {
  return sha256(
    filesUnder(place)
      .map((file) => `${file} ${sha256(fs.readFileSync(file))}`)
      .join("\n"),
  );
}

function sha256(content) {
  return createHash("sha256").update(content).digest("hex");
}

/** Sorted; a file is itself. */
function filesUnder(place) {
  if (!fs.existsSync(place)) return [];
  if (!fs.statSync(place).isDirectory()) return [place];
  return fs
    .readdirSync(place)
    .sort()
    .flatMap((name) => filesUnder(path.join(place, name)));
}

function run(command, args) {
  const result = spawnSync(command, args, { cwd: root, stdio: "inherit" });
  if (result.status === 0) return;
  fail(`${command} ${args[0]}: ${result.error?.message ?? result.signal ?? `exit ${result.status}`}`);
}

function fail(message) {
  console.error(`gpu-pack: ${message}`);
  process.exit(1);
}
