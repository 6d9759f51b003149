// Builds the addon in a way that is only for tests, into build/<name>/, and runs the tests that touch it there.
//
//   node scripts/test-build.mjs emulated [files…]   AVX-512 levels on a processor with AVX2, each forced in turn
//   node scripts/test-build.mjs sanitize [files…]   AddressSanitizer (without leaks) and UndefinedBehaviorSanitizer
//   node scripts/test-build.mjs tsan [files…]       ThreadSanitizer
//   node scripts/test-build.mjs cuda [files…]       the CUDA core on the processor, as of older devices by either screen and as of Hopper
//   node scripts/test-build.mjs races               the same under ThreadSanitizer: races between threads of its kernels
//
// The package's own build in build/Release/ stays as it is.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { availableParallelism } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";

const root = path.resolve(import.meta.dirname, "..");

/** What runs native code; the other tests are about TypeScript alone. */
const nativeTests = [
  "addon",
  "contract/",
  "cpu-",
  "errors",
  "model-file",
  "pack-codes",
  "residual-quantizer",
  "staging",
  "workers",
].map((name) => `test/${name}`);

/** `tests` and `program` of a run stand in for those of its build; RVQ_TEST_BACKENDS leaves out what `npm test` has. */
const builds = {
  emulated: {
    options: ["RVQ_EMULATE_AVX512=ON"],
    tests: ["test/contract", "test/cpu-"],
    runs: ["avx512vnni", "avx512"].map((level) => ({ RVQ_CPU: level, RVQ_TEST_BACKENDS: "cpu" })),
  },
  sanitize: {
    options: ["RVQ_SANITIZE=address,undefined"],
    tests: nativeTests,
    libraries: ["libasan.so", "libubsan.so"],
    runs: [
      {
        // Without leaks: V8 leaves some of its own behind where workers end.
        ASAN_OPTIONS: "halt_on_error=1:detect_leaks=0:detect_stack_use_after_return=1",
        UBSAN_OPTIONS: "halt_on_error=1:print_stacktrace=1",
        RVQ_TEST_BACKENDS: "cpu",
      },
    ],
  },
  cuda: {
    options: ["RVQ_EMULATE_CUDA=ON"],
    tests: ["test/contract", "test/cuda-"],
    runs: [
      {},
      {
        RVQ_TEST_BACKENDS: "cuda,cpu",
        tests: [
          "cli-bench",
          "residual-quantizer",
          "workers",
          "codebook-trainer",
          "grouped-trainer",
          "trainer-state",
        ].map((name) => `test/${name}`),
        program: null,
      },
      { RVQ_CUDA_SCREEN: "int8", tests: ["test/contract/search", "test/contract/random-search"] },
      { RVQ_EMULATED_WGMMA: "1" },
    ].map((form) => ({ RVQ_EMULATED_DEVICES: "1", RVQ_TEST_BACKENDS: "cuda", ...form })),
    // What scripts/gpu.sh runs under compute-sanitizer on a GPU: it must not be found broken there.
    program: ["scripts/gpu-exercise.mjs", "cuda"],
  },
  races: {
    options: ["RVQ_EMULATE_CUDA=ON", "RVQ_SANITIZE=thread"],
    libraries: ["libtsan.so"],
    // Limbs have all that float16 without wgmma has.
    runs: [{ RVQ_CUDA_SCREEN: "int8" }, { RVQ_EMULATED_WGMMA: "1" }].map((form) => ({
      RVQ_EMULATED_DEVICES: "1",
      TSAN_OPTIONS: "halt_on_error=1:ignore_noninstrumented_modules=1",
      ...form,
      tests: [],
    })),
    program: ["scripts/gpu-exercise.mjs", "cuda"],
  },
  tsan: {
    options: ["RVQ_SANITIZE=thread"],
    tests: nativeTests,
    libraries: ["libtsan.so"],
    // Node is not instrumented: what it does by itself cannot be judged, but its locks still count.
    runs: [{ TSAN_OPTIONS: "halt_on_error=1:ignore_noninstrumented_modules=1", RVQ_TEST_BACKENDS: "cpu" }],
  },
};

