// What console.log and util.inspect show of the classes: what an object is, and not what it is made of.

import { type InspectOptions, inspect } from "node:util";

/** The part of an object of the class `name` that says something to who uses it. */
export function shown(name: string, part: object, options: InspectOptions): string {
  return `${name} ${inspect(part, options)}`;
}
