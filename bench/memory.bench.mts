// Peak memory of one call over 2^20 vectors of D 128 (512 MiB), each in a process of its own, above its input and output.
//
//   npm run bench -- memory [--backend=cpu] [--threads=2] [--json=file] [--save]
//
// Fails where a call needs more than its bound: a call on the calling thread only the scratch of its threads, an
// asynchronous one also the chunks under way (at most 4 MiB each) and those that the garbage collector has not taken yet.

import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { type BackendChoice, ResidualQuantizer } from "../lib/index.js";
import { Random } from "../lib/random.js";
import { flag, isSet, machine, printTable, type Row, saveJson } from "./results.js";

const count = 2 ** 20;
const dim = 128;
const codebookSize = 256;
const mebibyte = 2 ** 20;

/** MiB above input and output that a call may need. */
const cases = {
  encodeSync: 32,
  encode: 128,
  decodeSync: 32,
  decode: 128,
} as const;
type Operation = keyof typeof cases;

if (isSet("child")) await measure(flag("child-operation") as Operation);
else compare();

function compare() {
  const rows: Row[] = [];
  for (const [operation, bound] of Object.entries(cases)) {
    const file = fileURLToPath(import.meta.url);
    const passed = process.argv.slice(2).filter((argument) => !/^--(json|save)/.test(argument));
    const child = ["--expose-gc", file, "--child", `--child-operation=${operation}`, ...passed];
    const { status, stdout, stderr, signal } = spawnSync(process.execPath, child, { encoding: "utf8" });
    if (status !== 0) throw new Error(`${operation} ended with ${signal ?? status}: ${stderr}`);
    const { above, megabytes } = JSON.parse(stdout) as { above: number; megabytes: number };
    rows.push({
      operation,
      "input and output MiB": megabytes,
      "peak above them MiB": above,
      "bound MiB": bound,
      within: above <= bound ? "yes" : "no",
    });
  }
  printTable(`Peak memory, N ${count}, D ${dim}, K ${codebookSize}, ${machine()}`, rows);
  saveJson("memory", rows);
  if (rows.some(({ within }) => within === "no")) process.exitCode = 1;
}

/** One call in this process: prints by how much the peak of resident memory rose above what input and output hold. */
async function measure(operation: Operation) {
  const random = new Random(1);
  const backend = (flag("backend") ?? "auto") as BackendChoice;
  const threads = flag("threads") === undefined ? undefined : Number(flag("threads"));
  const codebook = Float32Array.from({ length: codebookSize * dim }, () => random.fraction());
  const rq = ResidualQuantizer.fromCodebooks([codebook], { dim, backend, threads });
  const few = Float32Array.from({ length: 4096 * dim }, () => random.fraction());
  const vectors = operation.startsWith("encode") ? repeat(few, count * dim) : few;
  const data = Uint16Array.from({ length: operation.startsWith("decode") ? count : 0 }, (_, n) => n % codebookSize);
  const codes = { count, stages: 1, data };

  // A first call has the code compiled and the threads started.
  const warm = rq.encodeSync(few);
  rq.decodeSync(warm);
  await rq.decode(await rq.encode(few));
  globalThis.gc?.();

  const before = process.resourceUsage().maxRSS * 1024;
  const resident = process.memoryUsage().rss;
  let output: Uint16Array | Uint32Array | Float32Array;
  if (operation === "encodeSync") output = rq.encodeSync(vectors).data;
  else if (operation === "encode") output = (await rq.encode(vectors)).data;
  else if (operation === "decodeSync") output = rq.decodeSync(codes);
  else output = await rq.decode(codes);
  const peak = process.resourceUsage().maxRSS * 1024;

  // Where memory was larger before the call than when it began, the peak may hide what the call needed.
  if (before - resident > 8 * mebibyte) throw new Error(`${before - resident} bytes were freed before the call`);
  const above = (peak - resident - output.byteLength) / mebibyte;
  const expected = operation.startsWith("encode") ? warm.data : codebook;
  const bad = output.findIndex((value, i) => value !== expected[i % expected.length]);
  if (bad >= 0) throw new Error(`${operation}: element ${bad} is wrong`);
  console.log(
    JSON.stringify({ above, megabytes: (vectors.byteLength + data.byteLength + output.byteLength) / mebibyte }),
  );
}

/** An array of `length` elements that repeats the given ones; filled in place, so that nothing else is allocated. */
function repeat(part: Float32Array, length: number): Float32Array {
  const whole = new Float32Array(length);
  for (let start = 0; start < length; start += part.length) whole.set(part, start);
  return whole;
}
