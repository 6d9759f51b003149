// The batches of `rvq train --learn ema`: which vectors each step gets follows from the seed and the number of the step alone.

import { Random } from "../random.js";

export interface BatchOptions {
  readonly dim: number;
  /** Vectors a batch at most. */
  readonly batch: number;
  readonly seed: number;
}

/** Goes over vectors[N][dim] in epochs, each in an order of its own and cut into batches of nearly the same size. */
export class TrainingBatches {
  readonly perEpoch: number;
  private readonly count: number;
  /** Which epoch `order` is of. */
  private epoch = -1;
  private order = new Uint32Array(0);

  constructor(
    private readonly vectors: Float32Array,
    private readonly options: BatchOptions,
  ) {
    this.count = vectors.length / options.dim;
    this.perEpoch = Math.ceil(this.count / options.batch);
  }

  /** A copy of the vectors of this step, from 0. */
  at(step: number): Float32Array {
    const { vectors, perEpoch, count, options } = this;
    const { dim } = options;
    const order = this.orderOf(Math.floor(step / perEpoch));
    const first = Math.floor((count * (step % perEpoch)) / perEpoch);
    const end = Math.floor((count * ((step % perEpoch) + 1)) / perEpoch);
    const batch = new Float32Array((end - first) * dim);
    for (let n = first; n < end; n++) {
      batch.set(vectors.subarray(order[n] * dim, (order[n] + 1) * dim), (n - first) * dim);
    }
    return batch;
  }

  private orderOf(epoch: number): Uint32Array {
    if (epoch === this.epoch) return this.order;
    const random = new Random(epochSeed(this.options.seed, epoch));
    const order = new Uint32Array(this.count).map((_, n) => n);
    for (let n = order.length - 1; n > 0; n--) {
      const other = random.below(n + 1);
      const row = order[n];
      order[n] = order[other];
      order[other] = row;
    }
    this.epoch = epoch;
    this.order = order;
    return order;
  }
}

/** The first draw of the seed's stream seeds the trainer's own choices; the later ones are one for each epoch. */
function epochSeed(seed: number, epoch: number): number {
  const random = new Random(seed);
  for (let skipped = 0; skipped <= epoch; skipped++) random.below(2 ** 53);
  return random.below(2 ** 53);
}
