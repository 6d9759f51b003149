// Calls from arrays of the host and to them, beside what limits them: the copy into pinned memory, and the bus.

import { loadAddon } from "../../lib/addon.js";
import type { Addon } from "../../lib/cpu/addon.js";
import type { CudaAddon } from "../../lib/cuda/addon.js";
import { roomBytes } from "../../lib/cuda/staging.js";
import type { ResidualQuantizer } from "../../lib/index.js";
import { medianMs } from "../interleave.js";

/** As calls have under way. */
const roomsInTurn = 3;
/** Enough copies that their start and end are a small part. */
const copiesOfATurn = 24;

/** GB/s of copies between pinned memory and the device, each way alone. */
export interface Bus {
  readonly toDevice: number;
  readonly toHost: number;
}

/** `bytes` that cross the bus and the GB/s of the bus that way. */
export type AddCall = (what: string, ms: number, bytes: number, limit: number, remark?: string) => void;

/** Of copies as large as those of the calls, as many at a time. */
export async function measureBus(): Promise<Bus> {
  const native = loadAddon().addon as CudaAddon;
  const rooms = await pinnedRooms();
  const memory = new native.CudaMemory({ device: 0, bytes: roomsInTurn * roomBytes });
  const rate = async (copy: (room: Float32Array, offset: number) => Promise<void>) => {
    const ms = await medianMs(async () => {
      const underWay: Promise<void>[] = [];
      for (let i = 0; i < copiesOfATurn; i++) {
        if (underWay.length === roomsInTurn) await underWay.shift();
        underWay.push(copy(rooms[i % roomsInTurn], (i % roomsInTurn) * roomBytes));
      }
      await Promise.all(underWay);
    });
    return (copiesOfATurn * roomBytes) / ms / 1e6;
  };
  const bus = {
    toDevice: await rate((source, offset) => memory.upload({ source, offset })),
    toHost: await rate((target, offset) => memory.download({ target, offset })),
  };
  memory.dispose();
  return bus;
}

/** GB/s of the copies of `source`, chunk by chunk, into memory that is used again: pinned where there is a device. */
export async function measureStaging(source: Float32Array, threads: number): Promise<number> {
  const { copyElements } = loadAddon().addon as Addon;
  const rooms = await pinnedRooms();
  const ms = await medianMs(async () => {
    for (let start = 0, i = 0; start < source.length; start += rooms[0].length, i++) {
      const some = source.subarray(start, start + rooms[0].length);
      copyElements({ source: some, target: rooms[i % roomsInTurn].subarray(0, some.length), threads });
    }
  });
  return source.byteLength / ms / 1e6;
}

/** encode, decode and uploads of vectors that lie in the host's memory. */
export async function measureHostToHost(rq: ResidualQuantizer, vectors: Float32Array, bus: Bus, add: AddCall) {
  const { dim, stages } = rq;
  const what = `${vectors.length / dim} vectors, ${stages} stages`;
  const bytes = vectors.byteLength;
  const codes = await rq.encode(vectors);
  const into = new Float32Array(vectors.length);
  add(`encode, ${what}, host to host`, await medianMs(() => rq.encode(vectors)), bytes, bus.toDevice);
  add(`encodeSync, ${what}, host to host`, await medianMs(async () => rq.encodeSync(vectors)), bytes, bus.toDevice);
  add(`decode, ${what}, host to host`, await medianMs(() => rq.decode(codes, { into })), bytes, bus.toHost);
  const fresh = await medianMs(() => rq.decode(codes));
  add(`decode, ${what}, host to new memory`, fresh, bytes, bus.toHost, "the system clears every page first");
  const upload = await medianMs(async () => (await rq.device.upload(vectors)).dispose());
  add(`upload, ${vectors.length / dim} vectors`, upload, bytes, bus.toDevice, "with the allocation");
}

/** Pinned where the addon has CUDA and a device. */
async function pinnedRooms(): Promise<Float32Array[]> {
  const { cudaInfo, cudaStagingRoom } = loadAddon().addon as CudaAddon;
  const pinned = cudaStagingRoom !== undefined && cudaInfo().reason === null;
  const rooms: Float32Array[] = [];
  for (let i = 0; i < roomsInTurn; i++) {
    const room = pinned ? await cudaStagingRoom({ device: 0, bytes: roomBytes }) : null;
    rooms.push(new Float32Array(room ?? new ArrayBuffer(roomBytes)).fill(1));
  }
  return rooms;
}
