// Runs tests that draw their cases for minutes, each round with another seed.
//
//   node scripts/fuzz.mjs [parsers | backends] [minutes] [first seed]   default: parsers, for 10 minutes, from seed 1
//
// `parsers` are the property tests of every parser of bytes from outside; `backends` compares every backend's search with
// the definition (RVQ_TEST_BACKENDS and RVQ_PREBUILD choose which). A failure prints the seed and the case;
// RVQ_FUZZ_SEED=… RVQ_FUZZ_SCALE=10 npx vitest run <file> repeats it.

import { spawnSync } from "node:child_process";
import path from "node:path";

const root = path.resolve(import.meta.dirname, "..");
const suites = {
  parsers: [
    "bitstream-entropy",
    "bitstream-damage",
    "bitstream-interop",
    "bitstream-ecdc",
    "checkpoint-quantizer",
    "hostile-files",
    "pack-codes",
  ],
  backends: ["contract/random-search"],
};

const given = process.argv.slice(2);
const suite = given[0] in suites ? given.shift() : "parsers";
const [minutes, firstSeed] = [Number(given[0] ?? 10), Number(given[1] ?? 1)];
if (!(minutes > 0) || !Number.isInteger(firstSeed)) {
  console.error(
    `fuzz: [${Object.keys(suites).join(" | ")}] [minutes] [first seed] is wanted, not ${process.argv.slice(2).join(" ")}`,
  );
  process.exit(2);
}
const files = suites[suite].map((name) => `test/${name}.test.ts`);
const vitest = [path.join(root, "node_modules/vitest/vitest.mjs"), "run", ...files, "--testTimeout=3600000"];
const end = Date.now() + minutes * 60_000;
for (let seed = firstSeed; Date.now() < end && !process.exitCode; seed++) {
  // Ten times what the suite runs.
  const env = { ...process.env, RVQ_FUZZ_SEED: String(seed), RVQ_FUZZ_SCALE: "10" };
  console.log(`fuzz: ${suite}, seed ${seed}`);
  process.exitCode = spawnSync(process.execPath, vitest, { cwd: root, stdio: "inherit", env }).status ?? 1;
}
