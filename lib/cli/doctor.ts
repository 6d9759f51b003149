// `rvq doctor`: what runs on this machine, from which files, and what to do about what does not.

import { cpus, totalmem } from "node:os";
import { type BackendStatus, type NativeStatus, ResidualQuantizer, RvqError, status } from "../index.js";
import { Random } from "../random.js";
import { type CommandContext, printLine } from "./context.js";
import { textList } from "./table.js";

export async function doctorCommand(
  { stdout, backend }: CommandContext,
  { json }: { readonly json: boolean },
): Promise<void> {
  const { backends, ...rest } = status();
  const hasJs = backends.some(({ name, available }) => name === "js" && available);
  const checked = backends.map((entry) => ({
    ...entry,
    agrees: entry.available && hasJs ? agreesWithJs(entry.name) : null,
  }));
  const found = {
    ...rest,
    backends: checked,
    processor: cpus()[0]?.model.trim() || "unknown",
    memoryBytes: totalmem(),
  };
  if (json) printLine(stdout, JSON.stringify(found, null, 2));
  else {
    printLine(
      stdout,
      textList([
        ["rvq", found.version],
        ["Node", `${found.node} on ${found.platform}`],
        ["processor", `${found.processor}, ${found.processors} to use`],
        ["memory", `${(found.memoryBytes / 2 ** 30).toFixed(1)} GiB`],
        ...["RVQ_BACKEND", "RVQ_CPU", "RVQ_JS", "RVQ_PREBUILD"].map((name): [string, string] => [
          name,
          process.env[name] || "not set",
        ]),
        ...nativeLines(found.native),
        ["in use", found.selected ?? `none: ${found.error ?? "no backend runs"}`],
      ]),
    );
    for (const entry of found.backends) printLine(stdout, `\n${describe(entry)}`);
  }
  const wrong = found.backends.find(({ agrees }) => agrees === false);
  if (wrong !== undefined) {
    throw new RvqError(
      "BACKEND_UNAVAILABLE",
      `backend "${wrong.name}" gives other codes than "js": please report this`,
    );
  }
  // A backend asked for by name that cannot run is a failure here as everywhere else.
  if (backend.backend !== undefined && backend.backend !== "auto") checkItRuns(backend);
  if (found.selected === null) throw new RvqError("BACKEND_UNAVAILABLE", found.error ?? "no backend runs");
}

function nativeLines(native: NativeStatus | null): [string, string][] {
  if (native === null) return [];
  const { driverVersion, runtimeVersion, devices } = native.cuda;
  const memory = (bytes: number) => `${(bytes / 2 ** 30).toFixed(0)} GiB`;
  const listed = devices.map(
    (d) => `${d.name} (compute ${d.computeCapability}, ${memory(d.memoryBytes)}, ${d.multiprocessors} multiprocessors)`,
  );
  return [
    ["instruction sets", native.instructionSets.join(", ")],
    ["CUDA", `driver ${driverVersion ?? "not found"}, runtime ${runtimeVersion ?? "not in this addon"}`],
    ["GPUs", listed.length === 0 ? "none" : listed.join(", ")],
  ];
}

interface CheckedBackend extends BackendStatus {
  /** Whether its codes and reconstructions are those of `js`; null where one of them does not run. */
  readonly agrees: boolean | null;
}

function describe({ name, available, description, reason, file, agrees }: CheckedBackend): string {
  const lines = available ? [`✔ ${name}: ${description}`] : [`✘ ${name}: ${reason}`];
  if (agrees !== null && name !== "js") {
    lines.push(agrees ? "  checked: the codes of js, bit for bit" : "  checked: OTHER CODES THAN JS");
  }
  if (file !== null) lines.push(`  file: ${file}`);
  if (!available) for (const remedy of remedies(name, reason ?? "")) lines.push(`  → ${remedy}`);
  return lines.join("\n");
}

/** What most often helps, by the backend and the reason it gives. */
function remedies(name: string, reason: string): string[] {
  const untilThen = "until then rvq uses its js backend, which gives the same answers more slowly";
  if (/--no-addons/.test(reason)) return ["run node without --no-addons", untilThen];
  if (/bundled/.test(reason)) return ["keep rvq external to the bundle (esbuild --external:rvq)", untilThen];
  if (/GLIBC/.test(reason)) return ["use a system with glibc 2.28 or newer", untilThen];
  if (/no CUDA core/.test(reason)) return ["use a release of rvq, or build it with nvcc on PATH"];
  if (/addon/i.test(reason)) {
    const build = "in a checkout: install CMake and a C++20 compiler, then run npm run build";
    const release = "as a dependency: check that node_modules/rvq/prebuilds has a file for this platform";
    return [build, release, untilThen];
  }
  if (name === "cuda" && /driver/i.test(reason))
    return ["install or update the NVIDIA driver (CUDA 13 needs 580 or newer)"];
  return [];
}

function checkItRuns(backend: CommandContext["backend"]): void {
  ResidualQuantizer.fromCodebooks([Float32Array.of(0)], { dim: 1, ...backend }).dispose();
}

/** A search in two stages, too small to be noticed: whether a backend that opens also computes, and rightly. */
function agreesWithJs(name: BackendStatus["name"]): boolean {
  const random = new Random(1);
  const noise = (length: number) => Float32Array.from({ length }, () => random.fraction() - 0.5);
  const dim = 24;
  const codebooks = [noise(200 * dim), noise(100 * dim)];
  const vectors = noise(300 * dim);
  const results = (backend: BackendStatus["name"]) => {
    const quantizer = ResidualQuantizer.fromCodebooks(codebooks, { dim, backend });
    const codes = quantizer.encodeSync(vectors);
    const decoded = quantizer.decodeSync(codes);
    quantizer.dispose();
    return Buffer.concat([codes.data, decoded].map(({ buffer }) => Buffer.from(buffer as ArrayBuffer)));
  };
  try {
    return results(name).equals(results("js"));
  } catch {
    return false;
  }
}
