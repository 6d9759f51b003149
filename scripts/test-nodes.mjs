// Runs the tests of what depends on Node itself, with other versions of it, on the build that is there:
//
//   npm run test:nodes -- [22 24 26] [--all]    --all: every test

import { spawnSync } from "node:child_process";
import path from "node:path";
import { nodeOfVersion } from "./node-versions.mjs";

const root = path.resolve(import.meta.dirname, "..");

/** The addon, the bytes of every backend, threads and workers, streams and channels. */
const tests = [
  "addon",
  "batcher",
  "contract/",
  "diagnostics",
  "faults",
  "js-",
  "package",
  "row-workers",
  "streams",
  "workers",
];

const given = process.argv.slice(2);
const versions = given.filter((argument) => argument !== "--all");
const files = given.includes("--all") ? [] : tests.map((name) => `test/${name}`);

for (const wanted of versions.length > 0 ? versions : ["22", "24", "26"]) {
  const { version, node } = nodeOfVersion(wanted);
  console.log(`test-nodes: Node ${version}`);
  // Also for the processes that tests start by name.
  const env = { ...process.env, PATH: `${path.dirname(node)}${path.delimiter}${process.env.PATH}` };
  const vitest = path.join(root, "node_modules/vitest/vitest.mjs");
  const { status, signal } = spawnSync(node, [vitest, "run", ...files], { cwd: root, stdio: "inherit", env });
  if (status !== 0) {
    console.error(`test-nodes: failed with Node ${version} (${signal ?? `exit ${status}`})`);
    process.exitCode = 1;
  }
}
