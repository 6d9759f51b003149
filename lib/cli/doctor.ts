// `rvq doctor`: what runs on this machine, from which files, and what to do about what does not.

import { cpus, totalmem } from "node:os";
import { type BackendStatus, ResidualQuantizer, RvqError, status } from "../index.js";
import { type CommandContext, printLine } from "./context.js";
import { textList } from "./table.js";

export async function doctorCommand(
  { stdout, backend }: CommandContext,
  { json }: { readonly json: boolean },
): Promise<void> {
  const found = { ...status(), processor: cpus()[0]?.model.trim() || "unknown", memoryBytes: totalmem() };
  if (json) printLine(stdout, JSON.stringify(found, null, 2));
  else {
    printLine(
      stdout,
      textList([
        ["rvq", found.version],
        ["Node", `${found.node} on ${found.platform}`],
        ["processor", `${found.processor}, ${found.processors} to use`],
        ["memory", `${(found.memoryBytes / 2 ** 30).toFixed(1)} GiB`],
        ...["RVQ_BACKEND", "RVQ_CPU", "RVQ_JS"].map((name): [string, string] => [name, process.env[name] || "not set"]),
        ["in use", found.selected ?? `none: ${found.error ?? "no backend runs"}`],
      ]),
    );
    for (const entry of found.backends) printLine(stdout, `\n${describe(entry)}`);
  }
  // A backend asked for by name that cannot run is a failure here as everywhere else.
  if (backend.backend !== undefined && backend.backend !== "auto") checkItRuns(backend);
  if (found.selected === null) throw new RvqError("BACKEND_UNAVAILABLE", found.error ?? "no backend runs");
}

function describe({ name, available, description, reason, file }: BackendStatus): string {
  const lines = available ? [`✔ ${name}: ${description}`] : [`✘ ${name}: ${reason}`];
  if (file !== null) lines.push(`  file: ${file}`);
  if (!available) for (const remedy of remedies(name, reason ?? "")) lines.push(`  → ${remedy}`);
  return lines.join("\n");
}

/** What most often helps, by the backend and the reason it gives. */
function remedies(name: string, reason: string): string[] {
  if (/addon/i.test(reason)) {
    const build = "in a checkout: install CMake and a C++17 compiler, then run npm run build";
    const release = "as a dependency: check that node_modules/rvq/prebuilds has a file for this platform";
    return [build, release, "until then rvq uses its js backend, which gives the same answers more slowly"];
  }
  if (name === "cuda" && /driver/i.test(reason))
    return ["install or update the NVIDIA driver (CUDA 13 needs 580 or newer)"];
  return [];
}

function checkItRuns(backend: CommandContext["backend"]): void {
  ResidualQuantizer.fromCodebooks([Float32Array.of(0)], { dim: 1, ...backend }).dispose();
}