const requireLevel = `
  const [file, level, device] = process.argv.slice(1);
  const addon = require(file);
  if (!addon.cpuInfo().instructionSets.includes(level)) throw new Error(file + " has no level " + level);
  if (device !== "") addon.cudaOpen({ device: Number(device) });
`;

const [name, ...files] = process.argv.slice(2);
const build = builds[name];
if (build === undefined) fail(`one of ${Object.keys(builds).join(", ")} is wanted, not ${name}`);

// Where node-gyp-build looks when RVQ_PREBUILD names the folder.
const folder = path.join(root, "build", name);
console.log(`test-build: compiling ${path.relative(root, folder)} with ${build.options.join(" ")}`);
run(process.execPath, [
  path.join(root, "node_modules/cmake-js/bin/cmake-js"),
  ...["build", "--log-level", "error", "--out", path.join(folder, "build"), "--CDRVQ_WITHOUT_CUDA=ON"],
  ...build.options.map((option) => `--CD${option}`),
]);
/** The program of every run, all at the same time: one is one thread's work. */
const programs = [];
for (const { tests, program = build.program, ...settings } of build.runs) {
  const environment = { ...process.env, ...settings, RVQ_PREBUILD: folder };
  if (build.libraries) environment.LD_PRELOAD = build.libraries.map(runtime).join(" ");
  const title = Object.entries(settings)
    .map(([key, value]) => `${key}=${value}`)
    .join(", ");
  console.log(`test-build: ${name}, ${title}`);
  // An addon that does not load, or a level or a device that is missing, would only be skipped.
  const expected = [settings.RVQ_CPU ?? "portable", settings.RVQ_EMULATED_DEVICES === undefined ? "" : "0"];
  run(process.execPath, ["-e", requireLevel, path.join(folder, "build/Release/rvq.node"), ...expected], environment);
  const wanted = files.length > 0 ? files : (tests ?? build.tests);
  if (wanted.length > 0) {
    // One file a processor; vitest itself would leave one of them idle.
    const vitest = [path.join(root, "node_modules/vitest/vitest.mjs"), "run", `--maxWorkers=${availableParallelism()}`];
    run(process.execPath, [...vitest, ...wanted], environment);
  }
  if (program && files.length === 0) programs.push({ program, environment, title });
}
const outcomes = await Promise.all(programs.map(runBeside));
const failures = outcomes.filter((outcome) => outcome !== null);
if (failures.length > 0) fail(failures.join("; "));

/** The full path of one of the compiler's run-time libraries. */
function runtime(library) {
  const answer = spawnSync("g++", [`-print-file-name=${library}`], { encoding: "utf8" }).stdout.trim();
  if (!path.isAbsolute(answer)) fail(`g++ has no ${library}`);
  return answer;
}

function run(command, args, env = process.env) {
  const result = spawnSync(command, args, { cwd: root, stdio: "inherit", env });
  if (result.status !== 0) fail(`${path.basename(args[0])} failed (${result.signal ?? `exit ${result.status}`})`);
}

/** Runs a program; its lines begin with the title. What is wrong, or null. */
async function runBeside({ program, environment, title }) {
  const child = spawn(process.execPath, program, { cwd: root, stdio: ["ignore", "pipe", "pipe"], env: environment });
  for (const output of [child.stdout, child.stderr]) {
    createInterface({ input: output }).on("line", (line) => console.log(`[${title}] ${line}`));
  }
  const [status, signal] = await once(child, "close");
  return status === 0 ? null : `${program.join(" ")} failed (${signal ?? `exit ${status}`}): ${title}`;
}

function fail(message) {
  console.error(`test-build: ${message}`);
  process.exit(1);
}
