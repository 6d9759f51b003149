// Checks the machine code of the kernels of cuda/*.cu, for every architecture of a release, without a GPU.
//
//   node scripts/check-cuda.mjs [--arch=86,90] [--docs]   only these architectures; the table of sm_86 into docs/gpu.md
//
// What has been compiled is kept in build/cuda-check/: the next time only files that changed take their time.
// It fails where a kernel spills registers or has a stack, where the compiler lets wgmma wait for each product, where
// shared memory is more than a block may have, and where fewer blocks become resident on a multiprocessor than the
// kernel promises. The promise is its __launch_bounds__ and, in the comment above the kernel, one line or more of this
// form, of which the first that fits counts:
//
//   // launch: threads 256, blocks 2, shared 49152             blocks a multiprocessor at least, bytes of dynamic shared memory
//   // launch <8, *> on 75 86: threads 128, blocks 2, shared 3 * 16896 + 256   for some template arguments and architectures
//   // launch: threads 256, blocks 1, stack 64, spills 32      so many bytes of stack, stored and loaded spills at most
//
// What is not given is taken from __launch_bounds__; a kernel with dynamic shared memory must say how much.
// The programs of bench/cuda/, which are for Hopper alone, must compile.

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { mostSharedBytes, occupancy } from "./cuda-architectures.mjs";
import { compileKernels } from "./cuda-kernels.mjs";
import { onPath } from "./toolchain.mjs";

const root = path.resolve(import.meta.dirname, "..");
const mostStaticBytes = 48 * 1024;
const documented = "86";
const columns = [
  "kernel",
  "arch",
  "registers",
  "threads",
  "shared",
  "stack",
  "blocks",
  "promised",
  "warps",
  "bound by",
];

if (!onPath("nvcc") || !onPath("cmake")) {
  console.log("check-cuda: skipped, nvcc or cmake not found");
  process.exit(0);
}
const wanted = process.argv
  .find((argument) => argument.startsWith("--arch="))
  ?.slice("--arch=".length)
  .split(",");
const kernels = (await compileKernels(wanted)).map((kernel) => judge(kernel, promiseOf(kernel)));
if (kernels.length === 0) fail("no kernels: has the way they are found gone blind?");
print(kernels);
if (process.argv.includes("--docs")) document(kernels);
if (wanted?.includes("90a") ?? true) compilePrograms();
const failures = kernels.filter(({ problems }) => problems.length > 0);
for (const { name, sm, problems } of failures)
  console.error(`check-cuda: ${shortName(name)}, sm_${sm}: ${problems.join("; ")}`);
if (failures.length > 0) fail(`${failures.length} of ${kernels.length} kernels are not as promised`);
const targets = new Set(kernels.map(({ sm }) => sm));
console.log(
  `check-cuda: ${kernels.length} kernels for ${[...targets].map((sm) => `sm_${sm}`).join(", ")} are as promised`,
);

function compilePrograms() {
  const folder = path.join(root, "bench/cuda");
  for (const name of fs.readdirSync(folder).filter((name) => name.endsWith(".cu"))) {
    const flags = ["-std=c++17", "-O3", "-arch=sm_90a", "-Werror", "all-warnings", `-I${path.join(root, "cuda")}`];
    const { status } = spawnSync("nvcc", [...flags, "-cubin", path.join(folder, name), "-o", "/dev/null"], {
      stdio: "inherit",
    });
    if (status !== 0) fail(`bench/cuda/${name} does not compile`);
  }
}

/** The launch line for this kernel, with what __launch_bounds__ says where it says nothing. */
function promiseOf({ file, sm, name, threads, blocks }) {
  const [, base, templates = ""] = /(\w+)(?:<(.*)>)?$/.exec(name) ?? [];
  const given = withoutTypes(templates).split(", ");
  const line = launchLines(file, base).find((launch) => {
    if (launch.targets.length > 0 && !launch.targets.includes(sm)) return false;
    return launch.pattern.every((wanted, i) => wanted === "*" || wanted === given[i]);
  });
  return { threads, blocks, shared: undefined, stack: 0, spills: 0, boundThreads: threads, ...line?.values };
}

/** Of the comments above the definitions of a kernel in its file, or in a header where it is not there. */
function launchLines(file, base) {
  const folder = path.join(root, "cuda");
  const names = [path.basename(file), ...fs.readdirSync(folder).filter((name) => /\.(cuh|h)$/.test(name))];
  for (const name of names) {
    const lines = fs.readFileSync(path.join(folder, name), "utf8").split("\n");
    const at = lines.findIndex((_, i) => definesKernel(lines, i, base));
    if (at < 0) continue;
    const found = [];
    for (let i = at - 1; i >= 0 && /^\s*(\/\/|template\b|__global__)/.test(lines[i]); i--) found.unshift(lines[i]);
    return found.flatMap((line) => parseLaunch(line, `${name}: ${base}`));
  }
  return [];
}

