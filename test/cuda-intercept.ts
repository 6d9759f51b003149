// Stands between the `cuda` backend and the native operations of learning on a device.

import { loadAddon } from "../lib/addon.js";
import type { CudaAddon } from "../lib/cuda/addon.js";

const native = (loadAddon().addon ?? {}) as CudaAddon;
/** What `intercept` replaces. */
const original = { ...native };

export interface NativeCall {
  readonly method: string;
  readonly self: unknown;
  readonly request: Record<string, object>;
}

type Method = (this: unknown, ...args: unknown[]) => unknown;

/** For backends opened from now on: `before` sees every native call of learning, "allocate" for new memory, and may throw instead. */
export function intercept(before: (call: NativeCall) => void): void {
  const wrap = (holder: object, original: object, methods: readonly string[]) => {
    for (const method of methods) {
      const run = (original as Record<string, Method>)[method];
      const value = function (this: unknown, ...args: unknown[]) {
        before({ method, self: this, request: args[0] as NativeCall["request"] });
        return run.apply(this, args);
      };
      Object.defineProperty(holder, method, { value, configurable: true });
    }
  };
  const { CudaCodebooks, CudaMemory } = original;
  const Codebooks = class extends CudaCodebooks {};
  wrap(Codebooks.prototype, CudaCodebooks.prototype, [
    "encode",
    "assign",
    "encodeResident",
    "learnResident",
    "meansResident",
    "codewordMagnitudesResident",
    "loadCodewordsResident",
    "readCodewordsResident",
  ]);
  const Memory = class extends CudaMemory {
    constructor(...options: ConstructorParameters<CudaAddon["CudaMemory"]>) {
      before({ method: "allocate", self: null, request: options[0] as unknown as NativeCall["request"] });
      super(...options);
    }
  };
  wrap(Memory.prototype, CudaMemory.prototype, ["upload", "download", "dispose"]);
  Object.assign(native, { CudaCodebooks: Codebooks, CudaMemory: Memory });
  wrap(native, original, [
    "cudaMagnitudesResident",
    "cudaDrawResident",
    "cudaGatherResident",
    "cudaLowerDistances",
    "cudaAccumulate",
  ]);
}

export function restore(): void {
  for (const [name, value] of Object.entries(original)) {
    Object.defineProperty(native, name, { value, configurable: true, writable: true, enumerable: true });
  }
}
