// Runs the property tests of every parser of bytes from outside for minutes, each round with another seed.
//
//   node scripts/fuzz.mjs [minutes] [first seed]   default 10 minutes from seed 1
//
// A failure prints the seed and the counterexample; RVQ_FUZZ_SEED=… npx vitest run <file> repeats it.

import { spawnSync } from "node:child_process";
import path from "node:path";

const root = path.resolve(import.meta.dirname, "..");
const minutes = Number(process.argv[2] ?? 10);
const files = [
  "bitstream-entropy",
  "bitstream-damage",
  "bitstream-interop",
  "bitstream-ecdc",
  "checkpoint-quantizer",
  "hostile-files",
  "pack-codes",
].map((name) => `test/${name}.test.ts`);
const vitest = [path.join(root, "node_modules/vitest/vitest.mjs"), "run", ...files, "--testTimeout=3600000"];
const end = Date.now() + minutes * 60_000;
for (let seed = Number(process.argv[3] ?? 1); Date.now() < end && !process.exitCode; seed++) {
  // Ten times what the suite runs.
  const env = { ...process.env, RVQ_FUZZ_SEED: String(seed), RVQ_FUZZ_SCALE: "10" };
  console.log(`fuzz: seed ${seed}`);
  process.exitCode = spawnSync(process.execPath, vitest, { cwd: root, stdio: "inherit", env }).status ?? 1;
}