/** Whether a kernel's definition starts at this line: clang-format may break it after its launch bounds. */
function definesKernel(lines, i, base) {
  return lines[i].includes("__global__") && new RegExp(`\\b${base}\\(`).test(lines.slice(i, i + 3).join(" "));
}

function parseLaunch(line, where) {
  const match = /^\s*\/\/ launch(?: <([^>]*)>)?(?: on ([\da-z ]+))?: (.*)$/.exec(line);
  if (match === null) {
    if (/^\s*\/\/ launch\b/.test(line)) fail(`${where}: not understood: ${line.trim()}`);
    return [];
  }
  const values = {};
  for (const part of match[3].split(", ")) {
    const [, key, first, factor = "1", more = "0"] =
      /^(threads|blocks|shared|stack|spills) (\d+)(?: \* (\d+))?(?: \+ (\d+))?$/.exec(part) ?? [];
    if (key === undefined) fail(`${where}: not understood: ${part}`);
    values[key] = Number(first) * Number(factor) + Number(more);
  }
  const pattern = match[1]?.split(", ") ?? [];
  return [{ pattern, targets: match[2]?.split(" ") ?? [], values }];
}

function judge(kernel, promise) {
  const problems = [];
  const { sm, shared, dynamic } = kernel;
  const { threads, blocks = 1, boundThreads } = promise;
  // A library's kernels come with its own launches.
  const ours = kernel.name.startsWith("rvq::");
  if (ours && kernel.stack > promise.stack) problems.push(`a stack of ${kernel.stack} bytes`);
  if (ours && kernel.spills > promise.spills) problems.push(`${kernel.spills} bytes are spilled`);
  if (kernel.serialized) problems.push("products of wgmma are waited for one by one");
  if (shared > mostStaticBytes) problems.push(`${shared} bytes of static shared memory, at most ${mostStaticBytes}`);
  if (dynamic && promise.shared === undefined && ours)
    problems.push("no launch line says how much dynamic shared memory");
  if (threads === undefined && ours) problems.push("neither __launch_bounds__ nor a launch line says how many threads");
  if (boundThreads !== undefined && threads > boundThreads) {
    problems.push(`${threads} threads in the launch line, ${boundThreads} in __launch_bounds__`);
  }
  const bytes = shared + (promise.shared ?? 0);
  if (bytes > mostSharedBytes(sm)) problems.push(`${bytes} bytes of shared memory, at most ${mostSharedBytes(sm)}`);
  const fit = threads === undefined ? null : occupancy(sm, { threads, registers: kernel.registers, shared: bytes });
  if (fit !== null && fit.blocks < blocks) {
    problems.push(`${fit.blocks} blocks fit a multiprocessor, by its ${fit.bound}; ${blocks} are promised`);
  }
  return { ...kernel, threads, promised: blocks, bytes, fit, problems };
}

function rowOf({ name, sm, registers, threads, bytes, stack, fit, promised }) {
  const resident = fit === null ? "" : `${fit.warps} of ${fit.mostWarps}`;
  const bound = fit?.bound ?? "";
  return [
    shortName(name),
    `sm_${sm}`,
    registers,
    threads ?? "",
    bytes,
    stack,
    fit?.blocks ?? "",
    promised,
    resident,
    bound,
  ];
}

/** Without the namespace. */
function shortName(name) {
  return withoutTypes(name.replace(/^rvq::cuda::/, ""));
}

/** Template arguments are written (int)8 or (rvq::cuda::Engine)1. */
function withoutTypes(name) {
  return name.replaceAll(/\([\w: ]+\)/g, "");
}

function print(all) {
  const rows = [columns, ...all.map(rowOf)].map((row) => row.map(String));
  const widths = columns.map((_, i) => Math.max(...rows.map((row) => row[i].length)));
  for (const row of rows)
    console.log(
      row
        .map((cell, i) => cell.padEnd(widths[i]))
        .join("  ")
        .trimEnd(),
    );
}

/** Between the two comments that mark the place. */
function document(all) {
  const file = path.join(root, "docs/gpu.md");
  const rows = all.filter(({ sm }) => sm === documented).map(rowOf);
  const line = (cells) => `| ${cells.join(" | ")} |`;
  const table = [columns, columns.map(() => "---"), ...rows]
    .map((row) => line(row.filter((_, i) => i !== 1)))
    .join("\n");
  const text = fs.readFileSync(file, "utf8");
  const marked = /(<!-- check:cuda -->\n)[\s\S]*?(<!-- end -->)/;
  if (!marked.test(text)) fail("docs/gpu.md has no place for the table");
  fs.writeFileSync(
    file,
    text.replace(marked, (_, begin, end) => `${begin}${table}\n${end}`),
  );
  console.log("check-cuda: written: docs/gpu.md");
}

function fail(message) {
  console.error(`check-cuda: ${message}`);
  process.exit(1);
}
