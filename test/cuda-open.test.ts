// The cuda backend's choices, on any machine: which device it opens, what goes to the processor, and what it says.

import { describe, expect, it } from "vitest";
import type { CodebookSpec, PreparedCodebooks } from "../lib/backend.js";
import type { CudaInfo } from "../lib/cuda/addon.js";
import { openCuda } from "../lib/cuda/backend.js";
import { smallestDeviceWork } from "../lib/cuda/device-work.js";
import { RvqError } from "../lib/errors.js";
import { openJs } from "../lib/js/backend.js";
import { openBackend } from "../lib/open-backend.js";
import { ResidualQuantizer } from "../lib/residual-quantizer.js";

const speeds = { multiprocessors: 20, clockMhz: 1700, memoryGbps: 300 };
const old = { name: "GTX 1080", computeCapability: "6.1", memoryBytes: 8 * 2 ** 30, ...speeds };
const modern = { name: "RTX 3090", computeCapability: "8.6", memoryBytes: 24 * 2 ** 30, ...speeds };

/** An addon with these devices, which notes what it is asked for. */
class FakeAddon {
  readonly log: string[] = [];
  lost = false;
  /** The code of the error with which codebooks are refused. */
  refusal: string | null = null;
  failure: string | null = null;

  constructor(private readonly info: Partial<CudaInfo>) {}

  exports(): object {
    const { log } = this;
    const addon = this;
    const later = async (what: string) => {
      if (addon.failure !== null) throw coded(addon.failure);
      log.push(what);
      return null;
    };
    class CudaCodebooks {
      constructor({ device }: { device: number }) {
        if (addon.refusal !== null) throw coded(addon.refusal);
        log.push(`prepare on ${device}`);
      }
      encode = () => later("encode");
      decode = () => later("decode");
      encodeSync = () => {
        log.push("encodeSync");
        return null;
      };
      dispose = () => log.push("dispose");
    }
    return {
      cudaInfo: () => ({ devices: [], driverVersion: null, runtimeVersion: null, reason: null, ...this.info }),
      cudaOpen: ({ device }: { device: number }) => {
        if (this.lost) throw coded("DEVICE_LOST");
        log.push(`open ${device}`);
      },
      cudaLost: () => this.lost,
      CudaCodebooks,
      CudaMemory: class {},
      cudaAccumulate: () => later("accumulate"),
      cudaMagnitudesResident: () => later("magnitudes"),
      cudaDrawResident: () => later("draw"),
      cudaGatherResident: () => later("gather"),
      cudaLowerDistances: () => later("lowerDistances"),
      cudaStagingRoom: () => later("room"),
      copyElements: () => log.push("copy"),
      cpuInfo: () => ({ processors: 2 }),
    };
  }

  open(options: { device?: number } = {}, auto = false) {
    const openCpuInstead = () => {
      this.log.push("cpu");
      return openJs();
    };
    return openCuda(this.exports(), "rvq.node", options, { auto, openCpu: openCpuInstead });
  }
}

function coded(code: string): Error {
  return Object.assign(new Error(`failed with ${code}`), { code });
}

const spec: CodebookSpec = { dim: 2, metric: "l2", weights: null, codebooks: [Float32Array.of(0, 0, 1, 1)] };

function encode(prepared: PreparedCodebooks, count: number, beam?: number) {
  const request = { vectors: new Float32Array(2 * count), count, stages: 1, codes: new Uint16Array(count) };
  return prepared.encode({ ...request, beam });
}

const large = smallestDeviceWork.encode;

describe("openCuda", () => {
  it("takes the first device that can run, or the one that is asked for", () => {
    const addon = new FakeAddon({ devices: [old, modern, modern] });
    expect(addon.open().description).toBe("RTX 3090, sm_86, 24.0 GiB, device 1, rvq.node");
    expect(addon.open({ device: 2 }).description).toContain("device 2");
    expect(addon.log).toEqual(["open 1", "open 2"]);
  });

  it("lists the devices where the one that is asked for does not exist", () => {
    const open = () => new FakeAddon({ devices: [old, modern] }).open({ device: 2 });
    expect(open).toThrow("device: expected one that exists: 0 (GTX 1080), 1 (RTX 3090), got 2");
    expect(open).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
  });

  it("says why no device can run", () => {
    const reason = "no NVIDIA driver found";
    expect(() => new FakeAddon({ reason }).open()).toThrow(reason);
    expect(() => new FakeAddon({ devices: [old] }).open()).toThrow(
      "GTX 1080 has compute capability 6.1; 7.5 or newer is needed",
    );
    const lost = new FakeAddon({ devices: [modern] });
    lost.lost = true;
    expect(() => lost.open()).toThrow("RTX 3090: failed with DEVICE_LOST");
    const stale = { cudaInfo: () => ({ devices: [modern], reason: null }) };
    expect(() => openCuda(stale, "rvq.node", {}, { auto: false, openCpu: () => openJs() })).toThrow(
      /rvq\.node lacks cudaOpen, .*; build it again with npm run build/,
    );
  });
});

