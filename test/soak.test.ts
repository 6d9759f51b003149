// A short soak of the built package: memory stays where it was. `npm run soak` is the long one.

import { execFileSync } from "node:child_process";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { candidates } from "./contract/backends.js";

const script = path.resolve(__dirname, "../scripts/soak.mjs");

describe.each(candidates.filter(({ form }) => form !== "plain"))("a soak on $title", ({ name, available }) => {
  it.skipIf(!available)("leaves memory where it was after many calls and many quantizers", () => {
    const args = ["--calls", "100000", "--quantizers", "600", "--backend", name];
    // Node 24 lets the space for young objects grow for longer than this test runs.
    const output = execFileSync(process.execPath, ["--max-semi-space-size=8", script, ...args], {
      encoding: "utf8",
      timeout: 100_000,
    });
    expect(output.match(/RSS MiB( \d+\.\d){10}\n/g)).toHaveLength(2);
  });
});
