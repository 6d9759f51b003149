// Runs the property test of the screens on more than ten million rows: no screen of any level certifies a wrong winner.
//
//   node scripts/test-screen.mjs [rounds]   default 400
//
// RVQ_PREBUILD=build/emulated after `npm run test:emulated` includes the AVX-512 levels.

import { spawnSync } from "node:child_process";
import path from "node:path";

const root = path.resolve(import.meta.dirname, "..");
const env = { ...process.env, RVQ_SCREEN_ROUNDS: process.argv[2] ?? "400" };
const vitest = [path.join(root, "node_modules/vitest/vitest.mjs"), "run", "test/cpu-screen.test.ts"];
// Every family of data is one test.
const result = spawnSync(process.execPath, [...vitest, "--testTimeout=3600000"], { cwd: root, stdio: "inherit", env });
process.exitCode = result.status ?? 1;
