// Checks the machine code of the kernels: the innermost loops that multiply and add keep their sums in registers.
//
//   node scripts/check-spills.mjs [folder]   the folder of CMake's build, default build/
//
// GCC has spilled sums where nothing in the source showed it, at half the speed. Loops are found by what they do, not by
// name: innermost, with at least four multiply-adds of the kinds that the screens use.

import fs from "node:fs";
import path from "node:path";
import { functionsOf, innermostLoops } from "./disassembly.mjs";

const root = path.resolve(import.meta.dirname, "..");
const folder = path.join(path.resolve(root, process.argv[2] ?? "build"), "CMakeFiles/rvq.dir/binding/cpu");

/** Float32 and integer products: fused, in two steps, with 8 and 16-bit operands; x86 and ARM. */
const multiplyAdd = /^(vfn?m(add|sub)\w*ps|vpdp\w+|v?pmadd\w+|v?mulps|fml[as]|[su]dot|smlal2?)$/;
const fewestMultiplyAdds = 4;
/** A float32 and a 16-bit screen or a row at a time: every level has at least this many such loops. */
const fewestLoops = 3;

const files = fs.existsSync(folder) ? fs.readdirSync(folder).filter((name) => /^kernels_.*\.o$/.test(name)) : [];
if (files.length === 0) fail(`no kernels in ${folder}: npm run build`);

let spilled = 0;
for (const name of files) {
  let loops = 0;
  for (const code of functionsOf(path.join(folder, name))) {
    const framePointer = code.instructions.some(
      ({ mnemonic, operands }) => /^(mov|lea)$/.test(mnemonic) && /%rsp\)?,%rbp$/.test(operands),
    );
    for (const loop of innermostLoops(code)) {
      if (loop.filter(({ mnemonic }) => multiplyAdd.test(mnemonic)).length < fewestMultiplyAdds) continue;
      loops++;
      const spills = loop.filter(({ operands }) => usesStack(operands, framePointer));
      if (spills.length === 0) continue;
      spilled++;
      console.error(
        `${name}: ${code.name.slice(0, 100)}: ${spills.length} of ${loop.length} instructions use the stack`,
      );
      for (const { mnemonic, operands } of spills.slice(0, 4)) console.error(`    ${mnemonic} ${operands}`);
    }
  }
  console.log(`check-spills: ${name}: ${loops} innermost loops of multiply-adds`);
  if (loops < fewestLoops)
    fail(`${name}: expected ${fewestLoops} loops or more; has the way they are found gone blind?`);
}
if (spilled > 0) fail(`${spilled} loops keep vectors on the stack`);

/** Whether a vector register and a place on the stack take part. */
function usesStack(operands, framePointer) {
  if (/%[xyz]mm/.test(operands)) return /\(%rsp/.test(operands) || (framePointer && /\(%rbp/.test(operands));
  return /^[qdsv]\d/.test(operands) && /\[sp/.test(operands);
}

function fail(message) {
  console.error(`check-spills: ${message}`);
  process.exit(1);
}