describe("a step of learning", () => {
  it("is for a device by name, and where the choice is automatic if it is long and the device is not lost", () => {
    const addon = new FakeAddon({ devices: [modern] });
    const [byName, auto] = [addon.open(), addon.open({}, true)];
    const { step } = smallestDeviceWork;
    expect([byName.stepsOnDevice?.(0), byName.stepsOnDevice?.(step)]).toEqual([true, true]);
    expect([auto.stepsOnDevice?.(step - 1), auto.stepsOnDevice?.(step)]).toEqual([false, true]);
    addon.lost = true;
    expect([byName.stepsOnDevice?.(step), auto.stepsOnDevice?.(step)]).toEqual([true, false]);
    expect(openJs().stepsOnDevice).toBeUndefined();
  });
});

describe("prepared codebooks of the cuda backend", () => {
  it("are on the device at once, and all calls go there, where it was asked for by name", async () => {
    const addon = new FakeAddon({ devices: [modern] });
    const prepared = addon.open().prepare(spec);
    await encode(prepared, 1);
    await encode(prepared, large);
    prepared.dispose();
    expect(addon.log).toEqual(["open 0", "prepare on 0", "encode", "encode", "dispose"]);
  });

  it("are where a call is large enough for them, where the choice is automatic", async () => {
    const addon = new FakeAddon({ devices: [modern] });
    const prepared = addon.open({}, true).prepare(spec);
    expect(addon.log).toEqual(["open 0"]);
    await encode(prepared, 1);
    await encode(prepared, 2);
    expect(addon.log).toEqual(["open 0", "cpu"]);
    await encode(prepared, large);
    await encode(prepared, large);
    expect(addon.log).toEqual(["open 0", "cpu", "prepare on 0", "encode", "encode"]);
  });

  it("search with a beam on the processor", async () => {
    const addon = new FakeAddon({ devices: [modern] });
    const prepared = addon.open().prepare(spec);
    await encode(prepared, 1, 2);
    expect(addon.log).toEqual(["open 0", "prepare on 0", "cpu"]);
  });

  it("reject the call in which the device is lost, and go on on the processor where the choice is automatic", async () => {
    for (const auto of [true, false]) {
      const addon = new FakeAddon({ devices: [modern] });
      const prepared = addon.open({}, auto).prepare(spec);
      addon.failure = "DEVICE_LOST";
      const failed = encode(prepared, large);
      await expect(failed).rejects.toBeInstanceOf(RvqError);
      await expect(failed).rejects.toMatchObject({ code: "DEVICE_LOST", message: "failed with DEVICE_LOST" });
      addon.lost = true;
      const next = encode(prepared, large);
      if (auto) expect(await next).toBeNull();
      else await expect(next).rejects.toMatchObject({ code: "DEVICE_LOST" });
    }
  });

  it("go on on the processor where they do not fit on the device and the choice is automatic", async () => {
    const addon = new FakeAddon({ devices: [modern] });
    addon.refusal = "OUT_OF_MEMORY";
    expect(await encode(addon.open({}, true).prepare(spec), large)).toBeNull();
    expect(() => addon.open().prepare(spec)).toThrow(expect.objectContaining({ code: "OUT_OF_MEMORY" }));
    addon.refusal = "CUDA";
    await expect(encode(addon.open({}, true).prepare(spec), large)).rejects.toMatchObject({ code: "CUDA" });
  });

  it("throw after dispose", async () => {
    for (const auto of [true, false]) {
      const prepared = new FakeAddon({ devices: [modern] }).open({}, auto).prepare(spec);
      prepared.dispose();
      prepared.dispose();
      await expect(encode(prepared, 1, 2)).rejects.toMatchObject({ code: "DISPOSED" });
      await expect(encode(prepared, large)).rejects.toMatchObject({ code: "DISPOSED" });
    }
  });
});

describe("the option device", () => {
  it("is a number of a device", () => {
    for (const device of [-1, 0.5, "0", null, 2000]) {
      expect(() => openBackend("js", undefined, device)).toThrow("device: expected an integer from 0 to 1023");
    }
    const codebooks = [Float32Array.of(0, 1)];
    expect(() => ResidualQuantizer.fromCodebooks(codebooks, { dim: 1, device: -1 })).toThrow("device: expected");
  });

  it("means nothing to the other backends, and auto takes them where the device does not exist", () => {
    expect(openBackend("js", undefined, 7).name).toBe("js");
    expect(["cpu", "js"]).toContain(openBackend("auto", undefined, 1000).name);
    expect(() => openBackend("cuda", undefined, 1000)).toThrow(
      expect.objectContaining({ code: "BACKEND_UNAVAILABLE" }),
    );
  });
});

it("device arrays are refused by other backends, with what to do", () => {
  const rq = ResidualQuantizer.fromCodebooks([Float32Array.of(0, 1)], { dim: 1, backend: "js" });
  expect(() => rq.device).toThrow(/device: expected the backend "cuda", got "js" \(open it with/);
  expect(() => rq.device).toThrow(expect.objectContaining({ code: "BACKEND_UNAVAILABLE" }));
});
