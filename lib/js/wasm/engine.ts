// Compiles the kernels where WebAssembly has SIMD, and shares out their one memory.
//
// One instance and one memory for each thread, however many quantizers there are: V8 reserves gigabytes of addresses for
// every memory, and gives them back only when it collects garbage. The memory holds
//   [0, stateBytes)   the working state of the call that runs. A call that gets its turn while another is between two
//                     slices saves the other's state first (`enter`)
//   the rest          copies of packed codebooks, one after the other. What is full starts again from the beginning;
//                     whoever finds a copy gone makes it again (`place`). So small codebooks stay, large ones stream
//                     through, and a quantizer that nobody uses any more leaves nothing behind.

import { emitModule } from "./emitter.js";
import { addCodewords, lowerDistances, subtractCodewords } from "./exact-kernels.js";
import { collect, fusedMultiplyAdd, multiplyThenAdd, packRows, screen, screenRow } from "./kernels.js";

const pageBytes = 65_536;
/** Room for the state of any call: see `Workspace`. */
export const stateBytes = 16 * pageBytes;
/**
 * State and codebooks together: 32 stages of 1024 codewords of 128 dimensions stay. Twice as much would not help those
 * that need more: copying takes 6 % of a search that streams. All of it from the start, as the system gives pages when they
 * are first written: growing would detach the old buffer, and once any buffer has been detached V8 checks for it at every
 * access to every array of the thread, which makes plain loops a quarter slower for good.
 */
const memoryBytes = 512 * pageBytes;

type Kernel = (...args: number[]) => void;

export interface Kernels {
  readonly packRows: Kernel;
  readonly screen: Kernel;
  readonly screenRow: Kernel;
  readonly collect: Kernel;
  readonly addCodewords: Kernel;
  readonly subtractCodewords: Kernel;
  readonly lowerDistances: Kernel;
  readonly lowerWeightedDistances: Kernel;
}

/** What a suspended call needs back: the first `bytes` of the state. */
export class SavedState {
  saved: Uint8Array | null = null;
  constructor(readonly bytes: number) {}
}

/** Data on its way into the memory: `words`, and where and in which round it was copied there last. */
export class Segment {
  address = 0;
  round = -1;
  constructor(readonly words: Float32Array | Float64Array) {}
}

export class Engine {
  /** The whole memory. */
  readonly floats: Float32Array;
  readonly doubles: Float64Array;
  readonly words: Uint32Array;
  private readonly bytes: Uint8Array;
  private owner: SavedState | null = null;
  private round = 0;
  private top = stateBytes;

  constructor(
    /** For people. */
    readonly name: string,
    readonly kernels: Kernels,
    { buffer }: WasmMemory,
  ) {
    this.bytes = new Uint8Array(buffer);
    this.words = new Uint32Array(buffer);
    this.floats = new Float32Array(buffer);
    this.doubles = new Float64Array(buffer);
  }

  /** Makes the state that of this call. Necessary before each use after a pause. */
  enter(state: SavedState): void {
    if (this.owner === state) return;
    if (this.owner !== null) this.owner.saved = this.bytes.slice(0, this.owner.bytes);
    if (state.saved !== null) this.bytes.set(state.saved);
    state.saved = null;
    this.owner = state;
  }

  /** The call has ended. */
  leave(state: SavedState): void {
    if (this.owner === state) this.owner = null;
  }

  /** The address of a segment's copy, made now if there is none; good until the next `place`. */
  place(segment: Segment): number {
    if (segment.round === this.round) return segment.address;
    const bytes = segment.words.byteLength;
    if (this.top + bytes > this.bytes.length) {
      this.round++;
      this.top = stateBytes;
    }
    segment.address = this.top;
    segment.round = this.round;
    if (segment.words instanceof Float64Array) this.doubles.set(segment.words, this.top / 8);
    else this.floats.set(segment.words, this.top / 4);
    this.top += Math.ceil(bytes / 64) * 64;
    return segment.address;
  }

  /** Forgets a segment. The place is free at once where it is the last one, as with codebooks made and dropped in turn. */
  release(segment: Segment): void {
    if (segment.round !== this.round) return;
    segment.round = -1;
    if (segment.address + Math.ceil(segment.words.byteLength / 64) * 64 === this.top) this.top = segment.address;
  }
}

/** The kernels with fused multiply-adds come first: Node 22 and newer have them. */
const forms = { fused: fusedMultiplyAdd, unfused: multiplyThenAdd } as const;
export type EngineForm = keyof typeof forms;
const names = { fused: "WebAssembly SIMD with fused multiply-add", unfused: "WebAssembly SIMD" } as const;

const engines = new Map<EngineForm, Engine | null>();

/** The fastest engine that runs here; null where WebAssembly or its SIMD is missing or switched off. Never throws. */
export function openEngine(): Engine | null {
  return openEngineForm("fused") ?? openEngineForm("unfused");
}

/** This thread's engine of one form, for tests and `openEngine`. */
export function openEngineForm(form: EngineForm): Engine | null {
  let engine = engines.get(form);
  if (engine === undefined) {
    engine = compile(form);
    engines.set(form, engine);
  }
  return engine;
}

function compile(form: EngineForm): Engine | null {
  const { WebAssembly } = globalThis as { readonly WebAssembly?: WasmNamespace };
  if (WebAssembly === undefined) return null;
  try {
    const multiplyAdd = forms[form];
    const functions = [packRows(), screen(multiplyAdd), screenRow(multiplyAdd), collect(2)];
    functions.push(addCodewords(), subtractCodewords(), lowerDistances(false), lowerDistances(true));
    const module = new WebAssembly.Module(emitModule(functions, memoryBytes / pageBytes, memoryBytes / pageBytes));
    const { memory, ...kernels } = new WebAssembly.Instance(module).exports;
    return new Engine(names[form], kernels, memory);
  } catch {
    // Not valid here, or no memory for it: the plain loops ask for neither.
    return null;
  }
}

// The few things of the WebAssembly interface that are used; Node's types leave it to those of the browser.

interface WasmMemory {
  readonly buffer: ArrayBuffer;
}

interface WasmNamespace {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: Kernels & { readonly memory: WasmMemory } };
}
