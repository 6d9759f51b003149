// The one error class of the package and the few sentences it is built from.

/** What went wrong, for programs; the message says it for people. */
export type RvqErrorCode =
  | "INVALID_ARGUMENT"
  | "NOT_FINITE"
  | "ZERO_VECTOR"
  | "CODE_OUT_OF_RANGE"
  | "BACKEND_UNAVAILABLE"
  | "DISPOSED"
  | "QUEUE_FULL"
  | "OUT_OF_MEMORY"
  | "DEVICE_LOST"
  | "CUDA"
  | "INVALID_MODEL"
  | "INVALID_CHECKPOINT"
  | "INVALID_STATISTICS"
  | "INVALID_AUDIO"
  | "INVALID_STREAM"
  | "IO"
  | "PEER_MISSING"
  | "CLUSTER";

/** Every error that rvq throws on purpose. `code` is stable; the message names the argument, what was expected and what came. */
export class RvqError extends Error {
  override readonly name = "RvqError";
  readonly code: RvqErrorCode;

  constructor(code: RvqErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

/** `name: expected …, got …`, the form of every argument error. */
export function invalidArgument(name: string, expected: string, actual: unknown): RvqError {
  return new RvqError("INVALID_ARGUMENT", `${name}: expected ${expected}, got ${show(actual)}`);
}

/** Whether a device cannot do it, now or ever, where the processor could. */
export function isLoss(error: unknown): boolean {
  return error instanceof RvqError && (error.code === "OUT_OF_MEMORY" || error.code === "DEVICE_LOST");
}

/** A short rendering of any JavaScript value for a message; also of proxies and objects that throw when looked at. */
export function show(value: unknown): string {
  try {
    return render(value);
  } catch {
    return "a value that cannot be shown";
  }
}

function render(value: unknown): string {
  if (value === null) return "null";
  if (typeof value === "string") return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "function") return "a function";
  if (typeof value === "symbol") return "a symbol";
  if (typeof value !== "object") return String(value);
  if (ArrayBuffer.isView(value)) {
    const length = "length" in value ? String(value.length) : `${value.byteLength} bytes`;
    return `${typeName(value)}(${length})`;
  }
  if (Array.isArray(value)) return `an array of ${value.length}`;
  return typeName(value);
}

function typeName(value: object): string {
  const name = Object.prototype.toString.call(value).slice(8, -1);
  if (name !== "Object") return name;
  // Of a class: what `toString` says is the same for all of them.
  const maker: unknown = value.constructor;
  return typeof maker === "function" && maker.name !== "" ? maker.name : name;
}
