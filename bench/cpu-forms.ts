// The forms in which the CPU core can search: every instruction-set level of the machine with every screen it has.

import { loadAddon } from "../lib/addon.js";
import type { Addon, CpuCodebooks, CpuScreen } from "../lib/cpu/addon.js";
import { ResidualQuantizer } from "../lib/index.js";

export type ScreenName = NonNullable<CpuScreen["screen"]>;

export interface CpuForm {
  /** As RVQ_CPU takes it. */
  readonly level: string;
  /** undefined: what the core chooses for the shape, which is what users run. */
  readonly screen: ScreenName | undefined;
}

/** The screens of the levels that have more than the float32 one. */
const integerScreens: Readonly<Record<string, readonly ScreenName[]>> = {
  avx512vnni: ["int16", "uniform", "int8"],
  avx2: ["int16", "uniform", "int8"],
};

/** The addon as tests see it. Benchmarks of the core's own parts need one that was built here. */
export function testingAddon(): Addon {
  const loaded = loadAddon();
  if (loaded.addon === null) throw new Error(`this benchmark needs the native addon: ${loaded.reason}`);
  const addon = loaded.addon as Addon;
  if (addon.mostThreads === undefined) throw new Error(`${loaded.file} was built without RVQ_TESTING`);
  return addon;
}

/** The levels of this machine, best first, or those of a list such as "avx2,portable" that it has. */
export function cpuLevels(wanted?: string): readonly string[] {
  const names = wanted?.split(",");
  return testingAddon()
    .cpuInfo()
    .instructionSets.filter((level) => names?.includes(level) ?? true);
}

/** What the core chooses, and each screen by force where the level has several. */
export function formsOf(level: string): CpuForm[] {
  const integers = integerScreens[level] ?? [];
  const forced: readonly ScreenName[] = integers.length === 0 ? [] : ["float32", ...integers];
  return [undefined, ...forced].map((screen) => ({ level, screen }));
}

export function formName({ level, screen }: CpuForm): string {
  return `${level}, ${screen ?? "automatic"}`;
}

/** GFLOP/s of multiply-adds in registers: the roof of a float32 search. */
export function fmaPeak(level: string, threads: number): number {
  return testingAddon().fmaPeak({ threads, instructionSet: level });
}

/**
 * Returns once so many threads reach nearly as many times the peak of one, or after a second. A virtual machine whose processors were
 * idle may have them on one core for some hundred milliseconds.
 */
export function occupyProcessors(level: string, threads: number): void {
  if (threads === 1) return;
  const wanted = 0.9 * threads * fmaPeak(level, 1);
  const end = performance.now() + 1000;
  while (fmaPeak(level, threads) < wanted && performance.now() < end);
}

/** A quantizer of the public class on the `cpu` backend in this form. */
export function openForm(form: CpuForm, codebooks: Float32Array[], dim: number, threads: number): ResidualQuantizer {
  const addon = testingAddon() as { CpuCodebooks: Addon["CpuCodebooks"] };
  const { CpuCodebooks: Original } = addon;
  const before = process.env.RVQ_CPU;
  // The screen is not an option of the package, only of the addon: it slips in where the backend prepares its codebooks.
  addon.CpuCodebooks = class extends (Original as new (spec: object) => object) {
    constructor(spec: object) {
      super({ ...spec, screen: form.screen });
    }
  } as unknown as Addon["CpuCodebooks"];
  process.env.RVQ_CPU = form.level;
  try {
    return ResidualQuantizer.fromCodebooks(codebooks, { dim, backend: "cpu", threads });
  } finally {
    addon.CpuCodebooks = Original;
    if (before === undefined) delete process.env.RVQ_CPU;
    else process.env.RVQ_CPU = before;
  }
}

/** The addon's own object in this form, without the public class around it. */
export function openCore(
  { level, screen }: CpuForm,
  codebooks: readonly Float32Array[],
  dim: number,
  threads: number,
): Required<CpuCodebooks> {
  const spec = { dim, metric: "l2", weights: null, codebooks, threads, instructionSet: level, screen } as const;
  return new (testingAddon().CpuCodebooks)(spec) as Required<CpuCodebooks>;
}

/** Share of (vector, stage) pairs whose codeword the screen left open, 0 … 1, over at most `limit` vectors. */
export function openShare(
  form: CpuForm,
  codebooks: readonly Float32Array[],
  dim: number,
  vectors: Float32Array,
  limit = 2048,
): number {
  const count = Math.min(limit, vectors.length / dim);
  const core = openCore(form, codebooks, dim, 1);
  const verdicts = new Int32Array(count);
  let residuals = vectors.slice(0, count * dim);
  let open = 0;
  for (let stage = 0; stage < codebooks.length; stage++) {
    core.screenVerdicts({ vectors: residuals, count, stage, verdicts });
    open += verdicts.filter((code) => code < 0).length;
    const next = new Float32Array(count * dim);
    const codes = new Uint32Array(count * (stage + 1));
    core.encodeSync({ vectors: vectors.subarray(0, count * dim), count, stages: stage + 1, codes, residuals: next });
    residuals = next;
  }
  core.dispose();
  return open / (count * codebooks.length);
}
