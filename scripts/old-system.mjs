// A Linux whose glibc is older than that of the machines that build rvq: Debian 11 (glibc 2.31), in a folder of its own, by debootstrap.

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

const root = path.resolve(import.meta.dirname, "..");
const folder = path.join(root, "build/debian-11");
const done = path.join(folder, "etc/rvq-complete");
// What Node needs beside a C library; 26 is the first that needs the second one.
const packages = "libstdc++6,libatomic1";

/** Why there can be none here, or null; sets it up where it is not there yet. */
export function whyNoOldSystem() {
  if (process.platform !== "linux") return "it takes Linux";
  if (process.getuid() !== 0) return "it takes root, for chroot";
  if (fs.existsSync(done)) return null;
  fs.rmSync(folder, { recursive: true, force: true });
  const { status, error, stdout } = spawnSync(
    "debootstrap",
    ["--variant=minbase", `--include=${packages}`, "bullseye", folder],
    { encoding: "utf8" },
  );
  if (error !== undefined) return `debootstrap cannot be run (${error.message})`;
  if (status !== 0) return `debootstrap failed: ${stdout.trim().split("\n").at(-1)}`;
  fs.writeFileSync(done, "");
  return null;
}

/** Copies a project into the system; use `runThere` with the path that it gives. */
export function copyThere(project) {
  const place = path.join(folder, "srv/project");
  fs.rmSync(place, { recursive: true, force: true });
  fs.cpSync(project, place, { recursive: true, verbatimSymlinks: true });
  return place.slice(folder.length);
}

/** What a program of a project there prints, run by a copy of this `node`, and what else the command said. */
export function runThere(node, place, program) {
  const command = "/usr/local/bin/node";
  fs.copyFileSync(node, path.join(folder, command));
  const shell = `cd ${place} && exec ${command} ${program}`;
  const { status, stdout, stderr } = spawnSync("chroot", [folder, "/bin/sh", "-c", shell], { encoding: "utf8" });
  if (status !== 0) throw new Error(`${program} on the old system: ${stdout}${stderr}`);
  return stdout;
}

/** The version of its glibc. */
export function glibcThere() {
  const { stdout } = spawnSync("chroot", [folder, "/usr/bin/ldd", "--version"], { encoding: "utf8" });
  return /[0-9]+\.[0-9]+$/m.exec(stdout)?.[0] ?? "unknown";
}
