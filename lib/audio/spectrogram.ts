// The short-time spectrum of a signal in dB, as a picture shows it.

import FFT from "fft.js";

/** 32 ms at 16 kHz: resolves the harmonics of a voice and still shows when they begin. */
const windowSamples = 512;
/** Power below this, −160 dBFS, is not told apart from none. */
const smallestPower = 1e-16;

export interface Spectrogram {
  readonly columns: number;
  /** Frequencies 0 … Nyquist, both included. */
  readonly rows: number;
  /** levels[columns][rows], in dB relative to a full-scale sine. */
  readonly levels: Float32Array;
}

/** `columns` spectra whose Hann windows are spread evenly from the signal's first to its last sample. */
export function spectrogram(samples: Float32Array, columns: number): Spectrogram {
  const rows = windowSamples / 2 + 1;
  const fft = new FFT(windowSamples);
  const spectrum = fft.createComplexArray();
  const input = new Float64Array(windowSamples);
  const window = Float64Array.from(input, (_, n) => 0.5 - 0.5 * Math.cos((2 * Math.PI * (n + 0.5)) / windowSamples));
  // A sine of amplitude 1 has a peak of half the window's sum.
  const fullScale = (window.reduce((sum, value) => sum + value, 0) / 2) ** 2;

  const levels = new Float32Array(columns * rows);
  for (let column = 0; column < columns; column++) {
    const start = Math.round((samples.length * (column + 0.5)) / columns) - windowSamples / 2;
    for (let n = 0; n < windowSamples; n++) input[n] = window[n] * (samples[start + n] ?? 0);
    fft.realTransform(spectrum, input);
    for (let row = 0; row < rows; row++) {
      const power = spectrum[2 * row] ** 2 + spectrum[2 * row + 1] ** 2;
      levels[column * rows + row] = 10 * Math.log10(Math.max(smallestPower, power / fullScale));
    }
  }
  return { columns, rows, levels };
}
