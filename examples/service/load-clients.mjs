// Many HTTP clients on keep-alive connections, as cheap as they can be: on two processors a heavier one measures itself.

import { once } from "node:events";
import net from "node:net";
import { createHistogram } from "node:perf_hooks";

/** A request that has no answer for so long has failed. */
const timeoutMs = 10_000;

/**
 * Each client sends its request, waits for the answer, and sends it again, for so many seconds.
 * @param clients { request, expected }: bytes of a whole request, and of the body that must come back
 * @returns requests that were answered rightly, errors, latencies in ms, and the seconds it all took
 */
export async function load({ host, port }, clients, seconds) {
  const latency = createHistogram();
  const outcome = { requests: 0, errors: 0, latency };
  const started = performance.now();
  const until = started + 1000 * seconds;
  await Promise.all(
    clients.map((client) => runClient(net.connect({ host, port, noDelay: true }), client, until, outcome)),
  );
  const milliseconds = (percent) => Number((latency.percentile(percent) / 1e6).toFixed(1));
  const { requests, errors } = outcome;
  return {
    requests,
    errors,
    p50Ms: milliseconds(50),
    p99Ms: milliseconds(99),
    seconds: (performance.now() - started) / 1000,
  };
}

async function runClient(socket, { request, expected }, until, outcome) {
  let sentAt = 0;
  let received = Buffer.alloc(0);
  const send = () => {
    sentAt = performance.now();
    socket.write(request);
  };
  const fail = () => {
    outcome.errors++;
    socket.destroy();
  };
  socket.on("connect", send);
  socket.on("error", fail);
  socket.setTimeout(timeoutMs, fail);
  // A server that hangs up has not answered.
  socket.on("end", fail);
  socket.on("data", (chunk) => {
    received = received.length === 0 ? chunk : Buffer.concat([received, chunk]);
    const bodyAt = received.indexOf("\r\n\r\n") + 4;
    if (bodyAt < 4) return;
    const head = received.latin1Slice(0, bodyAt);
    const length = Number(/\r\ncontent-length: (\d+)/i.exec(head)?.[1] ?? Number.NaN);
    if (received.length < bodyAt + length) return;
    const good = head.startsWith("HTTP/1.1 200 ") && expected.equals(received.subarray(bodyAt));
    received = Buffer.alloc(0);
    if (!good) return fail();
    const now = performance.now();
    outcome.requests++;
    outcome.latency.record(Math.max(1, Math.round(1e6 * (now - sentAt))));
    if (now < until) send();
    else socket.destroy();
  });
  await once(socket, "close");
}
