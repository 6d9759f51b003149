// Load test: 200 clients that each encode one vector after the other, with and without batching, on this machine.
//
//   npm run load-test -- [--connections 200] [--seconds 30] [--stages 32] [--format bytes|json]
//                        [--only batched|unbatched] [--server="--max-delay-ms 1"]
//
// Prints throughput, latency, the server's event-loop delay and memory, and what a request costs server and clients. Every answer is
// compared with what the quantizer gives. Fails where a request fails or an answer is wrong, the p99 of the event-loop
// delay reaches 20 ms, or memory at the end differs from that after a third of the time by more than 10 %.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { cpus } from "node:os";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { packCodes } from "rvq";
import { demoModel, dim, gaussian } from "./demo-model.mjs";
import { load } from "./load-clients.mjs";

const { values: options } = parseArgs({
  options: {
    connections: { type: "string", default: "200" },
    seconds: { type: "string", default: "30" },
    stages: { type: "string", default: "32" },
    format: { type: "string", default: "bytes" },
    only: { type: "string" },
    server: { type: "string", default: "" },
  },
});
const seconds = Number(options.seconds);
const limits = { eventLoopDelayMs: 20, memoryChange: 0.1 };
const clients = clientsOf(Number(options.connections), Number(options.stages), options.format === "json");

const rows = [];
for (const mode of ["unbatched", "batched"]) {
  if (options.only === undefined || options.only === mode) rows.push(await measure(mode));
}
console.log(
  `${options.connections} connections, ${seconds} s, one vector of ${dim} a request as ${options.format}, K 1024,`,
);
console.log(
  `${options.stages} stages, ${cpus().length} × ${cpus()[0].model.trim()}, Node ${process.version}; client and server share the machine`,
);
console.table(Object.fromEntries(rows.map(({ mode, ...row }) => [mode, row])));
if (rows.length === 2) {
  const ratio = rows[1]["requests/s"] / rows[0]["requests/s"];
  console.log(`batched / unbatched: ${ratio.toFixed(2)} ×`);
}
const failures = rows.flatMap(failuresOf);
for (const failure of failures) console.error(`load-test: ${failure}`);
if (failures.length > 0) process.exitCode = 1;

/** One server, one run. */
async function measure(mode) {
  const args = ["main.mjs", "--port", "0", "--stages", options.stages, ...options.server.split(" ").filter(Boolean)];
  if (mode === "unbatched") args.push("--unbatched");
  const server = spawn(process.execPath, args, { cwd: import.meta.dirname, stdio: ["ignore", "pipe", "inherit"] });
  const [line] = await once(createInterface(server.stdout), "line");
  const { address } = JSON.parse(line);
  const { hostname: host, port } = new URL(address);
  const place = { host, port: Number(port) };
  try {
    // Code is compiled and memory has grown to what the load needs.
    await load(place, clients, Math.min(3, seconds));
    await sleep(500);

    const before = await metricsOf(address);
    const ownBefore = process.cpuUsage();
    const running = load(place, clients, seconds);
    await sleep((1000 * seconds) / 3);
    const early = await metricsOf(address);
    // Just before the end: an idle server's memory and event loop say nothing about load.
    await sleep((1000 * seconds * 2) / 3 - 500);
    const late = await metricsOf(address);
    const result = await running;
    const own = process.cpuUsage(ownBefore);
    const done = await metricsOf(address);
    const cpuSeconds = done.process_cpu_seconds_total - before.process_cpu_seconds_total;
    const batches = (done.rvq_encode_batches_total ?? 0) - (before.rvq_encode_batches_total ?? 0);
    const vectors = (done.rvq_encode_vectors_total ?? 0) - (before.rvq_encode_vectors_total ?? 0);
    return {
      mode,
      "requests/s": Math.round(result.requests / result.seconds),
      "p50 ms": result.p50Ms,
      "p99 ms": result.p99Ms,
      errors: result.errors,
      "event loop p99 ms": Number(
        (1000 * Math.max(early.nodejs_eventloop_lag_p99_seconds, late.nodejs_eventloop_lag_p99_seconds)).toFixed(1),
      ),
      [`RSS MiB at ${Math.round(seconds / 3)} s`]: Math.round(early.process_resident_memory_bytes / 2 ** 20),
      [`at ${seconds} s`]: Math.round(late.process_resident_memory_bytes / 2 ** 20),
      "server CPU µs/request": Math.round((1e6 * cpuSeconds) / result.requests),
      "clients' CPU µs/request": Math.round((own.user + own.system) / result.requests),
      "vectors/batch": batches === 0 ? 1 : Number((vectors / batches).toFixed(1)),
    };
  } finally {
    server.kill("SIGTERM");
    const [code, signal] = await once(server, "exit");
    if (code !== 0) console.error(`load-test: the server ended with ${signal ?? code}`);
    if (code !== 0) process.exitCode = 1;
  }
}

/** Clients with a vector each, as whole requests and the bodies that must come back. */
function clientsOf(count, stages, json) {
  const quantizer = demoModel(stages, {});
  const noise = gaussian(7);
  return Array.from({ length: count }, () => {
    const vector = Float32Array.from({ length: dim }, () => noise());
    const codes = quantizer.encodeSync(vector);
    const body = json ? Buffer.from(JSON.stringify({ vectors: [[...vector]] })) : Buffer.from(vector.buffer);
    const type = json ? "application/json" : "application/octet-stream";
    const head = `POST /encode HTTP/1.1\r\nhost: localhost\r\ncontent-type: ${type}\r\ncontent-length: ${body.length}\r\n\r\n`;
    const answer = JSON.stringify({ count: 1, stages, codes: [[...codes.data]] });
    return {
      request: Buffer.concat([Buffer.from(head), body]),
      expected: json ? Buffer.from(answer) : Buffer.from(packCodes(codes, quantizer.codebookSizes)),
    };
  });
}

/** Prometheus' text format, for metrics without labels. */
async function metricsOf(address) {
  const text = await (await fetch(`${address}/metrics`)).text();
  const lines = text.split("\n").filter((line) => /^[a-z_0-9]+ /.test(line));
  return Object.fromEntries(lines.map((line) => line.split(" ")).map(([name, value]) => [name, Number(value)]));
}

function failuresOf(row) {
  const failures = [];
  const [early, late] = Object.entries(row)
    .filter(([name]) => /^(RSS MiB )?at /.test(name))
    .map(([, value]) => value);
  if (row.errors > 0) failures.push(`${row.mode}: ${row.errors} requests failed`);
  if (row["event loop p99 ms"] >= limits.eventLoopDelayMs) {
    failures.push(`${row.mode}: the event-loop delay's p99 is ${row["event loop p99 ms"]} ms`);
  }
  if (Math.abs(late / early - 1) > limits.memoryChange)
    failures.push(`${row.mode}: RSS went from ${early} to ${late} MiB`);
  return failures;
}
