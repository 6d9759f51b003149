// How many processors the addon takes under the CPU quota of control groups, read from trees like the kernel's.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { loadAddon } from "../lib/addon.js";
import type { Addon } from "../lib/cpu/addon.js";

const addon = loadAddon().addon as Required<Addon> | null;
const canRun = process.platform === "linux" && addon !== null && "processorsUnder" in addon;

let root = "";
beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), "rvq-cgroup-"));
});
afterEach(() => rmSync(root, { recursive: true }));

describe.skipIf(!canRun)("the processors of a process", () => {
  /** Without a quota: what the affinity mask allows. */
  const all = () => processors({});

  it("are those of the affinity mask where no group has a quota", () => {
    const unlimited = all();
    expect(unlimited).toBeGreaterThanOrEqual(1);
    expect(processors({ "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n" })).toBe(unlimited);
    expect(processors({ "proc/self/cgroup": "3:cpu:/\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n" }, "cpu")).toBe(
      unlimited,
    );
  });

  it("are cut to the quota of version 2, rounded up", () => {
    const files = { "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n" };
    expect(processors(files)).toBe(1);
    expect(processors({ ...files, "sys/fs/cgroup/cpu.max": "150000 100000\n" })).toBe(Math.min(2, all()));
    expect(processors({ ...files, "sys/fs/cgroup/cpu.max": "99900000 100000\n" })).toBe(all());
  });

  it("are cut to the tightest quota on the way to the root", () => {
    const group = { "proc/self/cgroup": "0::/service/worker\n" };
    const loose = "max 100000\n";
    const tight = "100000 100000\n";
    for (const place of ["", "/service", "/service/worker"]) {
      const quotas = ["", "/service", "/service/worker"].map((at) => [
        `sys/fs/cgroup${at}/cpu.max`,
        at === place ? tight : loose,
      ]);
      expect(processors({ ...group, ...Object.fromEntries(quotas) }), place).toBe(1);
    }
  });

  it("are cut to the quota of the mount where the group's path is another container's", () => {
    expect(processors({ "proc/self/cgroup": "0::/docker/abc\n", "sys/fs/cgroup/cpu.max": "100000 100000\n" })).toBe(1);
  });

  it("are cut to the quota of version 1, wherever it is mounted", () => {
    for (const mount of ["cpu", "cpu,cpuacct"]) {
      const quota = { [`sys/fs/cgroup/${mount}/a/cpu.cfs_quota_us`]: "60000\n" };
      expect(processors({ "proc/self/cgroup": "7:memory:/b\n4:cpu,cpuacct:/a\n", ...quota }, `${mount}/a`), mount).toBe(
        1,
      );
    }
  });

  it("are all of them where the files make no sense", () => {
    for (const content of ["", "nonsense\n", "-1 0\n", "100000\n"]) {
      expect(processors({ "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": content }), content).toBe(all());
    }
    expect(processors({ "proc/self/cgroup": "::\n\nx" })).toBe(all());
  });
});

/** With these files and, for version 1, a period of 100 ms in the given group. */
function processors(files: Record<string, string>, version1Group?: string): number {
  const period =
    version1Group === undefined ? {} : { [`sys/fs/cgroup/${version1Group}/cpu.cfs_period_us`]: "100000\n" };
  rmSync(root, { recursive: true });
  mkdirSync(root);
  for (const [name, content] of Object.entries({ ...files, ...period })) {
    mkdirSync(path.dirname(path.join(root, name)), { recursive: true });
    writeFileSync(path.join(root, name), content);
  }
  return (addon as Required<Addon>).processorsUnder(root);
}
