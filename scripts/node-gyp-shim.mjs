#!/usr/bin/env node
// Stands in for node-gyp under prebuildify: the same `rebuild --arch=…`, done by cmake-js in the current folder.
//
// RVQ_CMAKE_OPTIONS: CMake options, NAME=VALUE, separated by spaces. What else prebuildify passes (--target, --devdir)
// is about downloading Node's headers, which a Node-API addon does not need.

import { spawnSync } from "node:child_process";
import path from "node:path";

const root = path.resolve(import.meta.dirname, "..");
const arch = process.argv.find((argument) => argument.startsWith("--arch="))?.slice("--arch=".length) ?? process.arch;
const options = (process.env.RVQ_CMAKE_OPTIONS ?? "").split(" ").filter((option) => option !== "");

const result = spawnSync(
  process.execPath,
  [
    path.join(root, "node_modules/cmake-js/bin/cmake-js"),
    "rebuild",
    ...["--directory", root, "--out", path.resolve("build"), "--arch", arch],
    ...options.map((option) => `--CD${option}`),
  ],
  { stdio: "inherit" },
);
process.exitCode = result.status ?? 1;
