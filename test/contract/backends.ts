// The backends under test: all that can run here; the others are shown as skipped, with the reason. RVQ_TEST_BACKENDS, a
// list such as "cuda,cpu", leaves the others out.

import { loadAddon } from "../../lib/addon.js";
import { type Backend, type BackendName, backendNames } from "../../lib/backend.js";
import type { Addon } from "../../lib/cpu/addon.js";
import { openBackend, status } from "../../lib/open-backend.js";

export interface Candidate {
  /** For the test's title: the name, with the reason where it cannot run. */
  readonly title: string;
  readonly name: BackendName;
  readonly available: boolean;
  /** The value of RVQ_JS that it runs under; undefined for the other backends. */
  readonly form: string | undefined;
  open(threads?: number): Backend;
}

export const candidates: readonly Candidate[] = status()
  .backends.filter(({ name }) => wantedNames().includes(name))
  .flatMap(({ name, available, reason }) =>
    (name === "js" ? jsForms() : [undefined]).map((form) => {
      const title = form === undefined ? name : `${name}, ${form}`;
      return {
        title: available ? title : `${title} (${reason})`,
        name,
        available,
        form,
        open: (threads?: number) => withForm(form, () => openBackend(name, threads)),
      };
    }),
  );

function wantedNames(): readonly string[] {
  const names = process.env.RVQ_TEST_BACKENDS?.split(",") ?? backendNames;
  const unknown = names.find((name) => !(backendNames as readonly string[]).includes(name));
  if (unknown !== undefined)
    throw new Error(`RVQ_TEST_BACKENDS: one of ${backendNames.join(", ")} is wanted, not "${unknown}"`);
  return names;
}

/** The definition first. */
function jsForms(): string[] {
  return withForm("", () => openBackend("js", undefined).description).startsWith("WebAssembly")
    ? ["plain", "wasm"]
    : ["plain"];
}

/** What `run` returns with RVQ_JS set to `form`, where there is one. */
export function withForm<Result>(form: string | undefined, run: () => Result): Result {
  const before = process.env.RVQ_JS;
  if (form !== undefined) process.env.RVQ_JS = form;
  try {
    return run();
  } finally {
    if (before === undefined) delete process.env.RVQ_JS;
    else process.env.RVQ_JS = before;
  }
}

export interface Opened {
  readonly title: string;
  readonly backend: Backend;
}

/** One and two threads; the CPU core at each of its levels, or at that of RVQ_CPU alone. */
export function openAll(candidate: Candidate): Opened[] {
  if (candidate.name !== "cpu") return [{ title: candidate.title, backend: candidate.open() }];
  const before = process.env.RVQ_CPU;
  try {
    const levels = before === undefined ? (loadAddon().addon as Addon).cpuInfo().instructionSets : [before];
    return levels.flatMap((level) => {
      process.env.RVQ_CPU = level;
      return [1, 2].map((threads) => ({ title: `${level}, ${threads} threads`, backend: candidate.open(threads) }));
    });
  } finally {
    if (before === undefined) delete process.env.RVQ_CPU;
    else process.env.RVQ_CPU = before;
  }
}

/** A failure that can be repeated: what ran, on what, and the first element that differs. */
export function expectSame(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  context: Record<string, unknown>,
): void {
  const where = () => JSON.stringify(context);
  if (actual.length !== expected.length)
    throw new Error(`${actual.length} elements, not ${expected.length}: ${where()}`);
  for (let i = 0; i < expected.length; i++) {
    // Object.is: NaN equals NaN, and +0 differs from −0.
    if (Object.is(actual[i], expected[i])) continue;
    throw new Error(`element ${i} is ${actual[i]}, not ${expected[i]}: ${where()}`);
  }
}
