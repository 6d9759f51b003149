// Emits WebAssembly: expressions as byte sequences, functions of 32-bit parameters, one module with one memory.
//
// Only what the kernels beside it need. An expression is the code that leaves its value on the stack, so nesting calls
// of these functions nests the operations; a statement leaves nothing. Numbers are those of the WebAssembly
// specification 2.0 (section 5.4, "Instructions").

export type Code = readonly number[];

const types = { i32: 0x7f, f32: 0x7d, f64: 0x7c, v128: 0x7b } as const;
export type ValueType = keyof typeof types;

/** A parameter or local variable. `get` is an expression, `set` a statement. */
export class Local {
  readonly get: Code;
  private readonly index: Code;

  constructor(index: number) {
    this.index = unsigned(index);
    this.get = [0x20, ...this.index];
  }

  set(value: Code): Code {
    return [...value, 0x21, ...this.index];
  }

  /** Adds a constant to an i32. */
  advance(bytes: number): Code {
    return this.set(add(this.get, i32(bytes)));
  }
}

/** A function of i32 parameters and no result. */
export class FunctionBuilder {
  private readonly locals: ValueType[] = [];
  private numParameters = 0;
  private body: Code = [];

  /** The index by which `call` finds it is its place in the list given to `emitModule`. */
  constructor(readonly name: string) {}

  parameters<Names extends string>(...names: Names[]): Record<Names, Local> {
    const entries = names.map((name) => [name, new Local(this.numParameters++)]);
    return Object.fromEntries(entries) as Record<Names, Local>;
  }

  /** After all parameters. */
  local(type: ValueType): Local {
    this.locals.push(type);
    return new Local(this.numParameters + this.locals.length - 1);
  }

  localArray(type: ValueType, length: number): Local[] {
    return Array.from({ length }, () => this.local(type));
  }

  setBody(...statements: Code[]): void {
    this.body = statements.flat();
  }

  type(): Code {
    return [0x60, ...vector(new Array<Code>(this.numParameters).fill([types.i32])), 0];
  }

  code(): Code {
    const locals = vector(this.locals.map((type) => [1, types[type]]));
    return sized([...locals, ...this.body, 0x0b]);
  }
}

/** A module that exports its functions and its memory, which starts with minPages of 64 KiB and may grow to maxPages. */
export function emitModule(functions: readonly FunctionBuilder[], minPages: number, maxPages: number) {
  const exported = (name: string, kind: number, index: number) => [
    ...vector([...new TextEncoder().encode(name)].map((byte) => [byte])),
    kind,
    ...unsigned(index),
  ];
  const exports = functions.map(({ name }, index) => exported(name, 0, index));
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
    ...section(1, vector(functions.map((f) => f.type()))),
    ...section(3, vector(functions.map((_, index) => unsigned(index)))),
    ...section(5, vector([[0x01, ...unsigned(minPages), ...unsigned(maxPages)]])),
    ...section(7, vector([...exports, exported("memory", 2, 0)])),
    ...section(10, vector(functions.map((f) => f.code()))),
  ]);
}

function section(id: number, content: Code): Code {
  return [id, ...sized(content)];
}

function vector(items: readonly Code[]): Code {
  return [...unsigned(items.length), ...items.flat()];
}

function sized(content: Code): Code {
  return [...unsigned(content.length), ...content];
}

/** LEB128: seven bits a byte, lowest first. */
function unsigned(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 0x7f; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  bytes.push(rest);
  return bytes;
}

function signed(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  for (; rest < -64 || rest > 63; rest >>= 7) bytes.push((rest & 0x7f) | 0x80);
  bytes.push(rest & 0x7f);
  return bytes;
}

// Control.

export const repeatWhile = (condition: Code, ...statements: Code[]): Code => [
  ...[0x03, 0x40],
  ...statements.flat(),
  ...condition,
  ...[0x0d, 0, 0x0b],
];
export const when = (condition: Code, ...statements: Code[]): Code => [
  ...condition,
  ...[0x04, 0x40],
  ...statements.flat(),
  0x0b,
];
/** Statements that `leave` in them can end early; it counts the blocks and loops it is in, from 0. */
export const block = (...statements: Code[]): Code => [0x02, 0x40, ...statements.flat(), 0x0b];
export const leave = (condition: Code, depth: number): Code => [...condition, 0x0d, depth];
export const call = (index: number, ...args: Code[]): Code => [...args.flat(), 0x10, ...unsigned(index)];

// 32-bit integers, unsigned where it matters; addresses are bytes.

