// Packs the package as it would be published, installs the tarball in a fresh folder, and uses it there in every way
// a user would: require, import, worker threads, without addons, without the prebuilt addon, bundled, by its command.
//
//   npm run pack:test -- [--node 20,22,24,26] [--old-system]
//
// Every way must give the same codes. The tarball must pass publint and attw and stay under the size limit. --node: with these versions
// of Node too. --old-system: on a Linux whose glibc is older than that of the build as well (scripts/old-system.mjs).

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { build } from "esbuild";
import { nodeOfVersion } from "./node-versions.mjs";
import { copyThere, glibcThere, runThere, whyNoOldSystem } from "./old-system.mjs";
import { programs } from "./pack-programs.mjs";

const root = path.resolve(import.meta.dirname, "..");
const maxTarballBytes = 8e6;
/** Of an addon with CUDA's code for all architectures, beside that. */
const maxCudaBytes = 3e6;
const leastCudaAddonBytes = 2e6;
const npm = process.platform === "win32" ? "npm.cmd" : "npm";
const { values: options } = parseArgs({
  options: { node: { type: "string", default: "" }, "old-system": { type: "boolean", default: false } },
});
const others = options.node.split(",").filter((version) => version !== "");
const running = { version: process.version, node: process.execPath };
const nodes = [running, ...others.map(nodeOfVersion).filter(({ version }) => version !== running.version)];

/** Hashes of the codes of all ways: one, where all is well. */
const sums = new Set();
/** Reasons that have been printed. */
const told = new Set();
const workplace = fs.mkdtempSync(path.join(os.tmpdir(), "rvq-pack-"));
try {
  run(process.execPath, [path.join(root, "scripts/build.mjs")], root);
  const tarball = pack();
  lint(tarball);
  const project = install(tarball);
  await useEveryWay(project);
  console.log("pack: all well");
} catch (error) {
  console.error(`pack: ${error.message}`);
  process.exitCode = 1;
} finally {
  fs.rmSync(workplace, { recursive: true, force: true });
}

/** The tarball's path; reports what is in it and fails where it is too large or something that it needs is missing. */
function pack() {
  const output = run(npm, ["pack", "--json", "--ignore-scripts", "--pack-destination", workplace], root);
  const [{ filename, size, unpackedSize, files }] = JSON.parse(output);
  const largest = [...files].sort((a, b) => b.size - a.size).slice(0, 5);
  const megabytes = (bytes) => `${(bytes / 1e6).toFixed(2)} MB`;
  console.log(
    `pack: ${filename}, ${megabytes(size)} packed, ${megabytes(unpackedSize)} unpacked, ${files.length} files`,
  );
  for (const file of largest) console.log(`pack:   ${megabytes(file.size).padStart(9)}  ${file.path}`);
  const withCuda = files.some((file) => file.path.startsWith("prebuilds/") && file.size > leastCudaAddonBytes);
  const most = maxTarballBytes + (withCuda ? maxCudaBytes : 0);
  if (size > most) fail(`the tarball has ${megabytes(size)}, more than ${megabytes(most)}`);

  const packed = new Set(files.map((file) => file.path));
  for (const needed of [
    "LICENSE",
    "README.md",
    "CHANGELOG.md",
    "dist/index.js",
    "dist/index.mjs",
    "dist/cli/main.js",
    "dist/cluster/index.js",
    "dist/cluster/index.mjs",
    "dist/js/worker.js",
    "dist/statistics-worker.js",
  ]) {
    if (!packed.has(needed)) fail(`${needed} is not in the tarball`);
  }
  const stray = files.find(
    (file) => /(^|\/)(\.|node_modules|test|build)/.test(file.path) || file.path.endsWith(".tgz"),
  );
  if (stray !== undefined) fail(`${stray.path} has no place in the tarball`);
  return path.join(workplace, filename);
}

function lint(tarball) {
  run(process.execPath, [path.join(root, "node_modules/publint/src/cli.js"), "run", tarball, "--strict"], root);
  console.log("pack: publint finds nothing");
  const attw = path.join(root, "node_modules/@arethetypeswrong/cli/dist/index.js");
  run(process.execPath, [attw, tarball, "--no-definitely-typed"], root);
  console.log("pack: attw finds nothing");
}

/** A fresh project with the tarball installed and no install scripts run; returns its folder. */
function install(tarball) {
  const project = path.join(workplace, "project");
  fs.mkdirSync(project);
  fs.writeFileSync(path.join(project, "package.json"), JSON.stringify({ name: "project", private: true }));
  run(npm, ["install", "--ignore-scripts", "--no-audit", "--no-fund", tarball], project);
  for (const [name, program] of Object.entries(programs)) fs.writeFileSync(path.join(project, name), program);
  return project;
}

