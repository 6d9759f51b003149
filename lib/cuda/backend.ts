// The `cuda` backend: finds the devices and says why it does not run; its kernels are not part of this version.

import type { Backend } from "../backend.js";
import type { Addon } from "../cpu/backend.js";
import { RvqError } from "../errors.js";

/** @throws RvqError BACKEND_UNAVAILABLE, always in this version, with the reason a user can act on */
export function openCuda(addon: object): Backend {
  const { reason, devices } = (addon as Addon).cudaInfo();
  const found = devices.map((device) => device.name).join(", ");
  throw new RvqError(
    "BACKEND_UNAVAILABLE",
    reason ?? `found ${found}, but this version of rvq has no CUDA kernels yet`,
  );
}
