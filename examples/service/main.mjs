// Starts the service: node main.mjs [--model model.rvqm] [--port 3000] [--host 127.0.0.1] [--unbatched] …
//
// SIGTERM and SIGINT end it gracefully: no new requests, those under way are answered, then it exits.

import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { ResidualQuantizer } from "rvq";
import { demoModel } from "./demo-model.mjs";
import { createService } from "./service.mjs";

/** A request under way gets so long to finish after SIGTERM. */
const graceMs = 10_000;

const { values: options } = parseArgs({
  options: {
    model: { type: "string" },
    stages: { type: "string", default: "32" },
    host: { type: "string", default: "127.0.0.1" },
    port: { type: "string", default: "3000" },
    backend: { type: "string" },
    threads: { type: "string" },
    unbatched: { type: "boolean", default: false },
    "max-batch": { type: "string", default: "256" },
    "max-delay-ms": { type: "string", default: "0" },
    "max-queue": { type: "string", default: "4096" },
    "body-limit": { type: "string", default: String(2 ** 20) },
  },
});

const choice = {
  backend: options.backend,
  // One processor is for the event loop: where all of them compute, requests wait for their turn.
  threads: Number(options.threads ?? Math.max(1, availableParallelism() - 1)),
};
const quantizer =
  options.model === undefined
    ? demoModel(Number(options.stages), choice)
    : await ResidualQuantizer.load(options.model, choice);
const service = createService(quantizer, {
  batching: options.unbatched
    ? null
    : {
        maxBatch: Number(options["max-batch"]),
        maxDelayMs: Number(options["max-delay-ms"]),
        maxQueue: Number(options["max-queue"]),
        whenFull: "reject",
      },
  bodyLimit: Number(options["body-limit"]),
});

const address = await service.listen({ host: options.host, port: Number(options.port) });
const { dim, stages, backend, id } = quantizer;
console.log(JSON.stringify({ address, model: id.slice(0, 16), dim, stages, backend, batched: !options.unbatched }));

let stopping = false;
for (const name of ["SIGTERM", "SIGINT"]) {
  process.on(name, async () => {
    if (stopping) return;
    stopping = true;
    setTimeout(() => process.exit(1), graceMs).unref();
    await service.close();
    quantizer.dispose();
  });
}
