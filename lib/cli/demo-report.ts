// What a run of `rvq demo` found out: the numbers in report.json and on the report page.

import type { AudioRecipe } from "../audio/recipe.js";
import type { RecordingsReport } from "../audio/recordings.js";
import type { BackendName } from "../index.js";

export interface DemoReport {
  readonly version: string;
  readonly quick: boolean;
  readonly backend: BackendName;
  readonly model: {
    readonly id: string;
    readonly sampleRate: number;
    readonly hop: number;
    readonly codewords: number;
    readonly stages: number;
    readonly log2Capacity: number;
    readonly fileBytes: number;
  };
  readonly training: {
    readonly recordings: RecordingsReport;
    /** Frames of the recordings, before more were made of them. */
    readonly frames: number;
    readonly recipe: AudioRecipe;
    readonly elapsedSeconds: number;
  };
  readonly clip: {
    readonly name: string;
    readonly format: string;
    readonly seconds: number;
    /** What was done to it first, in words: mixed to one channel, resampled, cut. */
    readonly changes: readonly string[];
  };
  /** Encoding the clip with all stages. */
  readonly encoding: { readonly elapsedSeconds: number; readonly timesRealTime: number };
  /** For the first 1, 2, … stages. SNR in dB; null for a clip of silence. */
  readonly curve: readonly {
    readonly stages: number;
    readonly bitsPerSecond: number;
    readonly trainingSnrDb: number | null;
    readonly clipSnrDb: number | null;
  }[];
  /** One entry a stage. */
  readonly usage: readonly { readonly training: StageUse; readonly clip: StageUse }[];
  readonly reconstructions: readonly Reconstruction[];
}

export interface StageUse {
  readonly perplexity: number;
  /** Share of the codewords that are used at all, 0 … 1. */
  readonly used: number;
}

/** The clip rebuilt from the first `stages` codebooks. */
export interface Reconstruction {
  readonly stages: number;
  /** Of the samples, in dB; null for silence. */
  readonly snrDb: number | null;
  /** Information in the codes, Σ log2 K times frames a second. */
  readonly nominalBitsPerSecond: number;
  /** Size of the whole .rvq file, header included, and the rate that it makes. */
  readonly fileBytes: number;
  readonly fileBitsPerSecond: number;
  readonly wavFile: string;
  readonly codesFile: string;
}

/** One of the sounds on the report page. */
export interface Sound {
  /** Codebooks it was rebuilt from; 0 for the original. */
  readonly stages: number;
  readonly samples: Float32Array;
  /** The WAV file. */
  readonly wav: Uint8Array;
}
