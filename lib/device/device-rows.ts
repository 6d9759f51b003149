// The rows of a step of learning on a device. Codes, counts and the state after the step come to the host; vectors, residuals and
// distances stay there.

import type { CodeArray } from "../backend.js";
import type { DeviceMemory } from "../resident.js";
import type { VectorRange } from "../stage-sums.js";
import type { MeasuredRows, PickedRows, StepRows, StepStage, StepWalk } from "../step-rows.js";
import { inSlices } from "../time-slice.js";
import { specOf, type TrainerPart } from "../training-step.js";
import type { DeviceState } from "./device-state.js";
import type { BroughtRows, RowSource } from "./row-source.js";

export class DeviceRows implements StepRows {
  readonly rows: Uint32Array | null;
  readonly weights = null;

  private constructor(
    private readonly part: TrainerPart,
    private readonly device: DeviceState,
    private readonly source: RowSource,
    private readonly brought: BroughtRows,
    readonly range: VectorRange,
    readonly codewordMagnitudes: Float32Array,
  ) {
    this.rows = source.rows;
  }

  /** Brings the rows to the device, and what it has not yet of the part's state. */
  static async open(
    part: TrainerPart,
    device: DeviceState,
    source: RowSource,
    signal: AbortSignal | undefined,
  ): Promise<DeviceRows> {
    const { dim } = part.model;
    const { resident } = device;
    await device.bring(part.state);
    const brought = await source.bring(device, signal);
    const codewordMagnitudes = new Float32Array(part.state.stages.length * dim);
    const magnitudes = new Float32Array(dim);
    const { count } = source;
    await Promise.all([
      resident.codewordMagnitudes({ magnitudes: codewordMagnitudes }),
      source.range ?? resident.magnitudes({ vectors: brought.memory, count, dim, magnitudes }),
    ]);
    const range = source.range ?? (await rangeOf(source, magnitudes));
    return new DeviceRows(part, device, source, brought, range, codewordMagnitudes);
  }

  async walk(step: StepWalk, visit: (stage: StepStage) => Promise<boolean>): Promise<void> {
    const { device, source, brought } = this;
    const { dim, codebooks } = specOf(this.part);
    const { count } = source;
    const numStages = codebooks.length;
    const wide = step.codes instanceof Uint32Array;
    const codes = device.take("codes", count * numStages * step.codes.BYTES_PER_ELEMENT);
    let residuals = brought.memory;
    if (!brought.own && numStages > 1) {
      residuals = device.take("residuals", count * dim * Float32Array.BYTES_PER_ELEMENT);
    }
    const { bad } = await device.resident.encode({ vectors: brought.memory, count, stages: numStages, codes, wide });
    if (bad !== null) throw source.refuse(bad);
    step.signal?.throwIfAborted();

    let stagesOfRow: DeviceMemory | undefined;
    if (step.stagesOfRow !== null) {
      stagesOfRow = device.take("stages of rows", step.stagesOfRow.byteLength);
      await stagesOfRow.upload({ source: step.stagesOfRow, offset: 0 });
    }
    const walked = { step, codes, wide, residuals, stagesOfRow };
    let ahead = this.learn(0, walked);
    try {
      const [found] = await Promise.all([this.bringCodes(codes, step.codes), ahead]);
      for (let stage = 0; stage < numStages; stage++) {
        const learnt = await ahead;
        // The device has the next stage while the host works on this one.
        if (stage + 1 < numStages) ahead = this.learn(stage + 1, walked);
        ahead.catch(() => {});
        const measured = () => this.measured(stage, step.stagesOfRow);
        const pick = (rows: Uint32Array) => this.pick(rows, found, stage);
        if (await visit({ stage, ...learnt, measured, pick })) device.change(stage);
        step.signal?.throwIfAborted();
      }
    } finally {
      await ahead.catch(() => {});
    }
  }

  /** codes[M][stages] on the host; those of the batch are put into `all`. */
  private async bringCodes(codes: DeviceMemory, all: CodeArray): Promise<CodeArray> {
    const { source } = this;
    const { rows } = source;
    const stages = this.part.state.stages.length;
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

  /** A stage of the step, after the stage before it; what it leaves over takes the place of the residuals. */
  private async learn(stage: number, { step, codes, wide, residuals, stagesOfRow }: Walked): Promise<LearntStage> {
    const { device, source, brought } = this;
    const { metric, weights } = this.part.model;
    const { before, after, decay, average } = step.update;
    const { count } = source;
    const state = after[stage];
    const masses = new Float64Array(state.usage.length);
    const errors = new Float64Array(4);
    const doubles = count * Float64Array.BYTES_PER_ELEMENT;
    await device.resident.learn({
      ...{ vectors: stage === 0 ? brought.memory : residuals, count, codes, wide },
      ...{ codeStages: before.length, stage, stagesOfRow, gridExponents: step.grids[stage].gridExponents },
      // A residual is zero exactly where the one before met its codeword; with the cosine metric it does not count.
      distancesBefore: metric === "cosine" && stage > 0 ? this.distances(stage - 1) : undefined,
      distances: this.distances(stage),
      plainDistances: weights === null ? undefined : device.take("plain distances", doubles),
      residuals: stage === before.length - 1 ? undefined : residuals,
      ...{ decay, epsilon: average.epsilon, encodec: average.form === "encodec" },
      unused: before[stage].usage.every((usage) => usage === 0),
      ...device.stages[stage],
      ...{ masses, usageAfter: state.usage, errors },
    });
    await Promise.all([
      device.stages[stage].averages.download({ target: state.averages, offset: 0 }),
      device.resident.readCodewords({ stage, target: state.codebook }),
    ]);
    const [mass, weighted, plain, last] = errors;
    return { masses, errors: { mass, weighted, plain, last } };
  }

  /** Those of a stage, which are there until the stage after the next one. */
  private distances(stage: number): DeviceMemory {
    const bytes = this.source.count * Float64Array.BYTES_PER_ELEMENT;
    return this.device.take(`distances ${stage % 3}`, bytes);
  }

  private async measured(stage: number, stagesOfRow: Uint16Array | null): Promise<MeasuredRows> {
    const bring = async (of: number) => {
      const target = new Float64Array(this.source.count);
      await this.distances(of).download({ target, offset: 0 });
      return target;
    };
    const distances = await bring(stage);
    const met = this.part.model.metric === "cosine" && stage > 0 ? await bring(stage - 1) : null;
    const counts = (row: number) =>
      (stagesOfRow === null || stagesOfRow[row] > stage) && (met === null || met[row] !== 0);
    return { distances, counts };
  }

  /** The residuals are those on the device: the same subtractions, in the same order. */
  private async pick(rows: Uint32Array, found: CodeArray, stage: number): Promise<PickedRows> {
    const { dim, codebooks } = specOf(this.part);
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
  /** codes[M][stages] */
  readonly codes: DeviceMemory;
  readonly wide: boolean;
  /** residuals[M][D] before every stage but the first. */
  readonly residuals: DeviceMemory;
  /** stagesOfRow[M] of 16 bits, where rows have some. */
  readonly stagesOfRow: DeviceMemory | undefined;
}

type LearntStage = Pick<StepStage, "masses" | "errors">;

/** As `gatherCounting` finds it. */
async function rangeOf(source: RowSource, magnitudes: Float32Array): Promise<VectorRange> {
  const bad = magnitudes.includes(Infinity) ? await source.firstNotFinite() : null;
  if (bad !== null) throw source.refuse(bad);
  return { rows: source.count, magnitudes: [...magnitudes], maxWeight: null };
}
