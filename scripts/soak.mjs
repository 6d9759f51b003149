// Soak test: a million calls, and a thousand quantizers made and dropped, must leave memory where it was.
//
//   node scripts/soak.mjs [--calls 1000000] [--quantizers 1000] [--backend cpu]     after npm run build
//
// Resident memory is looked at after each tenth of the work, after a garbage collection. The first four tenths warm up; from
// there it may grow by the larger of 10 % and 16 MiB. Quantizers are dropped without dispose(): the collector must free them.

import { createRequire } from "node:module";
import path from "node:path";
import { parseArgs } from "node:util";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

const { ResidualQuantizer } = createRequire(import.meta.url)(path.resolve(import.meta.dirname, "../dist/index.js"));
const { values } = parseArgs({
  options: {
    calls: { type: "string", default: "1000000" },
    quantizers: { type: "string", default: "1000" },
    backend: { type: "string", default: "auto" },
  },
});
setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc");

const parts = 10;
const warmUp = 4;
const mebibyte = 2 ** 20;
const dim = 32;
const inFlight = 100;
/** The code of an AbortError. */
const abortCode = 20;

const codebooks = (seed) =>
  Array.from({ length: 4 }, (_, stage) =>
    Float32Array.from({ length: 256 * dim }, (_, i) => ((i * 7919 + seed + stage) % 1009) / 1009 - 0.5),
  );
const options = { dim, backend: values.backend };
const vectors = Float32Array.from({ length: 64 * dim }, (_, i) => ((i * 104729) % 1013) / 1013 - 0.5);
const spoiled = vectors.slice(0, dim).fill(Number.NaN);

await soak(`${values.calls} calls`, Number(values.calls), callsOf());
await soak(`${values.quantizers} quantizers`, Number(values.quantizers), makeAndDrop);

/** Calls of every kind, side by side, right and wrong, finished and aborted. */
function callsOf() {
  const rq = ResidualQuantizer.fromCodebooks(codebooks(1), options);
  const batcher = rq.batcher({ maxQueue: 64, whenFull: "reject" });
  const expected = rq.encodeSync(vectors);
  const one = (n) => vectors.subarray((n % 64) * dim, ((n % 64) + 1) * dim);
  const kinds = [
    async (n) => checkCode(await rq.encode(one(n)), n),
    async (n) => checkCode(rq.encodeSync(one(n)), n),
    async (n) => checkCode(await batcher.encode(one(n)).catch(onlyCode("QUEUE_FULL")), n),
    async () => rq.decode(expected, { stages: 2 }),
    async () => batcher.decode(expected).catch(onlyCode("QUEUE_FULL")),
    async () => rq.encode(spoiled).catch(onlyCode("NOT_FINITE")),
    async () => batcher.encode(spoiled).catch(onlyCode("NOT_FINITE", "QUEUE_FULL")),
    async (n) => {
      const controller = new AbortController();
      const call = batcher.encode(one(n), { signal: controller.signal }).catch(onlyCode("QUEUE_FULL", abortCode));
      if (n % 2 === 0) controller.abort();
      await call;
    },
  ];

  function checkCode(codes, n) {
    if (codes === undefined) return;
    const row = n % 64;
    for (let stage = 0; stage < 4; stage++) {
      if (codes.data[stage] !== expected.data[row * 4 + stage]) throw new Error(`call ${n}: wrong codes`);
    }
  }

  return async (count, first) => {
    let next = first;
    const caller = async () => {
      while (next < first + count) {
        const n = next++;
        await kinds[n % kinds.length](n);
      }
    };
    await Promise.all(Array.from({ length: inFlight }, caller));
  };
}

/** Each is used once, by an asynchronous call and through a batcher, and every other one is disposed of. */
async function makeAndDrop(count, first) {
  for (let n = first; n < first + count; n++) {
    const rq = ResidualQuantizer.fromCodebooks(codebooks(n), options);
    const codes = await rq.encode(vectors);
    await rq.batcher().decode(codes);
    if (n % 2 === 0) rq.dispose();
  }
}

/** Runs the work in parts, prints memory after each, and sets the exit code where it grew. */
async function soak(title, count, work) {
  const started = performance.now();
  const resident = [];
  for (let part = 0; part < parts; part++) {
    const first = Math.round((count * part) / parts);
    await work(Math.round((count * (part + 1)) / parts) - first, first);
    resident.push(await residentMiB());
  }
  const [base] = resident.slice(warmUp - 1);
  const end = resident.at(-1);
  const limit = Math.max(0.1 * base, 16);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(`${title}, ${seconds} s: RSS MiB ${resident.map((mib) => mib.toFixed(1)).join(" ")}`);
  if (end - base <= limit) return;
  console.error(`soak: ${title}: RSS grew from ${base.toFixed(1)} to ${end.toFixed(1)} MiB`);
  process.exitCode = 1;
}

/** Twice, with turns of the event loop between: finalizers run after a collection. */
async function residentMiB() {
  for (let i = 0; i < 2; i++) {
    collectGarbage();
    await new Promise((resolve) => setImmediate(resolve));
  }
  return process.memoryUsage.rss() / mebibyte;
}

/** Errors with these codes are part of the soak. */
function onlyCode(...codes) {
  return (error) => {
    if (!codes.includes(error.code)) throw error;
  };
}
