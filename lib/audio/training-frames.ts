// The frames that codebooks are learned from: those of the recordings, and more that recordings like them would have.

import { inPieces, runToEnd, type Steps } from "../time-slice.js";
import { framesOfSignalsSteps, totalFrames } from "./audio-model.js";
import { Mdct } from "./mdct.js";
import type { AudioRecipe } from "./recipe.js";

type Framing = Pick<AudioRecipe, "hop" | "shifts" | "negated">;

/**
 * frames[total][hop] of all signals, one after the other. With `shifts` n, each signal is framed n times, each time
 * beginning hop / n samples later: a sound may start anywhere in a frame. With `negated`, every frame is there with
 * both signs: nobody hears the difference, but to a codebook they are two vectors.
 */
export function trainingFrames(signals: readonly Float32Array[], framing: Framing): Float32Array {
  return runToEnd(trainingFramesSteps(signals, framing));
}

/** `trainingFrames` in steps, for long recordings. */
export function* trainingFramesSteps(
  signals: readonly Float32Array[],
  { hop, shifts, negated }: Framing,
): Steps<Float32Array> {
  const starts = Array.from({ length: shifts }, (_, shift) => Math.floor((shift * hop) / shifts));
  const shifted = starts.flatMap((start) => signals.map((samples) => samples.subarray(start)));
  const mdct = new Mdct(hop);
  const length = totalFrames(shifted, mdct) * hop;
  // Room for both signs from the start: frames are what takes most of the memory.
  const frames = new Float32Array(negated ? 2 * length : length);
  yield* framesOfSignalsSteps(shifted, mdct, frames);
  if (!negated) return frames;
  yield* inPieces(length, 1, (from, to) => {
    for (let i = from; i < to; i++) frames[length + i] = -frames[i];
  });
  return frames;
}
