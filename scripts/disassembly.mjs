// The machine code of compiled C++: functions, instructions and innermost loops, from objdump.

import { spawnSync } from "node:child_process";

/**
 * @typedef {{ address: number, mnemonic: string, operands: string }} Instruction
 * @typedef {{ name: string, instructions: Instruction[] }} Code
 */

/** The functions of an object file or a library; OBJDUMP names the tool for another processor. */
export function functionsOf(file, objdump = process.env.OBJDUMP ?? "objdump") {
  const options = ["--disassemble", "--no-show-raw-insn", "--demangle", "--wide", file];
  const result = spawnSync(objdump, options, { encoding: "utf8", maxBuffer: 2 ** 30 });
  if (result.status !== 0) throw new Error(`${objdump} ${file}: ${result.error?.message ?? result.stderr}`);
  /** @type {Code[]} */
  const functions = [];
  for (const line of result.stdout.split("\n")) {
    const heading = /^[0-9a-f]+ <(.*)>:$/.exec(line);
    if (heading) functions.push({ name: heading[1], instructions: [] });
    const instruction = /^\s*([0-9a-f]+):\t(\S+)\s*(.*)$/.exec(line);
    if (!instruction) continue;
    const [, address, mnemonic, operands] = instruction;
    functions.at(-1)?.instructions.push({ address: Number.parseInt(address, 16), mnemonic, operands });
  }
  return functions;
}

/**
 * The innermost loops of a function, each with its instructions in the order of their addresses.
 *
 * Natural loops: a jump to a place that every way to the jump leads through, and all that lies between. A jump backwards
 * alone does not make a loop: compilers move rare code to the end of a function, from where it jumps back.
 */
export function innermostLoops(code) {
  const blocks = basicBlocks(code.instructions);
  const dominators = dominatorsOf(blocks);
  const loops = new Map();
  blocks.forEach(({ next }, tail) => {
    for (const head of next) {
      if (!dominators[tail].has(head)) continue;
      // Loops with one head are one loop.
      const body = loops.get(head) ?? new Set([head]);
      loops.set(head, body);
      const open = [tail];
      for (let block = open.pop(); block !== undefined; block = open.pop()) {
        if (body.has(block)) continue;
        body.add(block);
        open.push(...blocks[block].previous);
      }
    }
  });
  return [...loops]
    .filter(([head, body]) => ![...loops.keys()].some((other) => other !== head && body.has(other)))
    .map(([, body]) => [...body].sort((a, b) => a - b).flatMap((block) => blocks[block].instructions));
}

/** Runs of instructions without a jump inside, with the numbers of those that may come next and before. */
function basicBlocks(instructions) {
  const places = new Map(instructions.map(({ address }, index) => [address, index]));
  const targets = instructions.map(({ mnemonic, operands }) => {
    // x86: jmp, jne …; ARM: b, b.ne, cbnz, tbz, whose target comes last. Calls come back.
    const target = isJump(mnemonic) ? /(?:^|\s)([0-9a-f]+) </.exec(operands)?.[1] : undefined;
    return target === undefined ? undefined : places.get(Number.parseInt(target, 16));
  });
  const starts = new Set([0]);
  instructions.forEach(({ mnemonic }, index) => {
    if (targets[index] !== undefined) starts.add(targets[index]);
    if (isJump(mnemonic) || endsFunction(mnemonic)) starts.add(index + 1);
  });
  const borders = [...starts].filter((index) => index < instructions.length).sort((a, b) => a - b);
  const numbers = new Map(borders.map((index, number) => [index, number]));
  const blocks = borders.map((begin, number) => {
    const end = borders[number + 1] ?? instructions.length;
    const { mnemonic } = instructions[end - 1];
    const next = [];
    if (targets[end - 1] !== undefined) next.push(numbers.get(targets[end - 1]));
    if (!/^(jmp|b)$/.test(mnemonic) && !endsFunction(mnemonic) && end < instructions.length) next.push(number + 1);
    return { instructions: instructions.slice(begin, end), next, previous: [] };
  });
  blocks.forEach(({ next }, number) => {
    for (const other of next) blocks[other].previous.push(number);
  });
  return blocks;
}

/** For every block those that all ways to it lead through; nothing for a block that no way leads to. */
function dominatorsOf(blocks) {
  const found = blocks.map((_, number) => (number === 0 ? new Set([0]) : undefined));
  for (let changed = true; changed; ) {
    changed = false;
    for (let number = 1; number < blocks.length; number++) {
      const before = blocks[number].previous.map((other) => found[other]).filter((set) => set !== undefined);
      if (before.length === 0) continue;
      const common = new Set([...before[0]].filter((block) => before.every((set) => set.has(block))));
      common.add(number);
      if (found[number]?.size === common.size) continue;
      found[number] = common;
      changed = true;
    }
  }
  return found.map((set) => set ?? new Set());
}

function isJump(mnemonic) {
  return /^(j|b$|b\.|cbn?z$|tbn?z$)/.test(mnemonic);
}

function endsFunction(mnemonic) {
  return /^(ret|ud2|hlt|br$)/.test(mnemonic);
}
