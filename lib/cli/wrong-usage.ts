// Wrong usage that only a command sees, before it reads any file: exit code 2, as for what the parser of options refuses.

import { realpath, stat } from "node:fs/promises";
import { resolve } from "node:path";
import { invalidArgument, RvqError } from "../errors.js";

/** `name: expected …, got …`, an RvqError INVALID_ARGUMENT. */
export class WrongUsage extends RvqError {
  constructor(name: string, expected: string, actual: unknown) {
    super("INVALID_ARGUMENT", invalidArgument(name, expected, actual).message);
  }
}

/** Throws `WrongUsage` where an output is one of the inputs, by whatever path: it would be gone. */
export async function requireOtherFile(
  name: string,
  output: string,
  inputs: Readonly<Record<string, string | undefined>>,
): Promise<void> {
  const key = await fileKey(output);
  for (const [what, input] of Object.entries(inputs)) {
    if (key === null || input === undefined || (await fileKey(input)) !== key) continue;
    throw new WrongUsage(name, `another file than ${what}`, output);
  }
}

/** Which file it is; of one that does not exist, its path; null of a pipe or a device, which nothing takes the place of. */
async function fileKey(path: string): Promise<string | null> {
  try {
    const entry = await stat(path, { bigint: true });
    if (!entry.isFile()) return null;
    const { dev, ino } = entry;
    // Some file systems number no files.
    return ino === 0n ? await realpath(path) : `${dev}:${ino}`;
  } catch {
    return resolve(path);
  }
}
