// Steps of learning by moving averages, as a trainer makes them: from arrays of the host and of the device, beside the processor and PyTorch.

import { CodebookTrainer, type DeviceVectors } from "../../lib/index.js";
import { median } from "../interleave.js";
import type { Row } from "../results.js";
import type { EmaForm, PeerProcess } from "./process.js";

const dim = 128;
const size = 1024;
const count = 2 ** 18;
const distinct = 2 ** 16;
const stageCounts = [1, 8];
const peerForms: readonly EmaForm[] = ["cdist", "matmul", "matmul, vectors from the host"];

/** Rows of one table: a step on 2^18 vectors, with one stage and with eight; all of rvq's must end with the same checkpoint. */
export async function measureSteps(peers: PeerProcess, turns: number): Promise<Row[]> {
  const stages = Math.max(...stageCounts);
  const opened = await peers.open({ dim, size, stages, rows: count, distinct, forms: 1, compile: false });
  const vectors = new Float32Array(count * dim);
  for (let start = 0; start < vectors.length; start += opened.vectors.length) vectors.set(opened.vectors, start);
  const rows: Row[] = [];
  for (const used of stageCounts) {
    const ours = await measureOurs(opened.codebooks.slice(0, used), vectors, turns);
    const measured = [...ours];
    for (const form of peerForms) measured.push({ who: `PyTorch, ${form}`, ms: await peers.ema(form, used) });
    for (const { who, ms } of measured) {
      rows.push({
        what: `a step on ${count} vectors, D ${dim}, K ${size}, ${used} stage${used > 1 ? "s" : ""}`,
        who,
        ms,
        "vectors/s": Math.round((1000 * count) / ms),
        "times rvq, device arrays": ms / ours[0].ms,
      });
    }
  }
  return rows;
}

interface Measured {
  readonly who: string;
  /** Median, from the call to its result. */
  readonly ms: number;
}

/** Ours take turns; the first of each is not timed. */
async function measureOurs(
  codebooks: readonly Float32Array[],
  vectors: Float32Array,
  turns: number,
): Promise<Measured[]> {
  const open = (backend: "cuda" | "cpu") => CodebookTrainer.fromCodebooks(codebooks, { dim, backend });
  const onDevice = open("cuda");
  const quantizer = onDevice.quantizer();
  const resident = await quantizer.device.upload(vectors);
  const contenders: { who: string; trainer: CodebookTrainer; batch: Float32Array | DeviceVectors; times: number[] }[] =
    [
      { who: "rvq cuda, device arrays", trainer: onDevice, batch: resident, times: [] },
      { who: "rvq cuda, host arrays", trainer: open("cuda"), batch: vectors, times: [] },
      { who: "rvq cpu", trainer: open("cpu"), batch: vectors, times: [] },
    ];
  for (let turn = -1; turn < turns; turn++) {
    for (const { trainer, batch, times } of contenders) {
      const start = performance.now();
      await trainer.step(batch);
      if (turn >= 0) times.push(performance.now() - start);
    }
  }
  resident.dispose();
  quantizer.dispose();
  const expected = contenders[2].trainer.toBytes();
  for (const { who, trainer } of contenders) {
    if (Buffer.compare(trainer.toBytes(), expected) !== 0) throw new Error(`${who}: another checkpoint than cpu's`);
  }
  return contenders.map(({ who, times }) => ({ who, ms: median(times) }));
}
