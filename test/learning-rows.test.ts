// Rows of a training that run ahead on a device, and come to the same where it fails: with a device made of arrays.

import { beforeAll, describe, expect, it } from "vitest";
import type { Backend, CodebookSpec, EncodeRequest } from "../lib/backend.js";
import { RvqError } from "../lib/errors.js";
import { LearningRows } from "../lib/learning-rows.js";
import { openBackend } from "../lib/open-backend.js";
import { Random } from "../lib/random.js";
import type { DeviceMemory, ResidentCodebooks } from "../lib/resident.js";
import { raiseToMagnitudes } from "../lib/stage-sums.js";
import { makeData, makeStages } from "./contract/families.js";

const shape = { count: 200, dim: 7, numCodewords: 12 };
const { dim, count } = shape;
const data = makeData("gaussian", shape, 3);
const { vectors } = data;
const stages: readonly CodebookSpec[] = makeStages(data, shape, 3, 3).map((codebook) => ({
  ...{ dim, metric: "l2" as const, weights: null },
  codebooks: [codebook],
}));
const js = openBackend("js", undefined);

const ahead = { runsAhead: true, signal: undefined };

/** What the stages leave over of the vectors, one after the other. */
const expected: Float32Array[] = [];
beforeAll(async () => {
  const rows = new LearningRows(js, vectors.slice(), dim, ahead);
  for (const stage of stages) {
    await rows.subtract(stage);
    expected.push((await rows.host()).slice());
  }
});

const rowsOf = (matrix: Float32Array, wanted: Uint32Array) =>
  Float32Array.from({ length: wanted.length * dim }, (_, i) => matrix[wanted[Math.floor(i / dim)] * dim + (i % dim)]);

class ArrayMemory implements DeviceMemory {
  disposed = false;
  constructor(readonly array: Float32Array) {}
  async upload(): Promise<void> {}
  async download(): Promise<void> {}
  dispose(): void {
    this.disposed = true;
  }
}

/** A device of arrays; `before` sees what is asked of it, and may throw. */
function makeDevice(before: (what: string) => void, stepsOnDevice = true) {
  const held: ArrayMemory[] = [];
  const arrayOf = (memory: DeviceMemory) => {
    if (!(memory instanceof ArrayMemory) || memory.disposed) throw new Error("expected memory in use");
    return memory.array;
  };
  const backend = {
    name: "cuda",
    description: "a device of arrays",
    chunksInFlight: 1,
    chunkRows: () => 77,
    prepare: (spec: CodebookSpec) => {
      const prepared = js.prepare(spec);
      const resident: Pick<ResidentCodebooks, "allocate" | "encode" | "magnitudes"> = {
        allocate: (bytes) => {
          before("allocate");
          return new ArrayMemory(new Float32Array(bytes));
        },
        encode: async ({ vectors, residuals, first = 0, count }) => {
          before("encode");
          const rows = arrayOf(vectors).subarray(first * dim, (first + count) * dim);
          const codes = new Uint16Array(count);
          expect(residuals).toBe(vectors);
          return {
            bad: await prepared.encode({ vectors: rows, count, stages: 1, codes, residuals: rows }),
            kernelMs: 0,
          };
        },
        magnitudes: async ({ vectors, magnitudes }) => {
          before("magnitudes");
          const array = arrayOf(vectors);
          raiseToMagnitudes(magnitudes, array, 0, array.length);
        },
      };
      const encode = async (request: EncodeRequest) => {
        before("encode from the host");
        return prepared.encode(request);
      };
      return { ...prepared, encode, resident: () => resident, dispose: () => {} };
    },
    hold: async (rows: Float32Array) => {
      before("hold");
      const memory = new ArrayMemory(rows.slice());
      held.push(memory);
      const gather = async (wanted: Uint32Array) => {
        before("gather");
        return rowsOf(arrayOf(memory), wanted);
      };
      return { memory, gather, dispose: () => memory.dispose() };
    },
    stepsOnDevice: () => stepsOnDevice,
  } as unknown as Backend;
  return { backend, held };
}

