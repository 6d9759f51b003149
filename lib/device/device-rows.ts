// The rows of a step of learning on a device. Codes, distances, counts and sums come to the host; vectors and residuals stay there.

import type {
  Backend,
  CodeArray,
  CodebookSpec,
  DeviceMemory,
  PreparedCodebooks,
  ResidentCodebooks,
} from "../backend.js";
import { newCodeArray } from "../code-array.js";
import { emptySums, type StageSums, type VectorRange } from "../stage-sums.js";
import type { PickedRows, StepRows, StepStage, StepWalk } from "../step-rows.js";
import { inSlices } from "../time-slice.js";
import { noDevice } from "./device-quantizer.js";
import type { BroughtRows, RowSource } from "./row-source.js";

export class DeviceRows implements StepRows {
  readonly rows: Uint32Array | null;
  readonly weights = null;

  private constructor(
    private readonly spec: CodebookSpec,
    private readonly prepared: PreparedCodebooks,
    private readonly resident: ResidentCodebooks,
    private readonly source: RowSource,
    private readonly brought: BroughtRows,
    readonly range: VectorRange,
  ) {
    this.rows = source.rows;
  }

  /** Brings the rows to the device, and the codebooks that they will be encoded by. */
  static async open(
    backend: Backend,
    spec: CodebookSpec,
    source: RowSource,
    signal: AbortSignal | undefined,
  ): Promise<DeviceRows> {
    const prepared = backend.prepare(spec);
    let brought: BroughtRows | null = null;
    try {
      const resident = prepared.resident?.();
      if (resident === undefined) throw noDevice("batch", backend);
      brought = await source.bring(resident, signal);
      const range = source.range ?? (await rangeOf(source, spec.dim, resident, brought.memory));
      return new DeviceRows(spec, prepared, resident, source, brought, range);
    } catch (error) {
      if (brought?.own) brought.memory.dispose();
      prepared.dispose();
      throw error;
    }
  }

  dispose(): void {
    if (this.brought.own) this.brought.memory.dispose();
    this.prepared.dispose();
  }

  async walk(step: StepWalk, visit: (stage: StepStage) => Promise<void>): Promise<void> {
    const { resident, spec, source } = this;
    const { memory, own } = this.brought;
    const numStages = spec.codebooks.length;
    const wide = step.codes instanceof Uint32Array;
    const codes = resident.allocate(source.count * numStages * step.codes.BYTES_PER_ELEMENT);
    let residuals: DeviceMemory | null = null;
    let ahead: Promise<StepStage> | null = null;
    try {
      if (own || numStages === 1) residuals = memory;
      else residuals = resident.allocate(source.count * spec.dim * Float32Array.BYTES_PER_ELEMENT);
      const request = { vectors: memory, count: source.count, stages: numStages, codes, wide };
      const { bad } = await resident.encode(request);
      if (bad !== null) throw source.refuse(bad);
      step.signal?.throwIfAborted();
      const found = await this.bringCodes(codes, step.codes);

      const walked = { step, found, codes, wide, residuals };
      ahead = this.stageAt(0, walked, null);
      for (let stage = 0; stage < numStages; stage++) {
        const current: StepStage = await ahead;
        // The device has the next stage while the host works on this one.
        if (stage + 1 < numStages) ahead = this.stageAt(stage + 1, walked, current);
        ahead.catch(() => {});
        await visit(current);
        step.signal?.throwIfAborted();
      }
    } finally {
      await ahead?.catch(() => {});
      codes.dispose();
      if (residuals !== memory) residuals?.dispose();
    }
  }

  /** codes[M][stages] on the host; those of the batch are put into `all`. */
  private async bringCodes(codes: DeviceMemory, all: CodeArray): Promise<CodeArray> {
    const { source } = this;
    const { rows } = source;
    const stages = this.spec.codebooks.length;
    const length = source.count * stages;
    const found = rows === null ? all : all instanceof Uint32Array ? new Uint32Array(length) : new Uint16Array(length);
    await codes.download({ target: found, offset: 0 });
    if (rows === null) return found;
    await inSlices(length, stages, (from, to) => {
      for (let i = from; i < to; i += stages) {
        const start = rows[i / stages] * stages;
        for (let stage = 0; stage < stages; stage++) all[start + stage] = found[i + stage];
      }
    });
    return found;
  }

