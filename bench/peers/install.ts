// Installs the peers of bench/peers/package.json on demand, beside it, without running any of their scripts.
//
// They are half a gigabyte, so they are no devDependencies: `npm ci` at the root installs none of them. Their install
// scripts would download more (CUDA) or compile; what the packages hold is enough for the processor.

import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const folder = path.resolve("bench/peers");
const lockFile = path.join(folder, "package-lock.json");
/** A copy of the lock file that was installed. */
const stamp = path.join(folder, "node_modules/.installed");

/** `require` as it works beside the peers; installs them first where they are not as the lock file says. */
export function requirePeers(): NodeJS.Require {
  const lock = readFileSync(lockFile, "utf8");
  if (!existsSync(stamp) || readFileSync(stamp, "utf8") !== lock) {
    console.error("installing the peers into bench/peers/node_modules (380 MB, once)");
    const command = process.platform === "win32" ? "npm.cmd" : "npm";
    const flags = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", folder];
    const { status, stderr, error } = spawnSync(command, flags, { cwd: folder, encoding: "utf8" });
    if (status !== 0) {
      const said = stderr.split("\n").filter((line) => line.startsWith("npm error"));
      throw new Error(`npm ci in ${folder} failed: ${error?.message ?? said.slice(0, 3).join("; ")}`);
    }
    writeFileSync(stamp, lock);
  }
  return createRequire(path.join(folder, "package.json"));
}
