// Builds the addon in a way that is only for tests, into build/<name>/, and runs the tests that touch it there.
//
//   node scripts/test-build.mjs emulated [files…]   AVX-512 levels on a processor with AVX2, each forced in turn
//
// The package's own build in build/Release/ stays as it is.

import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import path from "node:path";

const root = path.resolve(import.meta.dirname, "..");

const builds = {
  emulated: {
    options: ["RVQ_EMULATE_AVX512=ON"],
    tests: ["test/contract", "test/cpu-"],
    runs: [{ RVQ_CPU: "avx512vnni" }, { RVQ_CPU: "avx512" }],
  },
};

const [name, ...files] = process.argv.slice(2);
const build = builds[name];
if (build === undefined) fail(`one of ${Object.keys(builds).join(", ")} is wanted, not ${name}`);

// Where node-gyp-build looks when RVQ_PREBUILD names the folder.
const folder = path.join(root, "build", name);
console.log(`test-build: compiling ${path.relative(root, folder)} with ${build.options.join(" ")}`);
run(process.execPath, [
  path.join(root, "node_modules/cmake-js/bin/cmake-js"),
  ...["build", "--log-level", "error", "--out", path.join(folder, "build"), "--CDRVQ_WITHOUT_CUDA=ON"],
  ...build.options.map((option) => `--CD${option}`),
]);
// A level that is missing would only be skipped.
const { instructionSets } = createRequire(import.meta.url)(path.join(folder, "build/Release/rvq.node")).cpuInfo();
for (const { RVQ_CPU: level } of build.runs) {
  if (level !== undefined && !instructionSets.includes(level)) fail(`it has ${instructionSets}, and no ${level}`);
}

for (const settings of build.runs) {
  const environment = { ...process.env, ...settings, RVQ_PREBUILD: folder };
  const said = Object.entries(settings).map(([key, value]) => `${key}=${value}`);
  console.log(`test-build: ${name}, ${said.join(" ")}`);
  const tests = files.length > 0 ? files : build.tests;
  run(process.execPath, [path.join(root, "node_modules/vitest/vitest.mjs"), "run", ...tests], environment);
}

function run(command, args, env = process.env) {
  const result = spawnSync(command, args, { cwd: root, stdio: "inherit", env });
  if (result.status !== 0) fail(`${path.basename(args[0])} failed (${result.signal ?? `exit ${result.status}`})`);
}

function fail(message) {
  console.error(`test-build: ${message}`);
  process.exit(1);
}
