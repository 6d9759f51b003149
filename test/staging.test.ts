// Copies of rows for the time of a call: from a backend's own memory, from other, and what becomes of it.

import { describe, expect, it, vi } from "vitest";
import { loadAddon } from "../lib/addon.js";
import type { CodeArray, StagingMemory } from "../lib/backend.js";
import type { Addon } from "../lib/cpu/addon.js";
import { StagedRows, stageRows } from "../lib/staging.js";
import { detach, resizable } from "./lost-memory.js";

const addon = loadAddon().addon as Addon | null;

/** Lends `rooms` rooms of 1 KiB, and knows which are out. */
class FakeMemory implements StagingMemory {
  readonly idle: ArrayBuffer[];
  copies = 0;

  constructor(rooms: number) {
    this.idle = Array.from({ length: rooms }, () => new ArrayBuffer(1024));
  }

  take(bytes: number): ArrayBuffer | null {
    return bytes > 1024 ? null : (this.idle.pop() ?? null);
  }

  giveBack(room: ArrayBuffer): void {
    expect(this.idle).not.toContain(room);
    this.idle.push(room);
  }

  copy<Elements extends Float32Array | CodeArray>(source: Elements, target: Elements): void {
    this.copies++;
    target.set(source);
  }
}

describe("staged rows", () => {
  it("are copies in the backend's memory while it has some, and else in other memory that is used again", () => {
    const elements = Array.from({ length: 10 * 3 }, (_, i) => i);
    for (const matrix of [Float32Array.from(elements), Uint16Array.from(elements), Uint32Array.from(elements)]) {
      const memory = new FakeMemory(1);
      const staging = new StagedRows<Float32Array | CodeArray>("rows", matrix, 3, memory);
      const first = staging.copy(2, 4);
      const second = staging.copy(6, 4);
      expect(first).toBeInstanceOf(matrix.constructor);
      expect([...first]).toEqual([...matrix.subarray(6, 18)]);
      expect([...second]).toEqual([...matrix.subarray(18, 30)]);
      expect(first.buffer.byteLength).toBe(1024);
      expect(second.buffer.byteLength).toBe(12 * matrix.BYTES_PER_ELEMENT);
      expect(memory.copies).toBe(2);
      staging.release(second);
      expect(staging.copy(0, 1).buffer).toBe(second.buffer);
      staging.release(first);
      expect(memory.idle).toEqual([first.buffer]);
    }
  });

  it("are put where they belong and nowhere else, without a backend's memory too", () => {
    for (const memory of [undefined, new FakeMemory(1), new FakeMemory(0)]) {
      const rooms = memory?.idle.length;
      const matrix = new Float32Array(5 * 2).fill(7);
      const staging = new StagedRows("into", matrix, 2, memory);
      const staged = staging.take(3);
      staged.set([1, 2, 3, 4, 5, 6]);
      staging.put(staged, 1, 2);
      expect([...matrix]).toEqual([7, 7, 1, 2, 3, 4, 7, 7, 7, 7]);
      expect(memory?.idle.length).toBe(rooms);
    }
  });

  it("refuse a matrix that was detached or shrank, and give back what failed chunks have left", () => {
    const memory = new FakeMemory(3);
    const matrix = new Float32Array(8);
    const staging = new StagedRows("vectors", matrix, 2, memory);
    const [left, put] = [staging.copy(0, 2), staging.take(2)];
    detach(matrix);
    const refusal = /^vectors: expected an array left alone during the call, got .*detached or resized/;
    expect(() => staging.copy(2, 2)).toThrow(refusal);
    expect(() => staging.put(put, 2, 2)).toThrow(refusal);
    expect(left.length).toBe(4);
    expect(memory.idle).toHaveLength(1);
    staging.close();
    staging.close();
    expect(memory.idle).toHaveLength(3);
  });

  it("refuse a detached matrix also in compiled code that has seen resizable memory", () => {
    const codes: unknown[] = [];
    for (let round = 0; round < 4; round++) {
      for (const buffer of [resizable(4000), new ArrayBuffer(4000)]) {
        const matrix = new Float32Array(buffer);
        for (let i = 0; i < 20_000; i++) stageRows("vectors", matrix, i % 50, 1, 16);
        detach(matrix);
        try {
          stageRows("vectors", matrix, 3, 1, 16);
        } catch (error) {
          codes.push((error as { code?: string }).code);
        }
      }
    }
    expect(codes).toEqual(new Array(8).fill("INVALID_ARGUMENT"));
  });
});

