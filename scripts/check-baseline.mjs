// Checks that the addon can run on any x86-64 processor: AVX is used in the kernels that are chosen for it, nowhere else.
//
//   node scripts/check-baseline.mjs [folder]   the folder of CMake's build, default build/
//
// A function of the standard library that is inlined into an AVX kernel and into common code exists once after linking,
// and may be the AVX one. So those objects must define nothing but their tables, and run nothing when they are loaded.

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { functionsOf } from "./disassembly.mjs";

if (process.arch !== "x64") {
  console.log(`check-baseline: nothing to check on ${process.arch}`);
  process.exit();
}
const root = path.resolve(import.meta.dirname, "..");
const folder = path.join(path.resolve(root, process.argv[2] ?? "build"), "CMakeFiles/rvq.dir");

/**
 * What x86-64 does not promise: AVX and later (names in v, wide registers), and what came with SSE3 … SSE4.2 and BMI. Not
 * tzcnt: older processors run it as bsf, which gives the same for a number other than zero, and GCC counts on it; nor pextrw into a
 * register, which is of SSE2.
 */
const beyondBaseline =
  /^(v(?!err|erw)|lzcnt|popcnt|andn$|bextr|bls|bzhi|mulx|pdep|pext[lq]?$|[rs][oah][rl]x|adcx|adox|movbe|crc32|pshufb|palignr|phadd|phsub|pabs|psign|pmulhrsw|pmaddubsw|h?addsub|hadd|hsub|lddqu|movddup|movs[lh]dup|blend|pblend|dpp|extractps|insertps|pextr[bdq]|pinsr[bdq]|pmov[sz]x|pm(in|ax)(s[bd]|u[wd])|pmuldq|pmulld|pcmpeqq|pcmpgtq|ptest|round[ps][sd]|mpsadbw|packusdw|phminposuw|pcmp[ei]str)/;

const objects = fs.existsSync(folder)
  ? fs.readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".o"))
  : [];
const chosen = objects.filter((name) => /kernels_avx\w*\.cpp\.o$/.test(name));
const common = objects.filter((name) => !chosen.includes(name));
const problems = [];
if (chosen.length === 0 || common.length === 0) problems.push(`no objects in ${folder}: npm run build`);

let instructions = 0;
for (const name of common) {
  for (const code of functionsOf(path.join(folder, name))) {
    instructions += code.instructions.length;
    const found = code.instructions.find(
      ({ mnemonic, operands }) => beyondBaseline.test(mnemonic) || /%[yz]mm|%k[0-7]/.test(operands),
    );
    if (found) problems.push(`${name}: ${code.name}: ${found.mnemonic} ${found.operands}`);
  }
}
for (const name of chosen) {
  // No AVX at all would mean that it is not looked at rightly.
  const codes = functionsOf(path.join(folder, name));
  if (!codes.some((code) => code.instructions.some(({ mnemonic }) => beyondBaseline.test(mnemonic)))) {
    problems.push(`${name}: no AVX was found in it`);
  }
  for (const line of output("nm", ["--extern-only", "--defined-only", "--demangle", path.join(folder, name)])) {
    if (line !== "" && !/ [DRB] rvq::cpu::k\w+Kernels$/.test(line)) problems.push(`${name}: defines more: ${line}`);
  }
  const sections = output("objdump", ["--section-headers", path.join(folder, name)]);
  if (sections.some((line) => /\.(init|fini)_array|\.ctors/.test(line))) {
    problems.push(`${name}: runs code when it is loaded`);
  }
}

for (const problem of problems) console.error(`check-baseline: ${problem}`);
if (problems.length > 0) process.exit(1);
console.log(
  `check-baseline: ${common.length} objects with ${instructions} instructions of plain x86-64; ${chosen.length} with AVX`,
);

function output(command, args) {
  const result = spawnSync(command, args, { encoding: "utf8", maxBuffer: 2 ** 28 });
  if (result.status !== 0) throw new Error(`${command}: ${result.error?.message ?? result.stderr}`);
  return result.stdout.split("\n");
}
