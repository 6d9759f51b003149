// Pinned memory for rows on their way to a device and back: the copy that is made of a caller's rows is made into it, and a device
// reads and writes it without another one (docs/gpu.md).

import type { CodeArray, StagingMemory } from "../backend.js";
import type { Addon } from "../cpu/addon.js";
import type { CudaAddon } from "./addon.js";

/** Of a room: the largest chunk of rows. */
export const roomBytes = 2 ** 24;
/** Fewer bytes are copied faster than a device is told of two places instead of one. */
export const leastRoomBytes = 2 ** 20;
/** Of a device and this JavaScript thread: two long calls at a time. The addon limits those of the process. */
const mostRooms = 8;
/** Rooms that are being pinned at a time: as many as one call has chunks under way. */
const mostInTheMaking = 3;

interface Rooms {
  readonly idle: ArrayBuffer[];
  /** There are, or are being made. */
  count: number;
  inTheMaking: number;
  /** Less than `mostRooms` where one could not be had. */
  most: number;
}

/**
 * The rooms of this JavaScript thread, kept for later calls: pinning one takes the system milliseconds. By the number of their device:
 * what becomes of it concerns them, and no other device.
 */
const roomsOfDevices = new Map<number, Rooms>();

function roomsOf(device: number): Rooms {
  const rooms = roomsOfDevices.get(device) ?? { idle: [], count: 0, inTheMaking: 0, most: mostRooms };
  roomsOfDevices.set(device, rooms);
  return rooms;
}

export class CudaStaging implements StagingMemory {
  private readonly rooms: Rooms;

  constructor(
    private readonly addon: Pick<CudaAddon, "cudaStagingRoom"> & Pick<Addon, "copyElements">,
    private readonly device: number,
    private readonly threads: number,
  ) {
    this.rooms = roomsOf(device);
  }

  /** Null where there is no room yet or any more: nobody waits for one. */
  take(bytes: number): ArrayBuffer | null {
    if (bytes < leastRoomBytes || bytes > roomBytes) return null;
    const room = this.rooms.idle.pop();
    if (room === undefined) this.makeRoom();
    return room ?? null;
  }

  giveBack(room: ArrayBuffer): void {
    this.rooms.idle.push(room);
  }

  copy<Elements extends Float32Array | CodeArray>(source: Elements, target: Elements): void {
    this.addon.copyElements({ source, target, threads: this.threads });
  }

  private makeRoom(): void {
    const { rooms } = this;
    if (rooms.count >= rooms.most || rooms.inTheMaking >= mostInTheMaking) return;
    rooms.count++;
    rooms.inTheMaking++;
    const made = (room: ArrayBuffer | null) => {
      rooms.inTheMaking--;
      if (room !== null) {
        rooms.idle.push(room);
        return;
      }
      rooms.count--;
      rooms.most = rooms.count;
    };
    // A lost device, or no memory that can be pinned: calls do without, and say what is wrong themselves.
    this.addon.cudaStagingRoom({ device: this.device, bytes: roomBytes }).then(made, () => made(null));
  }
}
