// The frames that codebooks are learned from: those of the recordings, and more that recordings like them would have.

import { framesOfSignals } from "./audio-model.js";
import type { AudioRecipe } from "./recipe.js";

/**
 * frames[total][hop] of all signals, one after the other. With `shifts` n, each signal is framed n times, each time
 * beginning hop / n samples later: a sound may start anywhere in a frame. With `negated`, every frame is there with
 * both signs: nobody hears the difference, but to a codebook they are two vectors.
 */
export function trainingFrames(
  signals: readonly Float32Array[],
  { hop, shifts, negated }: Pick<AudioRecipe, "hop" | "shifts" | "negated">,
): Float32Array {
  const starts = Array.from({ length: shifts }, (_, shift) => Math.floor((shift * hop) / shifts));
  const frames = framesOfSignals(
    starts.flatMap((start) => signals.map((samples) => samples.subarray(start))),
    hop,
  );
  if (!negated) return frames;
  const both = new Float32Array(2 * frames.length);
  both.set(frames);
  for (let i = 0; i < frames.length; i++) both[frames.length + i] = -frames[i];
  return both;
}
