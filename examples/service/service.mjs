// The routes: encode and decode as JSON or as bytes, the model, health and metrics.

import Fastify from "fastify";
import { packCodes, packedSizeBytes, RvqError, unpackCodes } from "rvq";
import { createMetrics } from "./metrics.mjs";
import { codesFromRows, floatsFromBytes, jsonOfRows, vectorsFromRows } from "./wire.mjs";

/** What each error of rvq means to an HTTP client; all others are the server's own. */
const statusOfError = {
  INVALID_ARGUMENT: 400,
  NOT_FINITE: 400,
  ZERO_VECTOR: 400,
  CODE_OUT_OF_RANGE: 400,
  INVALID_STREAM: 400,
  QUEUE_FULL: 503,
  DISPOSED: 503,
};

/**
 * @param quantizer a ResidualQuantizer
 * @param batching options of its batcher, or null to call it once a request
 */
export function createService(quantizer, { batching, bodyLimit }) {
  const batcher = batching === null ? null : quantizer.batcher(batching);
  const coder = batcher ?? quantizer;
  const metrics = createMetrics(batcher);
  const service = Fastify({
    bodyLimit,
    requestTimeout: 30_000,
    // A number in quotes is no number.
    ajv: { customOptions: { coerceTypes: false } },
    // Bodies are checked against a schema and never merged into other objects: no need to look through them for such names.
    onProtoPoisoning: "ignore",
    onConstructorPoisoning: "ignore",
  });
  let closing = false;

  service.addContentTypeParser("application/octet-stream", { parseAs: "buffer" }, (_, body, done) => done(null, body));
  // Hooks with callbacks: a promise for each would be a few microseconds a request.
  // Else clients that keep their connection for later would keep a closing service alive.
  service.addHook("onSend", (_, reply, payload, done) => {
    if (closing) reply.header("connection", "close");
    done(null, payload);
  });
  service.addHook("onResponse", (request, reply, done) => {
    metrics.requests.observe(request.routeOptions.url ?? "none", reply.statusCode, reply.elapsedTime / 1000);
    done();
  });
  service.setErrorHandler((error, request, reply) => {
    const status = error instanceof RvqError ? (statusOfError[error.code] ?? 500) : (error.statusCode ?? 500);
    if (status === 503) reply.header("retry-after", "1");
    if (status === 500) request.log.error(error);
    reply
      .code(status)
      .send({ error: error.code ?? "ERROR", message: status === 500 ? "internal error" : error.message });
  });

  service.post("/encode", { schema: encodeSchema(quantizer) }, async (request, reply) => {
    const stages = stagesOf(request.query, quantizer.stages);
    const isJson = !Buffer.isBuffer(request.body);
    const vectors = isJson
      ? vectorsFromRows(request.body.vectors, quantizer.dim)
      : floatsFromBytes(request.body, quantizer.dim);
    const codes = await coder.encode(vectors, {
      stages,
      signal: whileConnected(reply, vectors.length / quantizer.dim),
    });
    if (isJson) {
      const rows = jsonOfRows(codes.data, codes.stages);
      return sendJson(reply, `{"count":${codes.count},"stages":${codes.stages},"codes":${rows}}`);
    }
    reply.header("content-type", "application/octet-stream");
    return Buffer.from(packCodes(codes, quantizer.codebookSizes.slice(0, codes.stages)));
  });

  service.post("/decode", { schema: decodeSchema(quantizer) }, async (request, reply) => {
    const stages = stagesOf(request.query, quantizer.stages);
    const isJson = !Buffer.isBuffer(request.body);
    const codes = isJson ? codesFromRows(request.body.codes) : codesFromPacked(request.body, stages);
    const vectors = await coder.decode(codes, {
      stages: Math.min(stages, codes.stages),
      signal: whileConnected(reply, codes.count),
    });
    if (isJson) return sendJson(reply, `{"count":${codes.count},"vectors":${jsonOfRows(vectors, quantizer.dim)}}`);
    reply.header("content-type", "application/octet-stream");
    return Buffer.from(vectors.buffer, vectors.byteOffset, vectors.byteLength);
  });

  service.get("/model", () => ({
    id: quantizer.id,
    backend: quantizer.backend,
    metric: quantizer.metric,
    metadata: quantizer.metadata,
    ...quantizer.describe(),
  }));
  service.get("/healthz", (_, reply) => reply.code(closing ? 503 : 200).send({ status: closing ? "closing" : "ok" }));
  service.get("/metrics", async (_, reply) =>
    reply.header("content-type", metrics.registry.contentType).send(await metrics.registry.metrics()),
  );

  // Before the listening socket closes: load balancers ask once more.
  service.addHook("preClose", async () => {
    closing = true;
  });
  service.addHook("onClose", async () => {
    await batcher?.close();
    metrics.stop();
  });
  return service;

  /** Whole vectors: how many there are is in the number of bytes. */
  function codesFromPacked(bytes, stages) {
    const sizes = quantizer.codebookSizes.slice(0, stages);
    const bitsPerVector = packedSizeBytes(8, sizes);
    return unpackCodes(bytes, Math.floor((bytes.length * 8) / bitsPerVector), sizes);
  }
}

function sendJson(reply, json) {
  reply.header("content-type", "application/json; charset=utf-8");
  return json;
}

/** Work for fewer vectors is done before a client could go away. */
const worthAborting = 64;

/** Aborted when the client goes away before its answer is sent. */
function whileConnected(reply, vectors) {
  if (vectors < worthAborting) return undefined;
  const controller = new AbortController();
  reply.raw.once("close", () => {
    if (!reply.raw.writableFinished) controller.abort();
  });
  return controller.signal;
}

function stagesOf({ stages }, all) {
  return stages === undefined ? all : Number(stages);
}

const query = {
  type: "object",
  properties: { stages: { type: "string", pattern: "^[1-9][0-9]{0,3}$" } },
  additionalProperties: false,
};

function encodeSchema({ dim }) {
  const vector = { type: "array", items: { type: "number" }, minItems: dim, maxItems: dim };
  return jsonSchema("vectors", vector);
}

function decodeSchema({ stages }) {
  const codes = {
    type: "array",
    items: { type: "integer", minimum: 0, maximum: 2 ** 24 },
    minItems: 1,
    maxItems: stages,
  };
  return jsonSchema("codes", codes);
}

/** Bytes are checked by rvq. */
function jsonSchema(name, items) {
  const body = {
    type: "object",
    required: [name],
    properties: { [name]: { type: "array", items } },
    additionalProperties: false,
  };
  const content = { "application/json": { schema: body }, "application/octet-stream": { schema: {} } };
  return { querystring: query, body: { content } };
}
