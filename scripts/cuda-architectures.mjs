// What a multiprocessor of each GPU architecture holds: the limits by which blocks become resident.

/** Of a multiprocessor, but for `block`: shared bytes that one block may have at most. */
const limits = {
  75: { warps: 32, blocks: 16, shared: 64, block: 64, reserved: 0 },
  80: { warps: 64, blocks: 32, shared: 164, block: 163, reserved: 1 },
  86: { warps: 48, blocks: 16, shared: 100, block: 99, reserved: 1 },
  87: { warps: 48, blocks: 16, shared: 164, block: 163, reserved: 1 },
  89: { warps: 48, blocks: 24, shared: 100, block: 99, reserved: 1 },
  90: { warps: 64, blocks: 32, shared: 228, block: 227, reserved: 1 },
  100: { warps: 64, blocks: 32, shared: 228, block: 227, reserved: 1 },
  103: { warps: 64, blocks: 32, shared: 228, block: 227, reserved: 1 },
  110: { warps: 48, blocks: 24, shared: 228, block: 227, reserved: 1 },
  120: { warps: 48, blocks: 24, shared: 100, block: 99, reserved: 1 },
};
const registers = 65_536;
/** A warp's registers come in such portions. */
const registerPortion = 256;
const sharedPortion = 128;

/**
 * How much of a kernel fits on a multiprocessor of `sm` ("86" or "90a") at once.
 *
 * @param {{ threads: number, registers: number, shared: number }} block shared: static and dynamic bytes
 */
export function occupancy(sm, block) {
  const limit = limitsOf(sm);
  const warps = Math.ceil(block.threads / 32);
  const warpRegisters = Math.ceil((block.registers * 32) / registerPortion) * registerPortion;
  const bytes = Math.ceil((block.shared + limit.reserved * 1024) / sharedPortion) * sharedPortion;
  const bounds = {
    registers: Math.floor(Math.floor(registers / warpRegisters) / warps),
    "shared memory": bytes === 0 ? Number.POSITIVE_INFINITY : Math.floor((limit.shared * 1024) / bytes),
    warps: Math.floor(limit.warps / warps),
    blocks: limit.blocks,
  };
  const blocks = Math.min(...Object.values(bounds));
  const bound = Object.keys(bounds).find((name) => bounds[name] === blocks);
  return { blocks, warps: blocks * warps, mostWarps: limit.warps, bound };
}

/** Bytes of shared memory that a block may have. */
export function mostSharedBytes(sm) {
  return limitsOf(sm).block * 1024;
}

function limitsOf(sm) {
  const limit = limits[Number.parseInt(sm, 10)];
  if (limit === undefined) throw new Error(`no limits are known for sm_${sm}: scripts/cuda-architectures.mjs`);
  return limit;
}
