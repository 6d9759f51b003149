// The k smallest of many keys, ties by the lower id: a binary heap whose root is the worst of those kept.

import { allocate } from "../check.js";
import { StepMeter, type Steps } from "../time-slice.js";

export class NearestHeap {
  /** Entry i is no better than its children 2i + 1 and 2i + 2. */
  private readonly keys: Float64Array;
  private readonly ids: Uint32Array;
  private size = 0;

  /** @param capacity k, at least 1 */
  constructor(private readonly capacity: number) {
    this.keys = allocate("the nearest of a query", capacity, (length) => new Float64Array(length));
    this.ids = allocate("the nearest of a query", capacity, (length) => new Uint32Array(length));
  }

  /** What a key must be below to be kept, given that every id offered is above those before. */
  get bound(): number {
    return this.size < this.capacity ? Infinity : this.keys[0];
  }

  /** Takes an entry that is below `bound`, in the place of the worst where the heap is full. */
  offer(key: number, id: number): void {
    if (this.size === this.capacity) {
      this.sink(key, id, this.size);
      return;
    }
    const { keys, ids } = this;
    let at = this.size++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isWorse(key, id, keys[parent], ids[parent])) break;
      keys[at] = keys[parent];
      ids[at] = ids[parent];
      at = parent;
    }
    keys[at] = key;
    ids[at] = id;
  }

  /** Empties the heap into keys[size] and ids[size], the best first. */
  *drain(keys: Float64Array, ids: Uint32Array): Steps<void> {
    const meter = new StepMeter();
    while (this.size > 0) {
      const last = --this.size;
      keys[last] = this.keys[0];
      ids[last] = this.ids[0];
      this.sink(this.keys[last], this.ids[last], last);
      if (meter.add(100)) yield;
    }
  }

  /** Puts an entry in the place of the root of the first `size` entries. */
  private sink(key: number, id: number, size: number): void {
    const { keys, ids } = this;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && isWorse(keys[child + 1], ids[child + 1], keys[child], ids[child])) child++;
      if (!isWorse(keys[child], ids[child], key, id)) break;
      keys[at] = keys[child];
      ids[at] = ids[child];
      at = child;
    }
    keys[at] = key;
    ids[at] = id;
  }
}

function isWorse(keyA: number, idA: number, keyB: number, idB: number): boolean {
  return keyA > keyB || (keyA === keyB && idA > idB);
}
