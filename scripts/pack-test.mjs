// Packs the package as it would be published, installs the tarball in a fresh folder, and uses it there in every way
// a user would: require, import, a worker thread, without addons, without the prebuilt addon, bundled, by its command.
//
// Every way must give the same codes. The tarball must pass publint and attw and stay under the size limit.

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { build } from "esbuild";

const root = path.resolve(import.meta.dirname, "..");
const maxTarballBytes = 8e6;
const npm = process.platform === "win32" ? "npm.cmd" : "npm";

// The same quantizer and codes on every backend; the answer tells them by a hash.
const body = `
  const vectors = Float32Array.from({ length: 4000 }, (_, i) => Math.fround(Math.imul(i + 1, 2654435761) % 1009 / 64));
  const rq = await rvq.ResidualQuantizer.train(vectors, { dim: 8, codebookSize: 16, stages: 3, seed: 1, iterations: 4 });
  const codes = await rq.encode(vectors);
  const sum = createHash("sha256").update(codes.data).update(await rq.decode(codes)).digest("hex").slice(0, 16);
  const { backends } = rvq.status();
  const reasons = backends.filter(({ available }) => !available).map(({ name, reason }) => name + ": " + reason);
  console.log(JSON.stringify({ backend: rq.backend, sum, reasons }));
`;
const programs = {
  "required.cjs": `const { createHash } = require("node:crypto"); const rvq = require("rvq");
    (async () => {${body}})();`,
  "imported.mjs": `import { createHash } from "node:crypto"; import * as rvq from "rvq";${body}`,
  "worker.mjs": `import { Worker } from "node:worker_threads"; new Worker(new URL("./imported.mjs", import.meta.url));`,
  "typed.mts": `import { ResidualQuantizer, type Codes } from "rvq";
    export const codes: Codes = ResidualQuantizer.fromCodebooks([new Float32Array(4)], { dim: 2 }).encodeSync(new Float32Array(2));
    // @ts-expect-error the number of dimensions is not optional
    ResidualQuantizer.fromCodebooks([new Float32Array(4)], {});
    import { Cluster, type CorpusManifest } from "rvq/cluster";
    export const open: (options: { inputs: string; outputs: string }) => Promise<Cluster> = Cluster.open;
    export type Parts = CorpusManifest["parts"];`,
  "typed.cts": `import rvq = require("rvq");
    import cluster = require("rvq/cluster");
    export const text: string = rvq.ResidualQuantizer.fromCodebooks([new Float32Array(4)], { dim: 2 }).backend;
    export const start: (options: { inputs: string; outputs: string }) => Promise<cluster.ClusterWorker> =
      cluster.ClusterWorker.start;`,
  // Its peers are not there: it loads, works in this process, and says what to install for more.
  "cluster.mjs": `import { createRequire } from "node:module"; import fs from "node:fs";
    import { Cluster } from "rvq/cluster"; import { ResidualQuantizer } from "rvq";
    if (createRequire(import.meta.url)("rvq/cluster").Cluster !== Cluster) throw new Error("two copies");
    fs.mkdirSync("corpus", { recursive: true });
    fs.writeFileSync("corpus/in.f32", new Uint8Array(new Float32Array(80).fill(1).buffer));
    const folders = { inputs: "corpus", outputs: "corpus" };
    const rq = ResidualQuantizer.fromCodebooks([new Float32Array(4)], { dim: 2 });
    const { rows } = await (await Cluster.local(folders)).encode(rq, ["in.f32"], { output: "codes" });
    const { code } = await Cluster.open(folders).catch((error) => error);
    console.log(JSON.stringify({ rows, code }));`,
};

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
  if (size > maxTarballBytes) fail(`the tarball has ${megabytes(size)}, more than ${megabytes(maxTarballBytes)}`);

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
  const tuple = `${process.platform}-${process.arch}`;
  const prebuilt = fs.existsSync(path.join(installed, "prebuilds", tuple));
  const native = prebuilt ? ["cuda", "cpu"] : ["js"];
  const sums = new Set();
  const told = new Set();

  /** Runs a program of the project; its backend must be one of `expected`. */
  const use = (way, expected, ...command) => {
    const { backend, sum, reasons } = JSON.parse(run(process.execPath, command, project));
    console.log(`pack: ${way}: ${backend}, codes ${sum}`);
    for (const reason of reasons.filter((each) => !told.has(each))) console.log(`pack:   ${reason}`);
    for (const reason of reasons) told.add(reason);
    if (!expected.includes(backend)) fail(`${way} ran on ${backend}, expected ${expected.join(" or ")}`);
    sums.add(sum);
  };
  use("require", native, "required.cjs");
  use("import", native, "imported.mjs");
  use("in a worker thread", native, "worker.mjs");
  use("require with --no-addons", ["js"], "--no-addons", "required.cjs");
  use("import with --no-addons", ["js"], "--no-addons", "imported.mjs");

  // Bundled with rvq inside: beside an installed rvq the addon is found there; on its own there is none.
  const bundle = path.join(project, "bundle.cjs");
  await build({ ...bundling(project), entryPoints: [path.join(project, "required.cjs")], outfile: bundle });
  use("bundled, beside the installed package", native, "bundle.cjs");
  const alone = path.join(workplace, "alone.cjs");
  fs.copyFileSync(bundle, alone);
  use("bundled, alone", ["js"], alone);
  // Bundled with rvq outside, which is what the README asks for.
  const external = { ...bundling(project), external: ["rvq"], format: "esm" };
  await build({
    ...external,
    entryPoints: [path.join(project, "imported.mjs")],
    outfile: path.join(project, "bundle.mjs"),
  });
  use("bundled with rvq external", native, "bundle.mjs");

  const { rows, code } = JSON.parse(run(process.execPath, ["cluster.mjs"], project));
  if (rows !== 40 || code !== "PEER_MISSING") fail(`rvq/cluster gave ${rows} rows and ${code}`);
  console.log("pack: rvq/cluster works without its peers, and misses them where Redis is needed");

  checkTypes(project);
  useCommand(project, installed);

  if (prebuilt) {
    fs.rmSync(path.join(installed, "prebuilds"), { recursive: true });
    use("without the prebuilt addon", ["js"], "required.cjs");
  }
  if (sums.size !== 1) fail(`different codes: ${[...sums].join(", ")}`);
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

/** The installed command shows its version and runs the demo, away from the project's folder. */
function useCommand(project, installed) {
  const command = path.join(project, "node_modules/.bin/rvq");
  const { version } = JSON.parse(fs.readFileSync(path.join(installed, "package.json"), "utf8"));
  const said = run(command, ["--version"], project).trim();
  if (said !== version) fail(`rvq --version says "${said}", package.json ${version}`);
  const place = path.join(workplace, "demo");
  run(command, ["demo", "--quick", "--out", place], workplace);
  if (!fs.existsSync(path.join(place, "report.html"))) fail("rvq demo wrote no report.html");
  console.log("pack: rvq --version and rvq demo --quick work from the installed package");
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
