// Before `npm pack` and `npm publish`: compiles lib/ to dist/, and says so where the package would have no addon.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

const root = path.resolve(import.meta.dirname, "..");
const prebuilds = path.join(root, "prebuilds");

execFileSync(process.execPath, [path.join(root, "scripts/build.mjs"), "--typescript"], { stdio: "inherit" });
if (!fs.existsSync(prebuilds) || fs.readdirSync(prebuilds).length === 0) {
  console.error(
    "prepack: no addon in prebuilds/: the package will run on its js backend (npm run prebuildify makes one)",
  );
}
