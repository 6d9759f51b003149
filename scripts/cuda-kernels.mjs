// The kernels of cuda/*.cu as nvcc compiles them for every architecture of a release: what ptxas says of each.

import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { onPath } from "./toolchain.mjs";

const root = path.resolve(import.meta.dirname, "..");
const work = path.join(root, "build/cuda-check");

/**
 * @typedef {object} Kernel
 * @property {string} file cuda/x.cu
 * @property {string} sm "86"
 * @property {string} name demangled, without the parameters: rvq::cuda::encode_rows<(int)8, true>
 * @property {number} registers of a thread
 * @property {number} shared static bytes
 * @property {number} stack bytes of a thread
 * @property {number} spills bytes stored and loaded
 * @property {number | undefined} threads most of a block, as __launch_bounds__ says
 * @property {number | undefined} blocks least of a multiprocessor, likewise
 * @property {boolean} dynamic whether it uses dynamic shared memory
 */

/**
 * Compiles what has changed since the last time, two files at once.
 *
 * @param {readonly string[]} [wanted] architectures, such as "86"; all of them without
 * @returns {Promise<Kernel[]>}
 */
export async function compileKernels(wanted) {
  const { flags, targets: all } = releaseFlags();
  const targets = all.filter(({ sm }) => wanted?.includes(sm) ?? true);
  const files = fs.readdirSync(path.join(root, "cuda")).filter((name) => name.endsWith(".cu"));
  const headers = fs.readdirSync(path.join(root, "cuda")).filter((name) => /\.(h|cuh)$/.test(name));
  const shared = hash([flags.join(" "), version("nvcc"), ...headers.map((name) => contentOf(`cuda/${name}`))]);
  const jobs = files.flatMap((file) => targets.map((target) => ({ file: `cuda/${file}`, ...target })));
  const reports = new Map();
  const next = jobs[Symbol.iterator]();
  const worker = async () => {
    for (const job of next) reports.set(job, await compile(job, flags, hash([shared, contentOf(job.file)])));
  };
  await Promise.all(Array.from({ length: Math.min(2, os.availableParallelism()) }, worker));
  const kernels = jobs.flatMap((job) => parse(job, reports.get(job)));
  return demangle(kernels);
}

