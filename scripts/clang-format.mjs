// Formats the C++ and CUDA sources in place; with --check it only reports. Without clang-format it says so and goes on.

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { onPath } from "./toolchain.mjs";

const root = path.resolve(import.meta.dirname, "..");
const sourceEnding = /\.(h|hpp|cpp|cc|cu|cuh)$/;

const sources = ["binding", "cuda"].flatMap((folder) => {
  const place = path.join(root, folder);
  if (!fs.existsSync(place)) return [];
  const names = fs.readdirSync(place, { recursive: true, encoding: "utf8" });
  return names.filter((name) => sourceEnding.test(name)).map((name) => path.join(folder, name));
});

if (!onPath("clang-format")) {
  console.log("clang-format: not found, C++ and CUDA sources not looked at");
} else if (sources.length > 0) {
  const mode = process.argv.includes("--check") ? ["--dry-run", "--Werror"] : ["-i"];
  const result = spawnSync("clang-format", [...mode, ...sources], { cwd: root, stdio: "inherit" });
  process.exitCode = result.status ?? 1;
}