async function useEveryWay(project) {
  const installed = path.join(project, "node_modules/rvq");
  const prebuilt = fs.existsSync(path.join(installed, "prebuilds", `${process.platform}-${process.arch}`));
  const native = prebuilt ? ["cuda", "cpu"] : ["js"];
  const alone = await bundle(project);
  for (const { version, node } of nodes) {
    console.log(`pack: with Node ${version}`);
    const use = (way, expected, ...command) =>
      checkAnswer(way, expected, run(node, ["--throw-deprecation", ...command], project));
    use("require", native, "required.cjs");
    use("import", native, "imported.mjs");
    use("in a worker thread", native, "worker.mjs");
    use("after a hundred workers terminated in mid-call", native, "terminated.mjs");
    use("require with --no-addons", ["js"], "--no-addons", "required.cjs");
    use("import with --no-addons", ["js"], "--no-addons", "imported.mjs");
    use("in a worker thread with --no-addons", ["js"], "--no-addons", "worker.mjs");
    use("bundled, beside the installed package", native, "bundle.cjs");
    use("bundled, alone", ["js"], alone);
    use("bundled with rvq external", native, "bundle.mjs");
    useCluster(node, project);
    useCommand(node, project, installed);
  }
  checkTypes(project);
  if (options["old-system"]) useOnOldSystem(project, native);

  if (prebuilt) {
    fs.rmSync(path.join(installed, "prebuilds"), { recursive: true });
    checkAnswer("without the prebuilt addon", ["js"], run(process.execPath, ["required.cjs"], project));
  }
}

/** The backend must be one of `expected`, and the codes those of all other ways. */
function checkAnswer(way, expected, answer) {
  const { backend, sum, reasons } = JSON.parse(answer);
  console.log(`pack:   ${way}: ${backend}, codes ${sum}`);
  for (const reason of reasons.filter((each) => !told.has(each))) console.log(`pack:     ${reason}`);
  for (const reason of reasons) told.add(reason);
  if (!expected.includes(backend)) fail(`${way} ran on ${backend}, expected ${expected.join(" or ")}`);
  sums.add(sum);
  if (sums.size !== 1) fail(`different codes: ${[...sums].join(", ")}`);
}

/** Bundles with rvq inside, which find the addon beside an installed rvq, and with rvq outside. Returns one that is far from any rvq. */
async function bundle(project) {
  const inside = path.join(project, "bundle.cjs");
  await build({ ...bundling(project), entryPoints: [path.join(project, "required.cjs")], outfile: inside });
  const alone = path.join(workplace, "alone.cjs");
  fs.copyFileSync(inside, alone);
  // What the README asks for.
  const external = { ...bundling(project), external: ["rvq"], format: "esm" };
  const outside = path.join(project, "bundle.mjs");
  await build({ ...external, entryPoints: [path.join(project, "imported.mjs")], outfile: outside });
  return alone;
}

function bundling(project) {
  return {
    absWorkingDir: project,
    bundle: true,
    platform: "node",
    format: "cjs",
    target: "node20",
    logLevel: "warning",
  };
}

/** A user's strict TypeScript, both as an ES module and as CommonJS. */
function checkTypes(project) {
  const compiler = path.join(root, "node_modules/typescript/bin/tsc");
  const types = path.join(root, "node_modules/@types");
  const flags = ["--noEmit", "--strict", "--module", "nodenext", "--target", "es2022", "--types", "node"];
  run(process.execPath, [compiler, ...flags, "--typeRoots", types, "typed.mts", "typed.cts"], project);
  console.log("pack: types are right for import and require");
}

function useCluster(node, project) {
  const { rows, code } = JSON.parse(run(node, ["cluster.mjs"], project));
  fs.rmSync(path.join(project, "corpus"), { recursive: true });
  if (rows !== 40 || code !== "PEER_MISSING") fail(`rvq/cluster gave ${rows} rows and ${code}`);
  console.log("pack:   rvq/cluster works without its peers, and misses them where Redis is needed");
}

/** The installed command shows its version, runs the demo away from the project's folder, and finds all backends in agreement. */
function useCommand(node, project, installed) {
  // npm's link to it on Linux and macOS; the file itself, for Windows and for other Nodes than the one on PATH.
  const command = fs.realpathSync(path.join(installed, "dist/cli/main.js"));
  const { version } = JSON.parse(fs.readFileSync(path.join(installed, "package.json"), "utf8"));
  const said = run(node, [command, "--version"], project).trim();
  if (said !== version) fail(`rvq --version says "${said}", package.json ${version}`);
  const place = path.join(workplace, "demo");
  run(node, [command, "demo", "--quick", "--out", place], workplace);
  if (!fs.existsSync(path.join(place, "report.html"))) fail("rvq demo wrote no report.html");
  fs.rmSync(place, { recursive: true });
  run(node, [command, "doctor"], workplace);
  console.log("pack:   rvq --version, rvq demo --quick and rvq doctor work from the installed package");
}

function useOnOldSystem(project, native) {
  const reason = whyNoOldSystem();
  if (reason !== null) return console.log(`pack: not run on Debian 11: ${reason}`);
  const place = copyThere(project);
  for (const { version, node } of nodes) {
    console.log(`pack: with Node ${version} on Debian 11, glibc ${glibcThere()}`);
    for (const program of ["required.cjs", "terminated.mjs"]) {
      checkAnswer(program, native, runThere(node, place, program));
    }
  }
}

/** What a command printed on stdout; where it fails, so does this script, with everything it printed. */
function run(command, args, cwd) {
  const result = spawnSync(command, args, { cwd, encoding: "utf8", maxBuffer: 2 ** 28 });
  if (result.status === 0) return result.stdout;
  process.stderr.write(`${result.stdout ?? ""}${result.stderr ?? ""}`);
  const cause = result.error?.message ?? result.signal ?? `exit ${result.status}`;
  return fail(`${[path.basename(command), ...args].join(" ")}: ${cause}`);
}

function fail(message) {
  throw new Error(message);
}