/** What CMake gives nvcc in a release, and the machine code that it asks for. */
function releaseFlags() {
  const folder = path.join(work, "cmake");
  const options = ["-DRVQ_REQUIRE_CUDA=ON", "-DRVQ_TESTING=OFF", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON"];
  fs.mkdirSync(work, { recursive: true });
  run("cmake", ["-S", root, "-B", folder, ...(onPath("ninja") ? ["-G", "Ninja"] : []), ...options]);
  const commands = JSON.parse(fs.readFileSync(path.join(folder, "compile_commands.json"), "utf8"));
  const words = commands.find(({ file }) => file.endsWith(".cu"))?.command.split(/\s+/);
  if (words === undefined) throw new Error("CMake compiles no .cu file");
  const flags = [];
  const targets = new Map();
  for (let i = 1; i < words.length; i++) {
    const word = words[i].replaceAll('"', "").replaceAll("\\", "");
    const generated = /^--generate-code=arch=(\w+),code=\[?([\w,]+)\]?$/.exec(word);
    if (generated) {
      for (const code of generated[2].split(",")) {
        if (code.startsWith("sm_")) targets.set(code.slice("sm_".length), generated[1]);
      }
    } else if (word === "-x") {
      i++;
    } else if (word === "-c" || word === "-o" || word === "-MF" || word === "-MT") {
      i++;
    } else if (word !== "-MD" && word !== "-Xcompiler=-fPIC") {
      flags.push(word);
    }
  }
  return { flags, targets: [...targets].map(([sm, virtual]) => ({ sm, virtual })) };
}

/** ptxas's report and the PTX, kept under a name of what they were made of. */
async function compile({ file, sm, virtual }, flags, key) {
  const folder = path.join(work, `${path.basename(file, ".cu")}-${sm}`);
  const kept = path.join(folder, `${key}.json`);
  if (fs.existsSync(kept)) return JSON.parse(fs.readFileSync(kept, "utf8"));
  fs.rmSync(folder, { recursive: true, force: true });
  fs.mkdirSync(folder, { recursive: true });
  const target = `--generate-code=arch=${virtual},code=sm_${sm}`;
  const outputs = ["--cubin", "-o", path.join(folder, "kernel.cubin"), "--keep", "--keep-dir", folder];
  const report = await output("nvcc", [...flags, target, "-Xptxas", "-v", ...outputs, path.join(root, file)]);
  const ptx = fs.readdirSync(folder).find((name) => name.endsWith(".ptx"));
  const result = { report, ptx: ptx === undefined ? "" : fs.readFileSync(path.join(folder, ptx), "utf8") };
  for (const name of fs.readdirSync(folder)) fs.rmSync(path.join(folder, name));
  fs.writeFileSync(kept, JSON.stringify(result));
  return result;
}

function parse({ file, sm }, { report, ptx }) {
  const entries = new Map(
    ptx
      .split(/\.entry\s+/)
      .slice(1)
      .map((text) => [/^\w+/.exec(text)?.[0], text]),
  );
  const serialized = new Set(
    [...report.matchAll(/mma_async instructions are serialized .*in the function '(\w+)'/g)].map(([, name]) => name),
  );
  const dynamicNames = [...ptx.matchAll(/\.extern \.shared .*?(\w+)\[\]/g)].map(([, name]) => name);
  const kernels = [];
  let current;
  for (const line of report.split("\n")) {
    const heading = /Compiling entry function '(\w+)'/.exec(line);
    if (heading) {
      const text = entries.get(heading[1]) ?? "";
      current = undefined;
      // A kernel for other architectures' instructions: nothing is left of it on this one.
      if (/^[^{]*\{\s*ret;\s*\}/.test(text)) continue;
      current = { file, sm, mangled: heading[1], stack: 0, spills: 0, shared: 0, registers: 0 };
      current.threads = numberIn(/\.maxntid (\d+)/, text);
      current.blocks = numberIn(/\.minnctapersm (\d+)/, text);
      current.serialized = serialized.has(heading[1]);
      current.dynamic = dynamicNames.some((name) => new RegExp(`\\b${name}\\b`).test(text));
      kernels.push(current);
    }
    if (current === undefined) continue;
    // A function that is called and not inlined has a stack of its own, which counts as its kernel's.
    const stack = /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line);
    if (stack) {
      current.stack += Number(stack[1]);
      current.spills += Number(stack[2]) + Number(stack[3]);
    }
    if (/Used \d+ registers/.test(line)) {
      current.registers = numberIn(/Used (\d+) registers/, line) ?? 0;
      current.shared = numberIn(/(\d+) bytes smem/, line) ?? 0;
    }
  }
  return kernels;
}

function demangle(kernels) {
  const tool = ["cu++filt", "c++filt"].find(onPath);
  const mangled = kernels.map((kernel) => kernel.mangled).join("\n");
  const names = tool === undefined ? mangled : run(tool, [], mangled);
  const lines = names.split("\n");
  return kernels.map((kernel, index) => ({ ...kernel, name: plainName(lines[index]) }));
}

/** Without what it returns, anonymous namespaces and parameters. */
function plainName(name) {
  const plain = name.replace(/^void /, "").replaceAll(/\(anonymous namespace\)::|_GLOBAL__N_\w+::/g, "");
  let depth = 0;
  for (let i = 0; i < plain.length; i++) {
    if (plain[i] === "<") depth++;
    if (plain[i] === ">") depth--;
    if (plain[i] === "(" && depth === 0) return plain.slice(0, i);
  }
  return plain;
}

function numberIn(pattern, text) {
  const match = pattern.exec(text);
  return match === null ? undefined : Number(match[1]);
}

function contentOf(name) {
  return fs.readFileSync(path.join(root, name), "utf8");
}

function version(tool) {
  return run(tool, ["--version"]);
}

function hash(parts) {
  return createHash("sha256").update(parts.join("\0")).digest("hex").slice(0, 24);
}

/** The standard output. */
function run(command, args, input = "") {
  const result = spawnSync(command, args, { encoding: "utf8", input, maxBuffer: 2 ** 28 });
  if (result.status === 0) return result.stdout;
  throw new Error(`${command}: ${result.error?.message ?? result.stderr + result.stdout}`);
}

/** Both outputs of a command that runs beside others, at the lowest priority. */
function output(command, args) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
    if (child.pid !== undefined) os.setPriority(child.pid, os.constants.priority.PRIORITY_LOW);
    let text = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (piece) => {
        text += piece;
      });
    }
    child.on("error", reject);
    child.on("close", (status) => (status === 0 ? resolve(text) : reject(new Error(`${command} failed:\n${text}`))));
  });
}
