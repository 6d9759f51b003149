// A device that is lost in the middle of everything: typed errors, and auto goes on without it. A file of its own, since a
// device that a process has lost stays lost to it.

import { describe, expect, it } from "vitest";
import { loadAddon } from "../lib/addon.js";
import { CodebookTrainer } from "../lib/codebook-trainer.js";
import type { CudaAddon } from "../lib/cuda/addon.js";
import { smallestDeviceWork } from "../lib/cuda/device-work.js";
import { RvqError } from "../lib/errors.js";
import { openBackend, status } from "../lib/open-backend.js";
import type { ResidentCodebooks } from "../lib/resident.js";
import { ResidualQuantizer } from "../lib/residual-quantizer.js";

const native = loadAddon().addon as CudaAddon | null;
const available = status().backends.find(({ name }) => name === "cuda")?.available === true;

describe.skipIf(!available || native?.cudaTestLose === undefined)("a lost device", () => {
  const dim = 8;
  const codebooks = [new Float32Array(64 * dim).map((_, i) => Math.sin(i))];
  const vectors = new Float32Array(20_000 * dim).map((_, i) => Math.cos(i));

  it("is an error of calls by name, and no error with auto, also in the middle of a step of a trainer", async () => {
    const [byName, auto, js] = (["cuda", "auto", "js"] as const).map((backend) =>
      ResidualQuantizer.fromCodebooks(codebooks, { dim, backend }),
    );
    const expected = await js.encode(vectors);
    expect(await byName.encode(vectors)).toEqual(expected);
    expect(await auto.encode(vectors)).toEqual(expected);
    expect(auto.backend).toBe("cuda");
    const resident = await byName.device.upload(vectors);

    await loseInSteps();
    const lost = { code: "DEVICE_LOST", message: expect.stringMatching(/lost .*start the process again/) };
    await expect(byName.encode(vectors)).rejects.toMatchObject(lost);
    expect(() => byName.encodeSync(vectors)).toThrow(expect.objectContaining(lost));
    const error = await resident.download().catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(RvqError);
    expect(error).toMatchObject({ code: "DEVICE_LOST" });
    expect(await auto.encode(vectors)).toEqual(expected);
    expect(() => openBackend("cuda", undefined)).toThrow(expect.objectContaining({ code: "BACKEND_UNAVAILABLE" }));
    expect(openBackend("auto", undefined).name).toBe("cpu");
    expect(status().selected).toBe("cpu");
    byName.dispose();
    resident.dispose();
  });

  /**
   * Trainers step side by side, on arrays of the host with auto and by name, and on the device; it is lost in the midst of the first's
   * step, which has one row more.
   */
  async function loseInSteps() {
    const wide = 32;
    const size = 64;
    const count = Math.ceil(smallestDeviceWork.step / (2 * size * wide));
    const stages = [1, 2].map((stage) => Float32Array.from({ length: size * wide }, (_, i) => Math.sin(stage * i)));
    const [batch, more] = [count, count + 1].map((rows) =>
      Float32Array.from({ length: rows * wide }, (_, i) => Math.cos(i)),
    );
    const open = (backend: "cuda" | "auto" | "cpu") => CodebookTrainer.fromCodebooks(stages, { dim: wide, backend });
    const expected = await open("cpu").step(more);

    const { CudaCodebooks } = native as CudaAddon;
    const learnResident: ResidentCodebooks["learn"] = CudaCodebooks.prototype.learnResident;
    let learnt = 0;
    const learn: ResidentCodebooks["learn"] = function (this: unknown, request) {
      if (request.count === count + 1 && ++learnt === 2) native?.cudaTestLose?.({ device: 0 });
      return learnResident.call(this, request);
    };
    const Losing = class extends CudaCodebooks {};
    Object.defineProperty(Losing.prototype, "learnResident", { value: learn });
    Object.defineProperty(native, "CudaCodebooks", { value: Losing, configurable: true });
    const trainers = [open("auto"), open("cuda"), open("cuda")];
    const before = trainers[1].toBytes();
    const resident = await trainers[2].quantizer().device.upload(batch);
    const [auto, ...others] = await Promise.allSettled(
      [more, batch, resident].map((vectors, place) => trainers[place].step(vectors)),
    );
    expect(learnt).toBe(2);
    expect(auto).toEqual({ status: "fulfilled", value: expected });
    // The others have failed, unless they were done with the device before.
    for (const [place, outcome] of others.entries()) {
      if (outcome.status === "fulfilled") continue;
      expect(outcome.reason).toBeInstanceOf(RvqError);
      expect(outcome.reason).toMatchObject({ code: "DEVICE_LOST" });
      expect(trainers[1 + place].toBytes()).toEqual(before);
    }
    await expect(trainers[1].step(batch)).rejects.toMatchObject({ code: "DEVICE_LOST" });
    await expect(trainers[0].step(resident)).rejects.toMatchObject({ code: "DEVICE_LOST" });
    expect((await trainers[0].step(batch)).step).toBe(2);
  }
});
