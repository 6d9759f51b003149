// How old a Linux system may be for an addon to load there: the newest version of each system library's symbols that it asks for.
//
//   node scripts/library-versions.mjs <file>...   prints them; fails where one is newer than the package promises

import { execFileSync } from "node:child_process";
import { pathToFileURL } from "node:url";

/**
 * What an addon may need at most. glibc 2.28 and libgcc 7, as Node 20 itself: Debian 10, Ubuntu 20.04, RHEL 8. Of libstdc++ (GLIBCXX,
 * CXXABI) nothing at all: it is inside.
 */
const newestAllowed = new Map([
  ["GLIBC", "2.28"],
  ["GCC", "7.0.0"],
]);

/** The newest version that a file needs of each library, by the name before the version: GLIBC, GCC, … */
export function newestVersions(file) {
  const report = execFileSync("readelf", ["--version-info", "--wide", file], { encoding: "utf8" });
  const needs = report.slice(report.indexOf("Version needs section"));
  const newest = new Map();
  for (const [, name] of needs.matchAll(/Name: (\S+)/g)) {
    // Or a feature of the loader, as GLIBC_ABI_DT_RELR, which stands for itself.
    const [library, version] = name.match(/^[A-Z]+_[0-9.]+$/) ? name.split("_") : [name, "0"];
    const known = newest.get(library);
    if (known === undefined || compare(version, known) > 0) newest.set(library, version);
  }
  if (!newest.has("GLIBC")) throw new Error(`${file}: readelf shows no version of glibc`);
  return newest;
}

/** A sentence for each library of which a newer version is needed than is promised. */
export function tooNew(needed) {
  return [...needed].flatMap(([library, version]) => {
    const allowed = newestAllowed.get(library);
    if (allowed !== undefined && compare(version, allowed) <= 0) return [];
    return [`expected nothing newer than ${library} ${allowed ?? "(none at all)"}, got a need for ${version}`];
  });
}

/** By numbers: 2.4 is older than 2.28. */
function compare(a, b) {
  const [left, right] = [a, b].map((version) => version.split(".").map(Number));
  const at = left.findIndex((number, i) => number !== (right[i] ?? 0));
  return at < 0 ? left.length - right.length : left[at] - (right[at] ?? 0);
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  for (const file of process.argv.slice(2)) {
    const needed = newestVersions(file);
    console.log(`${file}: ${[...needed].map((entry) => entry.join(" ")).join(", ")}`);
    for (const complaint of tooNew(needed)) {
      console.error(`${file}: ${complaint}`);
      process.exitCode = 1;
    }
  }
}
