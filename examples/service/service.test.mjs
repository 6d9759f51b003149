// The service's answers, with and without batching, and its end. Run by: npm test

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { after, describe, it } from "node:test";
import { packCodes } from "rvq";
import { demoModel, dim, gaussian } from "./demo-model.mjs";
import { createService } from "./service.mjs";

const quantizer = demoModel(3, {});
const noise = gaussian(5);
const vectors = Float32Array.from({ length: 4 * dim }, () => noise());
const rows = Array.from({ length: 4 }, (_, n) => Array.from(vectors.subarray(n * dim, (n + 1) * dim)));
const codes = quantizer.encodeSync(vectors);
const codeRows = rows.map((_, n) => Array.from(codes.data.subarray(3 * n, 3 * n + 3)));
const bytesOf = ({ buffer }) => Buffer.from(buffer);

for (const [title, batching] of [
  ["with batching", { maxQueue: 64, whenFull: "reject" }],
  ["without batching", null],
]) {
  describe(`the service ${title}`, () => {
    const service = createService(quantizer, { batching, bodyLimit: 100_000 });
    const post = (url, payload) =>
      service.inject({
        method: "POST",
        url,
        payload,
        headers: { "content-type": Buffer.isBuffer(payload) ? "application/octet-stream" : "application/json" },
      });
    after(() => service.close());

    it("encodes and decodes JSON", async () => {
      assert.deepEqual((await post("/encode", { vectors: rows })).json(), { count: 4, stages: 3, codes: codeRows });
      const coarse = (await post("/encode?stages=2", { vectors: rows })).json();
      assert.deepEqual(coarse.codes[3], codeRows[3].slice(0, 2));
      const decoded = (await post("/decode?stages=2", { codes: codeRows })).json();
      assert.deepEqual(Float32Array.from(decoded.vectors.flat()), quantizer.decodeSync(codes, { stages: 2 }));
    });

    it("encodes and decodes bytes", async () => {
      const packed = (await post("/encode", bytesOf(vectors))).rawPayload;
      assert.deepEqual(new Uint8Array(packed), packCodes(codes, quantizer.codebookSizes));
      const decoded = await post("/decode", packed);
      assert.deepEqual(new Uint8Array(decoded.rawPayload), new Uint8Array(quantizer.decodeSync(codes).buffer));
    });

    it("refuses what is wrong, and says what", async () => {
      const cases = [
        ["/encode", { vectors: [[1, 2]] }, 400, /must NOT have fewer than 128 items/],
        ["/encode", { vectors: [rows[0].map(String)] }, 400, /must be number/],
        ["/encode", { vectors: [rows[0], rows[0].map(() => 1e39)] }, 400, /NOT_FINITE.*row 1, column 0/],
        ["/encode", Buffer.alloc(5), 400, /whole vectors of 512 bytes, got 5/],
        ["/encode?stages=4", { vectors: rows }, 400, /stages: expected an integer from 1 to 3/],
        ["/encode?stages=x", { vectors: rows }, 400, /pattern/],
        ["/encode", Buffer.alloc(200_000), 413, /too large/],
        ["/decode", { codes: [[0, 1024, 0]] }, 400, /CODE_OUT_OF_RANGE/],
        ["/decode", { codes: [[0, 1], [0]] }, 400, /expected 2 in every row, got 1 in row 1/],
        ["/nowhere", {}, 404, /not found/],
      ];
      for (const [url, payload, status, message] of cases) {
        const response = await post(url, payload);
        assert.equal(response.statusCode, status, url);
        assert.match(response.payload, message);
      }
    });

    it("tells of its model, its health and its metrics", async () => {
      const get = (url) => service.inject({ url });
      assert.equal((await get("/model")).json().id, quantizer.id);
      assert.deepEqual((await get("/healthz")).json(), { status: "ok" });
      const metrics = (await get("/metrics")).payload;
      assert.match(metrics, /^nodejs_eventloop_lag_p99_seconds [0-9.e-]+$/m);
      assert.match(metrics, /^http_request_duration_seconds_count\{route="\/encode",status="200"\} 3$/m);
      if (batching !== null) assert.match(metrics, /^rvq_encode_vectors_total 12$/m);
    });
  });
}

describe("a queue that is full", () => {
  it("is status 503 with a time to try again", async () => {
    const service = createService(quantizer, {
      batching: { maxBatch: 1, maxQueue: 1, whenFull: "reject" },
      bodyLimit: 100_000,
    });
    const headers = { "content-type": "application/octet-stream" };
    const payload = bytesOf(vectors);
    const one = () => service.inject({ method: "POST", url: "/encode", payload, headers });
    const responses = await Promise.all(Array.from({ length: 20 }, one));
    const statuses = responses.map(({ statusCode }) => statusCode);
    assert.ok(statuses.includes(200) && statuses.includes(503), statuses.join(" "));
    assert.equal(responses.find(({ statusCode }) => statusCode === 503).headers["retry-after"], "1");
    await service.close();
  });
});

describe("SIGTERM", () => {
  it("has requests answered that are under way, and ends the process without an error", async () => {
    const args = ["main.mjs", "--port", "0", "--stages", "32", "--max-delay-ms", "300"];
    const server = spawn(process.execPath, args, { cwd: import.meta.dirname, stdio: ["ignore", "pipe", "inherit"] });
    const [line] = await once(createInterface(server.stdout), "line");
    const { address } = JSON.parse(line);
    const headers = { "content-type": "application/octet-stream" };
    const answer = fetch(`${address}/encode`, { method: "POST", body: bytesOf(vectors), headers });
    await new Promise((resolve) => setTimeout(resolve, 100));
    server.kill("SIGTERM");
    const response = await answer;
    assert.equal(response.status, 200);
    assert.equal((await response.arrayBuffer()).byteLength, 160);
    assert.deepEqual(await once(server, "exit"), [0, null]);
  });
});
