// Builds the release addon of this platform into prebuilds/, with CUDA inside. --cpu-only leaves CUDA out.
//
// It is compiled in a folder of its own, so that the development build in build/ stays as it is. On Linux it must load on systems
// as old as scripts/library-versions.mjs says.

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { newestVersions, tooNew } from "./library-versions.mjs";

const root = path.resolve(import.meta.dirname, "..");
const work = path.join(root, "build/prebuildify");
const cpuOnly = process.argv.includes("--cpu-only");

// prebuildify knows node-gyp alone; the shim stands in for it and runs cmake-js with these options.
const shim = path.join(root, "scripts/node-gyp-shim.mjs");
const cuda = cpuOnly ? "RVQ_WITHOUT_CUDA=ON" : "RVQ_REQUIRE_CUDA=ON";
const environment = { ...process.env, RVQ_CMAKE_OPTIONS: `RVQ_TESTING=OFF ${cuda}` };

fs.mkdirSync(work, { recursive: true });
const tags = ["--name", "rvq", "--napi", "--strip", "--tag-libc"];
const places = ["--cwd", work, "--out", root, "--node-gyp", shim];
const command = [path.join(root, "node_modules/prebuildify/bin.js"), ...tags, ...places];
const result = spawnSync(process.execPath, command, { stdio: "inherit", env: environment });
if (result.status !== 0) process.exit(result.status ?? 1);

const folder = path.join(root, "prebuilds", `${process.platform}-${process.arch}`);
for (const name of fs.readdirSync(folder)) {
  const file = path.join(folder, name);
  const megabytes = (fs.statSync(file).size / 1e6).toFixed(2);
  console.log(`prebuildify: ${path.relative(root, file)}, ${megabytes} MB`);
  if (process.platform !== "linux") continue;
  const needed = newestVersions(file);
  console.log(`prebuildify: it needs ${[...needed].map(([library, version]) => `${library} ${version}`).join(", ")}`);
  for (const complaint of tooNew(needed)) {
    console.error(`prebuildify: ${complaint}`);
    process.exitCode = 1;
  }
}