describe("the cuda backend's staging memory", () => {
  /** A fresh copy of the module, whose rooms no other test has seen. */
  async function open(outcome: "rooms" | "none" | "failure", ofDevice1 = outcome) {
    vi.resetModules();
    const { CudaStaging, leastRoomBytes, roomBytes } = await import("../lib/cuda/staging.js");
    let asked = 0;
    const fake = {
      cudaStagingRoom: async ({ bytes, device }: { readonly bytes: number; readonly device: number }) => {
        asked++;
        const here = device === 1 ? ofDevice1 : outcome;
        if (here === "failure") throw new Error("no memory");
        return here === "none" ? null : new ArrayBuffer(bytes);
      },
      copyElements: () => {},
    };
    const make = (device = 0) => new CudaStaging(fake, device, 2);
    return { make, asked: () => asked, leastRoomBytes, roomBytes };
  }
  const settled = () => new Promise((resolve) => setImmediate(resolve));

  it("has nothing at first and rooms for all of the thread's calls then, up to a limit", async () => {
    const { make, asked, roomBytes } = await open("rooms");
    const [one, other] = [make(), make()];
    // No more are being made at a time than a call has chunks under way.
    for (let i = 0; i < 9; i++) expect(one.take(roomBytes)).toBeNull();
    await settled();
    expect(asked()).toBe(3);
    const rooms = [other.take(roomBytes), other.take(roomBytes), other.take(roomBytes)];
    expect(new Set(rooms.map((room) => room?.byteLength))).toEqual(new Set([roomBytes]));
    for (let i = 0; i < 30; i++) {
      one.take(roomBytes);
      await settled();
    }
    expect(asked()).toBe(8);
    for (const room of rooms) one.giveBack(room as ArrayBuffer);
    expect(rooms).toContain(other.take(roomBytes));
  });

  it("has rooms of its device alone, which another's failures do not limit", async () => {
    const { make, roomBytes } = await open("rooms", "failure");
    make(0).take(roomBytes);
    make(1).take(roomBytes);
    await settled();
    expect(make(1).take(roomBytes)).toBeNull();
    const room = make(0).take(roomBytes);
    expect(room?.byteLength).toBe(roomBytes);
    make(0).giveBack(room as ArrayBuffer);
    make(0).take(roomBytes);
    make(0).take(roomBytes);
    await settled();
    expect(make(0).take(roomBytes)?.byteLength).toBe(roomBytes);
    expect(make(2).take(roomBytes)).toBeNull();
  });

  it("has none for what is too small or too large for a room", async () => {
    const { make, asked, leastRoomBytes, roomBytes } = await open("rooms");
    expect(make().take(leastRoomBytes - 1)).toBeNull();
    expect(make().take(roomBytes + 1)).toBeNull();
    await settled();
    expect(asked()).toBe(0);
    make().take(leastRoomBytes);
    await settled();
    expect(make().take(leastRoomBytes)?.byteLength).toBe(roomBytes);
  });

  it("asks no more once it was refused a room", async () => {
    for (const outcome of ["none", "failure"] as const) {
      const { make, asked, roomBytes } = await open(outcome);
      for (let i = 0; i < 5; i++) {
        expect(make().take(roomBytes)).toBeNull();
        await settled();
      }
      expect(asked(), outcome).toBe(1);
    }
  });
});

describe.skipIf(addon?.copyElements === undefined)("copyElements", () => {
  const copyElements: Addon["copyElements"] = (request) => (addon as Addon).copyElements(request);

  it("copies every element of any size from and to any place, by any number of threads", () => {
    const block = 2 ** 18;
    for (const bytes of [0, 4, 60, 64, 2 ** 20 - 4, 2 ** 20, 2 ** 20 + 4, 5 * block + 124, 3 * 2 ** 20 + 68]) {
      const length = bytes / 4;
      for (const [from, to] of [
        [0, 0],
        [1, 0],
        [3, 5],
        [16, 15],
      ]) {
        const source = Float32Array.from({ length: length + from }, (_, i) => i + 1).subarray(from);
        for (const threads of [1, 2, 5]) {
          const memory = new Float32Array(length + to + 3).fill(-1);
          copyElements({ source, target: memory.subarray(to, to + length), threads });
          const expected = Buffer.concat([
            Buffer.from(new Float32Array(to).fill(-1).buffer),
            Buffer.from(source.buffer, source.byteOffset, bytes),
            Buffer.from(new Float32Array(3).fill(-1).buffer),
          ]);
          const same = Buffer.compare(Buffer.from(memory.buffer), expected) === 0;
          expect(same, `${bytes} bytes from ${from} to ${to}, ${threads} threads`).toBe(true);
        }
      }
    }
    const odd = Uint16Array.from({ length: 2 ** 20 + 1 }, (_, i) => i);
    const target = new Uint16Array(2 ** 20);
    copyElements({ source: odd.subarray(1), target, threads: 3 });
    expect(Buffer.compare(Buffer.from(target.buffer), Buffer.from(odd.buffer, 2))).toBe(0);
  });

  it("refuses what does not fit, and a source that a getter of the request detaches", () => {
    const source = new Float32Array(8);
    expect(() => copyElements({ source, target: new Float32Array(7), threads: 1 })).toThrow(TypeError);
    expect(() => copyElements({ source, target: new Float64Array(4) as never, threads: 1 })).toThrow(TypeError);
    expect(() => copyElements({ source, target: source.slice(), threads: 0 })).toThrow(TypeError);
    const target = new Float32Array(8);
    const sly = {
      source,
      threads: 1,
      get target() {
        detach(source);
        return target;
      },
    };
    expect(() => copyElements(sly)).toThrow("target: expected as many bytes as source");
  });
});
