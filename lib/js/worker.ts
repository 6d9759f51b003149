// A worker thread of worker-pool.ts: prepares codebooks and searches what it is sent, one message after the other.
//
// An error is not caught: it ends the thread, and the pool says so to whoever waits.

import { parentPort, workerData } from "node:worker_threads";
import type { PreparedCodebooks } from "../backend.js";
import { openJs } from "./backend.js";
import type { Form, MessageFromWorker, MessageToWorker } from "./worker-pool.js";

const port = parentPort;
if (port === null) throw new Error("worker.js is not a program");
// A worker has an environment of its own.
process.env.RVQ_JS = workerData as Form;
const backend = openJs({ threads: 1 });
const codebooks = new Map<number, { readonly prepared: PreparedCodebooks; readonly dim: number }>();

port.on("message", (message: MessageToWorker) => {
  const { kind, id } = message;
  if (kind === "prepare") {
    codebooks.set(id, { prepared: backend.prepare(message.spec), dim: message.spec.dim });
    return;
  }
  const known = codebooks.get(id);
  if (known === undefined) throw new Error(`codebooks ${id} are not prepared`);
  if (kind === "forget") {
    known.prepared.dispose();
    codebooks.delete(id);
    return;
  }
  const { vectors, count, stages, beam, ...wanted } = message.request;
  const codes = wanted.codes instanceof Uint16Array ? new Uint16Array(count * stages) : new Uint32Array(count * stages);
  const request = { vectors, count, stages, beam, codes };
  // Residuals take the place of the vectors.
  const residuals = wanted.residuals === undefined ? undefined : vectors;
  const bad = known.prepared.encodeSync(residuals === undefined ? request : { ...request, residuals });
  const result: MessageFromWorker = { job: message.job, bad, codes, residuals };
  port.postMessage(result);
});
