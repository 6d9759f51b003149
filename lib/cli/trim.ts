// `rvq trim`: the first few stages of a `.rvq` file as a file of its own, without coding anything anew.

import { stat } from "node:fs/promises";
import { writeFileAtomic } from "../atomic-file.js";
import { RvqReader, trimRvq } from "../index.js";
import { type CommandContext, printLine } from "./context.js";
import { requireOtherFile } from "./wrong-usage.js";

export async function trimCommand(
  { stdout, signal }: CommandContext,
  input: string,
  output: string,
  { stages }: { readonly stages: number },
): Promise<void> {
  await requireOtherFile("out.rvq", output, { "in.rvq": input });
  const reader = await RvqReader.open(input);
  await reader.close();
  await writeFileAtomic(output, stoppable(trimRvq(input, stages), signal));
  const [before, after] = await Promise.all([stat(input), stat(output)]);
  printLine(stdout, `${output}: ${stages} of ${reader.stages} stages, ${after.size} of ${before.size} bytes`);
}

async function* stoppable(pieces: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  for await (const piece of pieces) {
    signal.throwIfAborted();
    yield piece;
  }
}
