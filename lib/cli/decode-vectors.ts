// `rvq decode` to a `.npy` file: what a model of any class makes of codes, of audio too.

import { writeFileAtomic } from "../atomic-file.js";
import { readCodes } from "../bitstream/read-codes.js";
import { GroupedQuantizer, loadQuantizer, RvqReader, writeNpy } from "../index.js";
import { type CommandContext, printLine } from "./context.js";
import type { DecodeCommandOptions } from "./decode.js";
import { checkSameModel } from "./same-model.js";
import { checkStoredStages } from "./stored-stages.js";

export async function decodeVectors(
  { stdout, stderr, signal, backend }: CommandContext,
  input: string,
  output: string,
  { model, stages, recover }: DecodeCommandOptions,
): Promise<void> {
  const quantizer = await loadQuantizer(model, backend);
  const reader = await RvqReader.open(input);
  try {
    checkSameModel(input, reader.header.modelId, model, quantizer);
    const columnsOfStage = quantizer instanceof GroupedQuantizer ? quantizer.groups.length : 1;
    checkStoredStages(input, stages, reader.stages / columnsOfStage);
    const columns = stages === undefined ? reader.stages : stages * columnsOfStage;
    const { codes, damage } = await readCodes(reader, { stages: columns, recover, signal });
    for (const message of damage) printLine(stderr, `${input}: ${message}`);
    const data = await quantizer.decode(codes, { signal });
    signal.throwIfAborted();
    await writeFileAtomic(output, writeNpy({ shape: [codes.count, quantizer.dim], data }));
    const vectors = `${codes.count.toLocaleString("en")} vectors of ${quantizer.dim}`;
    printLine(stdout, `${output}: ${vectors} from ${codes.stages} of ${reader.stages} codes each`);
  } finally {
    await reader.close();
  }
}
