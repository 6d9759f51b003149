// Node of other versions than the one that runs, from the npm registry's packages of its executables.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

const root = path.resolve(import.meta.dirname, "..");
const windows = process.platform === "win32";

/**
 * The newest Node of a version such as "22" or "22.12.0", as { version, node }, `node` being the path of its executable. It is kept in
 * build/nodes/. Fails where the registry has none for this platform.
 */
export function nodeOfVersion(wanted) {
  if (!/^\d+(\.\d+){0,2}$/.test(wanted)) throw new Error(`expected a version of Node, got "${wanted}"`);
  const name = `node-${windows ? "win" : process.platform}-${process.arch}`;
  const folder = path.join(root, "build/nodes", wanted);
  const node = path.join(folder, "node_modules", name, "bin", windows ? "node.exe" : "node");
  if (!fs.existsSync(node)) {
    fs.mkdirSync(folder, { recursive: true });
    fs.writeFileSync(path.join(folder, "package.json"), JSON.stringify({ private: true }));
    const install = ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    execFileSync(windows ? "npm.cmd" : "npm", [...install, `${name}@${wanted}`], { cwd: folder, stdio: "inherit" });
  }
  const version = execFileSync(node, ["--version"], { encoding: "utf8" }).trim();
  if (!`${version}.`.startsWith(`v${wanted}.`)) throw new Error(`expected Node ${wanted} in ${folder}, got ${version}`);
  return { version, node };
}
