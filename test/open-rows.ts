// What the screen of the tensor cores leaves open. Only the emulated device counts it (cuda/settle.cuh).

import { loadAddon } from "../lib/addon.js";
import type { CudaAddon } from "../lib/cuda/addon.js";

const native = loadAddon().addon as CudaAddon | null;

export const countsOpenRows = native?.cudaTestOpenRows !== undefined;

/**
 * From now on: a function that gives how many rows, once a stage, have since been compared with some codewords, and for how many whole
 * places have been looked through; zeros where nobody counts.
 */
export function countOpenRows(): () => { compared: number; searched: number } {
  const counted = () => native?.cudaTestOpenRows?.() ?? { compared: 0, searched: 0 };
  const before = counted();
  return () => {
    const { compared, searched } = counted();
    return { compared: compared - before.compared, searched: searched - before.searched };
  };
}
