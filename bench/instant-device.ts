// A backend with a device that answers at once: what is left of learning is the JavaScript thread's part.

import type { Backend } from "../lib/backend.js";
import { openBackend } from "../lib/open-backend.js";
import type { DeviceMemory, ResidentCodebooks } from "../lib/resident.js";

/** Every row has code 0 and is at distance 1; codewords become zero. */
export function instantDevice(): Backend {
  const nothing = async () => {};
  const timed = async () => ({ kernelMs: 0 });
  const resident: ResidentCodebooks = {
    device: 0,
    allocate: (): DeviceMemory => ({ upload: nothing, download: nothing, dispose: () => {} }),
    encode: async () => ({ bad: null, kernelMs: 0 }),
    decode: timed,
    accumulate: timed,
    magnitudes: async ({ magnitudes }) => void magnitudes.fill(1),
    codewordMagnitudes: async ({ magnitudes }) => void magnitudes.fill(1),
    loadCodewords: nothing,
    readCodewords: nothing,
    learn: async ({ count, masses, usageAfter, errors }) => {
      masses.fill(count / masses.length);
      usageAfter.fill(count / masses.length);
      errors.fill(count);
    },
    means: async ({ count, countsAfter, totals }) => {
      countsAfter.fill(count / countsAfter.length);
      totals.fill(count);
    },
  };
  const memory = resident.allocate(0);
  const js = openBackend("js", undefined);
  return {
    ...{ name: "cuda", description: "a device that answers at once", chunksInFlight: 1 },
    chunkRows: () => 2 ** 30,
    prepare: (spec) => ({ ...js.prepare(spec), resident: () => resident, dispose: () => {} }),
    prepareProjection: js.prepareProjection.bind(js),
    hold: async (_, dim) => ({
      memory,
      gather: async ({ length }) => new Float32Array(length * dim),
      dispose: () => {},
    }),
    stepsOnDevice: () => true,
    accumulate: js.accumulate.bind(js),
    lowerDistances: js.lowerDistances.bind(js),
  };
}