describe("rows of a training", () => {
  const random = new Random(1);
  const wanted = Uint32Array.from({ length: 30 }, () => random.below(count));

  it("run ahead where they are held, and catch up when the host asks for them", async () => {
    const calls: string[] = [];
    const { backend, held } = makeDevice((what) => calls.push(what));
    const own = vectors.slice();
    const rows = new LearningRows(backend, own, dim, ahead);
    await rows.hold();
    for (const [stage, spec] of stages.entries()) {
      await rows.subtract(spec);
      expect(await rows.hold()).not.toBeNull();
      expect(await rows.gather(wanted)).toEqual(rowsOf(expected[stage], wanted));
      expect(held[0].array).toEqual(expected[stage]);
      expect(own).toEqual(vectors);
    }
    expect(calls.filter((call) => call === "hold")).toHaveLength(1);
    expect(calls.filter((call) => call === "gather")).toHaveLength(3);
    // Three chunks a stage.
    expect(calls.filter((call) => call === "encode")).toHaveLength(9);
    expect(await rows.host()).toBe(own);
    expect(own).toEqual(expected[2]);
    // What is held is of the same rows still.
    expect(held[0].disposed).toBe(false);
    expect(await rows.gather(wanted)).toEqual(rowsOf(expected[2], wanted));
    rows.dispose();
    expect(held[0].disposed).toBe(true);
  });

  it("stay with the host where nobody holds them, where they are not to run ahead, or the device takes no such work", async () => {
    for (const [holds, runsAhead, stepsOnDevice] of [
      [false, true, true],
      [true, false, true],
      [true, true, false],
    ]) {
      const { backend, held } = makeDevice(
        (what) => expect(["hold", "encode from the host"]).toContain(what),
        stepsOnDevice,
      );
      const own = vectors.slice();
      const rows = new LearningRows(backend, own, dim, { ...ahead, runsAhead });
      for (const [stage, spec] of stages.entries()) {
        if (holds) await rows.hold();
        await rows.subtract(spec);
        expect(own).toEqual(expected[stage]);
        expect(held.every(({ disposed }) => disposed)).toBe(true);
      }
      expect(held).toHaveLength(holds ? 3 : 0);
    }
  });

  it("come to the same where the device fails at any point, and go on there after", async () => {
    const operations = ["allocate", "encode", "magnitudes"];
    for (const failing of operations) {
      for (const [code, times] of [
        ["OUT_OF_MEMORY", 1],
        ["DEVICE_LOST", 2],
      ] as const) {
        for (const stageOfFailure of stages.keys()) {
          let left = 0;
          const { backend, held } = makeDevice((what) => {
            if (what === failing && left > 0 && --left < times) throw new RvqError(code, "by a test");
          });
          const rows = new LearningRows(backend, vectors.slice(), dim, ahead);
          for (const [stage, spec] of stages.entries()) {
            await rows.hold();
            // The second of three chunks.
            if (stage === stageOfFailure) left = failing === "encode" ? times + 1 : times;
            await rows.subtract(spec);
            left = 0;
            expect(await rows.gather(wanted)).toEqual(rowsOf(expected[stage], wanted));
          }
          expect(await rows.host()).toEqual(expected[2]);
          // Again after the failure, where there are more stages.
          expect(held).toHaveLength(stageOfFailure < 2 ? 2 : 1);
          rows.dispose();
          expect(held.every(({ disposed }) => disposed)).toBe(true);
        }
      }
    }
  });

  it("catch up again where that has failed half way, and as before", async () => {
    for (const failing of [1, 2, 3, 5]) {
      let calls = Number.NEGATIVE_INFINITY;
      const { backend } = makeDevice((what) => {
        if (what === "encode from the host" && ++calls === failing) throw new RvqError("OUT_OF_MEMORY", "by a test");
      });
      const rows = new LearningRows(backend, vectors.slice(), dim, ahead);
      await rows.hold();
      await rows.subtract(stages[0]);
      await rows.subtract(stages[1]);
      rows.letGo();
      calls = 0;
      await expect(rows.host()).rejects.toMatchObject({ code: "OUT_OF_MEMORY" });
      expect(await rows.host()).toEqual(expected[1]);
    }
  });

  it("free what is held before they catch up, and see the signal then", async () => {
    const controller = new AbortController();
    let failing = "";
    const inUse: number[] = [];
    const device = makeDevice((what) => {
      if (what === failing) throw new RvqError("OUT_OF_MEMORY", "by a test");
      if (what === "encode from the host") inUse.push(device.held.filter(({ disposed }) => !disposed).length);
    });
    const rows = new LearningRows(device.backend, vectors.slice(), dim, { runsAhead: true, signal: controller.signal });
    await rows.hold();
    await rows.subtract(stages[0]);
    failing = "encode";
    await rows.subtract(stages[1]);
    expect(inUse).toEqual([0, 0, 0, 0, 0, 0]);
    await rows.hold();
    failing = "";
    await rows.subtract(stages[2]);
    controller.abort(new Error("enough"));
    await expect(rows.host()).rejects.toThrow("enough");
    rows.dispose();
  });

  it("are the host's when the device has been let go, until something is subtracted", async () => {
    const { backend, held } = makeDevice(() => {});
    const rows = new LearningRows(backend, vectors.slice(), dim, ahead);
    await rows.hold();
    await rows.subtract(stages[0]);
    rows.letGo();
    expect(held[0].disposed).toBe(true);
    expect(await rows.hold()).toBeNull();
    expect(await rows.gather(wanted)).toEqual(rowsOf(expected[0], wanted));
    await rows.subtract(stages[1]);
    expect(await rows.hold()).not.toBeNull();
    expect(held[1].array).toEqual(expected[1]);
    rows.dispose();
  });

  it("reject what is no loss, and residuals that overflow", async () => {
    const { backend } = makeDevice((what) => {
      if (what === "encode") throw new RvqError("CUDA", "by a test");
    });
    const rows = new LearningRows(backend, vectors.slice(), dim, ahead);
    await rows.hold();
    await expect(rows.subtract(stages[0])).rejects.toMatchObject({ code: "CUDA" });
    rows.dispose();

    const far = { ...stages[0], codebooks: [new Float32Array(dim).fill(-3e38)] };
    for (const own of [js, makeDevice(() => {}).backend]) {
      const overflowing = new LearningRows(own, new Float32Array(dim * 2).fill(3e38), dim, ahead);
      await overflowing.hold();
      await expect(overflowing.subtract(far)).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
        message: expect.stringContaining("1.7e38"),
      });
    }
  });
});
