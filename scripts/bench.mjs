// Runs benchmarks: bench/<name>.bench.mts for the names given, or all of them; other arguments are passed on.

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { bundleBench } from "./bundle-bench.mjs";

const root = path.resolve(import.meta.dirname, "..");
const ending = ".bench.mts";
const available = fs.readdirSync(path.join(root, "bench")).filter((name) => name.endsWith(ending));
const names = available.map((name) => name.slice(0, -ending.length)).sort();

const words = process.argv.slice(2);
const options = words.filter((word) => word.startsWith("-"));
const chosen = words.filter((word) => !word.startsWith("-"));
const unknown = chosen.find((name) => !names.includes(name));
if (unknown !== undefined) {
  console.error(`bench: no benchmark "${unknown}"; there are: ${names.join(", ")}`);
  process.exit(2);
}

for (const name of chosen.length > 0 ? chosen : names) {
  const bundle = await bundleBench(name);
  const flags = ["--enable-source-maps", "--expose-gc"];
  const result = spawnSync(process.execPath, [...flags, bundle, ...options], { cwd: root, stdio: "inherit" });
  if (result.status !== 0) process.exit(result.status ?? 1);
}
