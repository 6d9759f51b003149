// A spectrogram as a PNG picture: time to the right, frequency upwards, level as colour.

import type { Spectrogram } from "../audio/spectrogram.js";
import { palettePng } from "./png.js";

/** Stops of the perceptually even colour map magma (van der Walt and Smith, 2015), dark to light. */
export const colourStops = [
  [0, 0, 4],
  [24, 15, 61],
  [68, 15, 118],
  [114, 31, 129],
  [158, 47, 127],
  [205, 64, 113],
  [241, 96, 93],
  [253, 150, 104],
  [254, 202, 141],
  [252, 253, 191],
] as const;

/** Steps of little more than a decibel cannot be told apart, and fewer colours make a smaller file. */
const numColours = 64;

/** The picture's bytes. Levels from `floorDb` to `topDb` take the colours from the first stop to the last. */
export function spectrogramPng({ columns, rows, levels }: Spectrogram, floorDb: number, topDb: number): Buffer {
  const pixels = new Uint8Array(columns * rows);
  for (let column = 0; column < columns; column++) {
    for (let row = 0; row < rows; row++) {
      const share = (levels[column * rows + row] - floorDb) / (topDb - floorDb);
      // The picture's first line is the highest frequency.
      pixels[(rows - 1 - row) * columns + column] = Math.round((numColours - 1) * Math.min(1, Math.max(0, share)));
    }
  }
  return palettePng(pixels, columns, rows, makePalette());
}

/** palette[numColours][3]: the stops, joined by straight lines. */
function makePalette(): Uint8Array {
  const palette = new Uint8Array(numColours * 3);
  for (let i = 0; i < numColours; i++) {
    const position = (i / (numColours - 1)) * (colourStops.length - 1);
    const below = Math.min(colourStops.length - 2, Math.floor(position));
    for (let c = 0; c < 3; c++) {
      const from = colourStops[below][c];
      palette[3 * i + c] = Math.round(from + (position - below) * (colourStops[below + 1][c] - from));
    }
  }
  return palette;
}
