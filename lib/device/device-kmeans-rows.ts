// The rows of a k-means training on a device: vectors, codes, distances and sums stay there, the host gets counts and an error.

import type { Backend, PreparedCodebooks } from "../backend.js";
import { bytesOfCode, hasWideCodes, newCodeArray } from "../code-array.js";
import { isLoss } from "../errors.js";
import type { KmeansIteration, KmeansOutcome, KmeansRows, KmeansRule } from "../kmeans-rows.js";
import type { DeviceMemory, HeldRows, ResidentCodebooks } from "../resident.js";
import { gridExponentsOf } from "../statistics.js";
import { residentOf, searchesHeld, searchHeld } from "./held-search.js";

interface Memory {
  /** codes[N] of now and of the iteration before, of 16 bits or 32. */
  codes: DeviceMemory;
  previousCodes: DeviceMemory;
  /** distances[N] of float64. */
  readonly distances: DeviceMemory;
  readonly plainDistances: DeviceMemory | undefined;
  /** counts[K] and sums[K][D], integers of 64 bits. */
  readonly counts: DeviceMemory;
  readonly sums: DeviceMemory;
}

export class DeviceKmeansRows implements KmeansRows {
  private iterations = 0;

  private constructor(
    private readonly backend: Backend,
    private readonly vectors: DeviceMemory,
    private readonly count: number,
    private readonly prepared: PreparedCodebooks,
    private readonly resident: ResidentCodebooks,
    /** Of the host, as they were when they were last asked for. */
    private readonly codewords: Float32Array,
    private readonly rule: KmeansRule,
    private readonly memory: Memory,
    private readonly gridExponents: Int32Array,
  ) {}

  /**
   * Of count rows that a device holds and a codebook[K][D], which it changes; null where that is not to be on a device, or the device
   * has no room for it.
   */
  static async open(
    backend: Backend,
    held: HeldRows,
    count: number,
    codebook: Float32Array,
    rule: KmeansRule,
  ): Promise<DeviceKmeansRows | null> {
    const { dim, metric, weights, room, workers } = rule;
    if (workers !== undefined || room < count || !searchesHeld(backend, count, codebook.length)) return null;
    const prepared = backend.prepare({ dim, metric, weights, codebooks: [codebook] });
    const made: DeviceMemory[] = [];
    try {
      const resident = residentOf(backend, prepared);
      const allocate = (bytes: number) => {
        const memory = resident.allocate(bytes);
        made.push(memory);
        return memory;
      };
      const numCodewords = codebook.length / dim;
      const codeBytes = bytesOfCode([numCodewords]);
      const memory = {
        codes: allocate(count * codeBytes),
        previousCodes: allocate(count * codeBytes),
        distances: allocate(count * 8),
        plainDistances: weights === null ? undefined : allocate(count * 8),
        counts: allocate(numCodewords * 8),
        sums: allocate(codebook.length * 8),
      };
      const magnitudes = new Float32Array(dim);
      await resident.magnitudes({ vectors: held.memory, count, dim, magnitudes });
      const grids = gridExponentsOf(magnitudes, count);
      // They are there already, unless the choice of a backend is automatic: here it turns out whether there is room.
      await resident.loadCodewords({ stage: 0, source: codebook });
      return new DeviceKmeansRows(backend, held.memory, count, prepared, resident, codebook, rule, memory, grids);
    } catch (error) {
      for (const memory of made) memory.dispose();
      prepared.dispose();
      if (isLoss(error)) return null;
      throw error;
    }
  }

  async iterate(signal: AbortSignal | undefined): Promise<KmeansIteration> {
    const { backend, vectors, count, resident, memory, gridExponents } = this;
    const { dim, shrinkage } = this.rule;
    const numCodewords = this.codewords.length / dim;
    const shape = { vectors, wide: hasWideCodes([numCodewords]) };
    const { codes, previousCodes } = memory;
    memory.codes = previousCodes;
    memory.previousCodes = codes;

    await searchHeld(backend, resident, { vectors, count, dim, numCodewords, codes: memory.codes }, signal);
    const countsAfter = new Float64Array(numCodewords);
    const totals = new Float64Array(2);
    const later = this.iterations++ > 0;
    await resident.means({
      ...memory,
      ...shape,
      ...{ count, codeStages: 1, stage: 0, gridExponents, shrinkage, countsAfter, totals },
      previousCodes: later ? memory.previousCodes : undefined,
    });
    const [error, moved] = totals;
    return { error, counts: countsAfter, moved: moved > 0 };
  }

  async codebook(): Promise<Float32Array> {
    await this.resident.readCodewords({ stage: 0, target: this.codewords });
    return this.codewords;
  }

  async outcome(): Promise<KmeansOutcome> {
    const { count, memory } = this;
    const codes = newCodeArray(count, [this.codewords.length / this.rule.dim]);
    const distances = new Float64Array(count);
    const [codebook] = await Promise.all([
      this.codebook(),
      memory.codes.download({ target: codes, offset: 0 }),
      memory.distances.download({ target: distances, offset: 0 }),
    ]);
    return { codebook, codes, distances };
  }

  restart(codebook: Float32Array): Promise<void> {
    return this.resident.loadCodewords({ stage: 0, source: codebook });
  }

  dispose(): void {
    for (const memory of Object.values(this.memory)) memory?.dispose();
    this.prepared.dispose();
  }
}