  /** Sums and distances of a stage, after those of the stage `before`; what it leaves over takes the place of the residuals. */
  private async stageAt(
    stage: number,
    { step, found, codes, wide, residuals }: Walked,
    before: StepStage | null,
  ): Promise<StepStage> {
    const { resident, spec, source } = this;
    const { dim, codebooks, metric } = spec;
    const { count } = source;
    const { stagesOfRow } = step;
    // A residual is zero exactly where the one before met its codeword; with the cosine metric it does not count.
    const met = metric === "cosine" && before !== null ? before.plainDistances : null;
    const counts = (row: number) =>
      (stagesOfRow === null || stagesOfRow[row] > stage) && (met === null || met[row] !== 0);
    const vectors = stage === 0 ? this.brought.memory : residuals;
    const numCodewords = codebooks[stage].length / dim;
    const sums = emptySums(numCodewords, step.grids[stage], false);

    const all = stagesOfRow === null && met === null;
    const counted = all ? null : await this.countedCodes(found, stage, counts, numCodewords);
    if (counted === null) await this.addTo(sums, vectors, { codes, wide, codeStages: codebooks.length, stage });
    else await this.addCounted(sums, vectors, counted);

    const distances = new Float64Array(count);
    const plainDistances = spec.weights === null ? distances : new Float64Array(count);
    await resident.passOn({
      ...{ vectors, count, codes, wide, codeStages: codebooks.length, stage, distances },
      plainDistances: plainDistances === distances ? undefined : plainDistances,
      residuals: stage === codebooks.length - 1 ? undefined : residuals,
    });
    const pick = (rows: Uint32Array) => this.pick(rows, found, stage);
    return { stage, distances, plainDistances, sums, counts, pick };
  }

  /** counted[M]: the codes, but K in rows that do not count; null where all do. */
  private async countedCodes(
    found: CodeArray,
    stage: number,
    counts: (row: number) => boolean,
    leftOut: number,
  ): Promise<CodeArray | null> {
    const stages = this.spec.codebooks.length;
    const counted = newCodeArray(this.source.count, [leftOut + 1]);
    let some = false;
    await inSlices(counted.length, 1, (from, to) => {
      for (let n = from; n < to; n++) {
        const counting = counts(n);
        counted[n] = counting ? found[n * stages + stage] : leftOut;
        if (!counting) some = true;
      }
    });
    return some ? counted : null;
  }

  private async addCounted(sums: StageSums, vectors: DeviceMemory, counted: CodeArray): Promise<void> {
    const codes = this.resident.allocate(counted.byteLength);
    try {
      await codes.upload({ source: counted, offset: 0 });
      await this.addTo(sums, vectors, { codes, wide: counted instanceof Uint32Array, codeStages: 1, stage: 0 });
    } finally {
      codes.dispose();
    }
  }

  private async addTo({ statistics }: StageSums, vectors: DeviceMemory, column: CodeColumn): Promise<void> {
    const { dim, counts, sums, gridExponents } = statistics;
    const rows = { vectors, count: this.source.count, dim, ...column };
    await this.resident.accumulate({ ...rows, numCodewords: counts.length, gridExponents, counts, sums });
  }

  /** The residuals are those on the device: the same subtractions, in the same order. */
  private async pick(rows: Uint32Array, found: CodeArray, stage: number): Promise<PickedRows> {
    const { dim, codebooks } = this.spec;
    const stages = codebooks.length;
    const residuals = await this.source.pick(rows);
    await inSlices(residuals.length, dim, (from, to) => {
      for (let start = from; start < to; start += dim) {
        const row = rows[start / dim];
        for (let s = 0; s < stage; s++) {
          const codeword = found[row * stages + s] * dim;
          for (let i = 0; i < dim; i++) residuals[start + i] -= codebooks[s][codeword + i];
        }
      }
    });
    return { codes: rows.map((row) => found[row * stages + stage]), residuals };
  }
}

/** What the stages of a walk share. */
interface Walked {
  readonly step: StepWalk;
  /** codes[M][stages] on the host, and on the device. */
  readonly found: CodeArray;
  readonly codes: DeviceMemory;
  readonly wide: boolean;
  /** residuals[M][D] before every stage but the first. */
  readonly residuals: DeviceMemory;
}

/** A column of codes on the device. */
interface CodeColumn {
  readonly codes: DeviceMemory;
  readonly wide: boolean;
  readonly codeStages: number;
  readonly stage: number;
}

/** As `gatherCounting` finds it. */
async function rangeOf(
  source: RowSource,
  dim: number,
  resident: ResidentCodebooks,
  vectors: DeviceMemory,
): Promise<VectorRange> {
  const magnitudes = new Float32Array(dim);
  await resident.magnitudes({ vectors, count: source.count, dim, magnitudes });
  const bad = magnitudes.includes(Infinity) ? await source.firstNotFinite() : null;
  if (bad !== null) throw source.refuse(bad);
  return { rows: source.count, magnitudes: [...magnitudes], maxWeight: null };
}
