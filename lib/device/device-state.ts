// What a trainer, or one group of it, has on a device from step to step: its state, and memory that every step needs.

import type { Backend, PreparedCodebooks } from "../backend.js";
import type { StageState } from "../moving-average.js";
import type { DeviceMemory, ResidentCodebooks } from "../resident.js";
import { specOf, type TrainerPart, type TrainerState } from "../training-step.js";
import { noDevice } from "./device-quantizer.js";

/** After so long without a step, its memory is free for others. */
const idleMs = 5_000;

/** The state of a stage, besides its codewords. */
export interface DeviceStage {
  /** usage[K] and averages[K][D] of float64. */
  readonly usage: DeviceMemory;
  readonly averages: DeviceMemory;
}

interface Scratch {
  readonly memory: DeviceMemory;
  readonly bytes: number;
}

/** The state on the host stays the truth: this one follows it, and is thrown away with all that goes wrong. */
export class DeviceState {
  readonly stages: readonly DeviceStage[];
  private readonly scratch = new Map<string, Scratch>();
  /** Which state the device has; null: none, or parts of one. */
  private held: TrainerState | null = null;
  /** Stages in which it has not. */
  private readonly changed = new Set<number>();
  private idle: NodeJS.Timeout | undefined;

  private constructor(
    private readonly prepared: PreparedCodebooks,
    readonly resident: ResidentCodebooks,
    state: TrainerState,
  ) {
    const allocated: DeviceMemory[] = [];
    const allocate = ({ byteLength }: Float64Array) => {
      const memory = resident.allocate(byteLength);
      allocated.push(memory);
      return memory;
    };
    try {
      this.stages = state.stages.map(({ usage, averages }) => ({
        usage: allocate(usage),
        averages: allocate(averages),
      }));
    } catch (error) {
      for (const memory of allocated) memory.dispose();
      throw error;
    }
  }

  /** With the codewords of the part, and without the rest of its state yet. */
  static open(backend: Backend, part: TrainerPart): DeviceState {
    const prepared = backend.prepare(specOf(part));
    try {
      const resident = prepared.resident?.();
      if (resident === undefined) throw noDevice("batch", backend);
      return new DeviceState(prepared, resident, part.state);
    } catch (error) {
      prepared.dispose();
      throw error;
    }
  }

  /** Brings what of a state the device has not. A step follows: until `follow`, the device has nothing that can be relied on. */
  async bring(state: TrainerState): Promise<void> {
    clearTimeout(this.idle);
    const stages = [...state.stages.keys()].filter((stage) => this.held !== state || this.changed.has(stage));
    this.held = null;
    this.changed.clear();
    await Promise.all(stages.map((stage) => this.load(stage, state.stages[stage])));
  }

  /** The host has changed the state of a stage after the device's step. */
  change(stage: number): void {
    this.changed.add(stage);
  }

  /** The device has this state now, but for stages that have changed; `onIdle` is called when no step comes. */
  follow(state: TrainerState, onIdle: () => void): void {
    this.held = state;
    this.idle = setTimeout(onIdle, idleMs).unref();
  }

  /** Memory for the time of a step, of unspecified content. */
  take(name: string, bytes: number): DeviceMemory {
    const there = this.scratch.get(name);
    if (there !== undefined && there.bytes >= bytes) return there.memory;
    there?.memory.dispose();
    this.scratch.delete(name);
    const memory = this.resident.allocate(bytes);
    this.scratch.set(name, { memory, bytes });
    return memory;
  }

  dispose(): void {
    clearTimeout(this.idle);
    for (const { memory } of this.scratch.values()) memory.dispose();
    for (const { usage, averages } of this.stages) {
      usage.dispose();
      averages.dispose();
    }
    this.scratch.clear();
    this.prepared.dispose();
  }

  private async load(stage: number, { usage, averages, codebook }: StageState): Promise<void> {
    const { resident, stages } = this;
    await Promise.all([
      stages[stage].usage.upload({ source: usage, offset: 0 }),
      stages[stage].averages.upload({ source: averages, offset: 0 }),
      resident.loadCodewords({ stage, source: codebook }),
    ]);
  }
}
