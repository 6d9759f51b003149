// Chooses the backend: a priority-ordered list, go down it; the last entry always runs.

import { availableParallelism } from "node:os";
import { loadAddon } from "./addon.js";
import { type Backend, type BackendName, type BackendOptions, backendNames } from "./backend.js";
import { checkInteger } from "./check.js";
import { type Addon, openCpu } from "./cpu/backend.js";
import type { CudaAddon, CudaDevice } from "./cuda/addon.js";
import { openCuda } from "./cuda/backend.js";
import { type FallbackEvent, publishFallback } from "./diagnostics.js";
import { invalidArgument, RvqError } from "./errors.js";
import { openJs } from "./js/backend.js";

export type BackendChoice = "auto" | BackendName;

/** One backend as `status()` reports it. */
export interface BackendStatus {
  readonly name: BackendName;
  readonly available: boolean;
  /** What runs (instruction set, threads, device), or an empty string. */
  readonly description: string;
  /** Why it does not run; null where it does. */
  readonly reason: string | null;
  /** The native file it runs from; null for `js` or where none was found. */
  readonly file: string | null;
}

export interface Status {
  readonly version: string;
  readonly node: string;
  readonly platform: string;
  readonly processors: number;
  /** What `backend: "auto"` takes now: `RVQ_BACKEND` where it is set and can run, else the first available. */
  readonly selected: BackendName | null;
  /** Set where `RVQ_BACKEND` names a backend that cannot run. */
  readonly error: string | null;
  readonly backends: readonly BackendStatus[];
  /** What the addon finds; null without an addon. */
  readonly native: NativeStatus | null;
}

export interface NativeStatus {
  /** SIMD levels of this machine, best first. */
  readonly instructionSets: readonly string[];
  /** Processors that this process may use: affinity and container quota. */
  readonly processors: number;
  readonly cuda: CudaStatus;
}

export interface CudaStatus {
  /** CUDA versions, such as "13.0"; null without a driver, or in an addon without CUDA. */
  readonly driverVersion: string | null;
  readonly runtimeVersion: string | null;
  readonly devices: readonly CudaDevice[];
}

/** Every backend in the order of preference; each opens or throws an RvqError that says why not. */
const openers: readonly { name: BackendName; open: (options: BackendOptions, auto: boolean) => Backend }[] = [
  {
    name: "cuda",
    open: (options, auto) =>
      withAddon((addon, file) =>
        openCuda(addon, file, options, { auto, openCpu: () => openCpu(addon, file, options) }),
      ),
  },
  { name: "cpu", open: (options) => withAddon((addon, file) => openCpu(addon, file, options)) },
  { name: "js", open: (options) => openJs(options) },
];

function withAddon(open: (addon: object, file: string) => Backend): Backend {
  const loaded = loadAddon();
  if (loaded.addon === null) throw new RvqError("BACKEND_UNAVAILABLE", `native addon ${loaded.reason}`);
  return open(loaded.addon, loaded.file);
}

/**
 * Opens the named backend. `"auto"` (and undefined) follows the environment variable `RVQ_BACKEND`, and where that is
 * unset or "auto" takes the first that runs: it never throws or prints. A backend asked for by name that cannot run is
 * an error; nothing falls back silently.
 * @throws RvqError BACKEND_UNAVAILABLE, INVALID_ARGUMENT
 */
export function openBackend(choice: unknown, threads: unknown, device?: unknown): Backend {
  const options: BackendOptions = {
    ...(threads === undefined ? {} : { threads: checkInteger("threads", threads, 1, 1024) }),
    ...(device === undefined ? {} : { device: checkInteger("device", device, 0, 1023) }),
  };
  const name = resolveChoice(choice);
  if (name !== "auto") return openNamed(name, options);
  const { backend, skipped } = openFirst(options);
  if (skipped.length > 0) publishFallback({ selected: backend.name, skipped });
  return backend;
}

/** Which backends run here, from which files, and why the others do not. Never throws. */
export function status(): Status {
  const { file } = loadAddon();
  const backends = openers.map(({ name, open }): BackendStatus => {
    const native = name === "js" ? null : file;
    try {
      return { name, available: true, description: open({}, false).description, reason: null, file: native };
    } catch (error) {
      return { name, available: false, description: "", reason: (error as Error).message, file: native };
    }
  });
  let selected: BackendName | null = null;
  let error: string | null = null;
  try {
    const name = resolveChoice(undefined);
    selected = (name === "auto" ? openFirst({}).backend : openNamed(name, {})).name;
  } catch (cause) {
    error = (cause as Error).message;
  }
  return {
    version: packageVersion,
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
    processors: availableParallelism(),
    selected,
    error,
    backends,
    native: nativeStatus(),
  };
}

function nativeStatus(): NativeStatus | null {
  try {
    const { instructionSets, processors } = (loadAddon().addon as Addon).cpuInfo();
    const { driverVersion, runtimeVersion, devices } = (loadAddon().addon as CudaAddon).cudaInfo();
    return { instructionSets, processors, cuda: { driverVersion, runtimeVersion, devices } };
  } catch {
    // No addon, or one of another version: the backends say so.
    return null;
  }
}

export const packageVersion = "0.1.0";

function resolveChoice(choice: unknown): BackendChoice {
  if (choice !== undefined && choice !== "auto") return checkName("backend", choice);
  const variable = process.env.RVQ_BACKEND;
  return variable === undefined || variable === "" || variable === "auto"
    ? "auto"
    : checkName("environment variable RVQ_BACKEND", variable);
}

function checkName(name: string, value: unknown): BackendName {
  const known = backendNames.find((candidate) => candidate === value);
  if (known === undefined)
    throw invalidArgument(name, `"auto", ${backendNames.map((n) => `"${n}"`).join(", ")}`, value);
  return known;
}

/** The first that runs, and why those before it do not. */
function openFirst(options: BackendOptions): { backend: Backend; skipped: FallbackEvent["skipped"] } {
  const skipped: { name: BackendName; reason: string }[] = [];
  for (const { name, open } of openers) {
    try {
      return { backend: open(options, true), skipped };
    } catch (error) {
      skipped.push({ name, reason: (error as Error).message });
    }
  }
  return { backend: openJs(), skipped };
}

function openNamed(name: BackendName, options: BackendOptions): Backend {
  const opener = openers.find((candidate) => candidate.name === name);
  try {
    return (opener as (typeof openers)[number]).open(options, false);
  } catch (cause) {
    const reason = (cause as Error).message;
    const remedy = 'use backend "auto" to take the fastest that runs; status() and `rvq doctor` list them all';
    throw new RvqError("BACKEND_UNAVAILABLE", `backend "${name}" cannot run here: ${reason} (${remedy})`, { cause });
  }
}