const operation = (...code: number[]) => {
  return (...operands: Code[]): Code => [...operands.flat(), ...code];
};

export const i32 = (value: number): Code => [0x41, ...signed(value)];
export const add = operation(0x6a);
export const subtract = operation(0x6b);
export const multiply = operation(0x6c);
export const and = operation(0x71);
export const or = operation(0x72);
export const shiftLeft = operation(0x74);
export const trailingZeros = operation(0x68);
/** a where the condition is not zero, else b. */
export const select = (a: Code, b: Code, condition: Code): Code => [...a, ...b, ...condition, 0x1b];
export const lessThan = operation(0x49);
export const isZero = operation(0x45);

// Memory. `align` is what the address is known to be a multiple of, as a power of two: a hint only.

const access = (opcode: Code, align: number, offset: number, operands: Code): Code => [
  ...operands,
  ...opcode,
  align,
  ...unsigned(offset),
];

export const load = (address: Code, offset = 0): Code => access([0x28], 2, offset, address);
export const store = (address: Code, value: Code, offset = 0): Code =>
  access([0x36], 2, offset, [...address, ...value]);
export const f32Load = (address: Code, offset = 0): Code => access([0x2a], 2, offset, address);
export const f32Store = (address: Code, value: Code, offset = 0): Code =>
  access([0x38], 2, offset, [...address, ...value]);
export const f64Load = (address: Code, offset = 0): Code => access([0x2b], 3, offset, address);
export const f64Store = (address: Code, value: Code, offset = 0): Code =>
  access([0x39], 3, offset, [...address, ...value]);
export const v128Load = (address: Code, offset = 0): Code => access([0xfd, 0], 4, offset, address);
export const v128Store = (address: Code, value: Code, offset = 0): Code =>
  access([0xfd, 0x0b], 4, offset, [...address, ...value]);
/** Four copies of one float32. */
export const load32Splat = (address: Code, offset = 0): Code => access([0xfd, 0x09], 2, offset, address);
/** Two copies of one float64. */
export const load64Splat = (address: Code, offset = 0): Code => access([0xfd, 0x0a], 3, offset, address);
/** One float32 in lane 0, zeros above. */
export const load32Zero = (address: Code, offset = 0): Code => access([0xfd, 0x5c], 2, offset, address);
/** Two float32 in lanes 0 and 1, zeros above. */
export const load64Zero = (address: Code, offset = 0): Code => access([0xfd, 0x5d], 2, offset, address);
/** One float32 into a lane of `value`. */
export const load32Lane = (lane: number, address: Code, value: Code): Code => [
  ...access([0xfd, 0x56], 2, 0, [...address, ...value]),
  lane,
];

// Vectors of 128 bits.

const simd = (opcode: number) => operation(0xfd, ...unsigned(opcode));

export const v128Zero: Code = [0xfd, 0x0c, ...new Array<number>(16).fill(0)];
export const shuffle = (bytes: readonly number[], a: Code, b: Code): Code => [...a, ...b, 0xfd, 0x0d, ...bytes];
export const v128And = simd(0x4e);
export const f32x4Splat = simd(0x13);
export const f32x4GreaterOrEqual = simd(0x46);
export const i32x4Bitmask = simd(0xa4);
export const f32x4Add = simd(0xe4);
export const f32x4Subtract = simd(0xe5);
export const f32x4Multiply = simd(0xe6);
/** The larger of a and b; where they compare unequal and unordered, a. One instruction on every processor. */
export const f32x4Larger = simd(0xeb);
/** a·b + c, rounded once or twice as the processor likes (relaxed SIMD). */
export const f32x4RelaxedMultiplyAdd = simd(0x105);
export const f64x2Add = simd(0xf0);
export const f64x2Subtract = simd(0xf1);
export const f64x2Multiply = simd(0xf2);
/** The two lower float32 as float64. */
export const promoteLow = simd(0x5f);
/** Two float64 rounded to the two lower float32, zeros above. */
export const demoteZero = simd(0x5e);
export const f32Lane = (lane: number, value: Code): Code => [...value, 0xfd, 0x1f, lane];
export const f64Lane = (lane: number, value: Code): Code => [...value, 0xfd, 0x21, lane];

// Scalars.

export const f32Add = operation(0x92);
export const f32Subtract = operation(0x93);
export const f32Max = operation(0x97);
export const f64GreaterThan = operation(0x64);
export const f64GreaterOrEqual = operation(0x66);
export const f64Add = operation(0xa0);
