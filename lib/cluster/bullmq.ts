// BullMQ, where it is installed. Its types appear in this declaration file alone, which no public one refers to.

import { createRequire } from "node:module";
import path from "node:path";
import { RvqError } from "../errors.js";

/**
 * The module bullmq, after a look whether ioredis is there too.
 * @throws RvqError PEER_MISSING
 */
export function loadBullmq(): typeof import("bullmq") {
  // Not a plain `require`: a bundler must leave it alone, and tests run the sources as ES modules.
  const load = createRequire(typeof __filename === "undefined" ? path.resolve("rvq.js") : __filename);
  try {
    load("ioredis");
    return load("bullmq") as typeof import("bullmq");
  } catch (cause) {
    const remedy = "install them beside it: npm install bullmq ioredis";
    const message = `rvq/cluster needs the packages bullmq and ioredis, which rvq does not install (${remedy})`;
    throw new RvqError("PEER_MISSING", `${message}: ${(cause as Error).message.split("\n", 1)[0]}`, { cause });
  }
}
