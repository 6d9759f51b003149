// How `vitest run` finds and runs the tests; RVQ_TEST_RESULTS names a file for a machine-readable result.

import { defineConfig } from "vitest/config";

const results = process.env.RVQ_TEST_RESULTS;

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globals: false,
    // Child processes, not threads: the native addon is loaded and unloaded as it is in a service.
    pool: "forks",
    // Trained models and child processes on a slow two-core machine.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    reporters: results ? ["default", ["json", { outputFile: results }]] : ["default"],
  },
});
