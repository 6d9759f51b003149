// Options that no call knows: a letter too many, and an hour of training would have gone by the default.

import { invalidArgument } from "./errors.js";

/** All options of a call; the compiler sees to it that none is missing. */
export type OptionNames<Options> = Readonly<Record<keyof Options, true>>;

/** Throws for the first own property of `options` that is none of them; `options` may be undefined. */
export function checkOptionNames(
  options: object | undefined,
  names: Readonly<Record<string, true>>,
  what = "options",
): void {
  for (const name of Object.keys(options ?? {})) {
    if (!Object.hasOwn(names, name)) throw invalidArgument(what, `only ${Object.keys(names).join(", ")}`, name);
  }
}
