// Builds the release addon of this platform into prebuilds/, with CUDA inside. --cpu-only leaves CUDA out.
//
// It is compiled in a folder of its own, so that the development build in build/ stays as it is.

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

const root = path.resolve(import.meta.dirname, "..");
const work = path.join(root, "build/prebuildify");
// glibc 2.34, the oldest among the systems in wide use whose C library holds the threads (RHEL 9).
const maxGlibcFloor = 34;
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
  const glibc = glibcFloor(file);
  console.log(`prebuildify: ${path.relative(root, file)}, ${megabytes} MB, glibc 2.${glibc} or newer`);
  if (glibc > maxGlibcFloor) {
    console.error(`prebuildify: it must load with glibc 2.${maxGlibcFloor}`);
    process.exitCode = 1;
  }
}

/** The newest glibc 2.x that a Linux addon asks for, by the version names in it; 0 elsewhere. */
function glibcFloor(file) {
  const versions = fs.readFileSync(file, "latin1").matchAll(/GLIBC_2\.(\d+)/g);
  return Math.max(0, ...[...versions].map(([, minor]) => Number(minor)));
}
