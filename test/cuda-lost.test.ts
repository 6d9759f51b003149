// A device that is lost in the middle of everything: typed errors, and auto goes on without it. A file of its own, since a
// device that a process has lost stays lost to it.

import { describe, expect, it } from "vitest";
import { loadAddon } from "../lib/addon.js";
import type { CudaAddon } from "../lib/cuda/addon.js";
import { openBackend, status } from "../lib/open-backend.js";
import { ResidualQuantizer } from "../lib/residual-quantizer.js";

const native = loadAddon().addon as CudaAddon | null;
const available = status().backends.find(({ name }) => name === "cuda")?.available === true;

describe.skipIf(!available || native?.cudaTestLose === undefined)("a lost device", () => {
  it("is an error of calls by name, and no error with auto", async () => {
    const dim = 8;
    const codebooks = [new Float32Array(64 * dim).map((_, i) => Math.sin(i))];
    const vectors = new Float32Array(20_000 * dim).map((_, i) => Math.cos(i));
    const [byName, auto, js] = (["cuda", "auto", "js"] as const).map((backend) =>
      ResidualQuantizer.fromCodebooks(codebooks, { dim, backend }),
    );
    const expected = await js.encode(vectors);
    expect(await byName.encode(vectors)).toEqual(expected);
    expect(await auto.encode(vectors)).toEqual(expected);
    expect(auto.backend).toBe("cuda");
    const resident = await byName.device.upload(vectors);

    native?.cudaTestLose?.({ device: 0 });
    const lost = { code: "DEVICE_LOST", message: expect.stringMatching(/lost .*start the process again/) };
    await expect(byName.encode(vectors)).rejects.toMatchObject(lost);
    expect(() => byName.encodeSync(vectors)).toThrow(expect.objectContaining(lost));
    await expect(resident.download()).rejects.toMatchObject({ code: "DEVICE_LOST" });
    expect(await auto.encode(vectors)).toEqual(expected);
    expect(() => openBackend("cuda", undefined)).toThrow(expect.objectContaining({ code: "BACKEND_UNAVAILABLE" }));
    expect(openBackend("auto", undefined).name).toBe("cpu");
    expect(status().selected).toBe("cpu");
    byName.dispose();
    resident.dispose();
  });
});
