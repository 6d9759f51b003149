// Probabilities on the logistic scale, where predictions of several models are added up: two integer tables.

/**
 * The logistic function at −2048, −1920, … 2048 in 4096ths, 256 units being 1: 4096 / (1 + exp(−x / 256)) to the nearest integer, at
 * most 4095. Literal, because exp is not the same on every machine.
 */
const knots = [
  1, 2, 4, 6, 10, 17, 27, 45, 74, 120, 194, 311, 488, 747, 1102, 1546, 2048, 2550, 2994, 3349, 3608, 3785, 3902, 3976,
  4022, 4051, 4069, 4079, 4086, 4090, 4092, 4094, 4095,
];

/** Stretched probabilities lie in −2047 … 2047. */
export const maxStretched = 2047;

/** squash[x + 2048]: the probability, 1 … 4095 of 4096, of a stretched one x, linear between the knots. */
export const squash = makeSquash();

/** stretch[p], p in 0 … 4095: the smallest stretched probability whose squash is at least p, or the largest there is. */
export const stretch = makeStretch();

function makeSquash(): Int16Array {
  const table = new Int16Array(4096);
  for (let x = -maxStretched; x <= maxStretched; x++) {
    const below = (x >> 7) + 16;
    const part = x & 127;
    table[x + 2048] = (knots[below] * (128 - part) + knots[below + 1] * part + 64) >> 7;
  }
  table[0] = knots[0];
  return table;
}

function makeStretch(): Int16Array {
  const table = new Int16Array(4096).fill(maxStretched);
  let p = 0;
  for (let x = -maxStretched; x <= maxStretched; x++) {
    for (; p <= squash[x + 2048]; p++) table[p] = x;
  }
  return table;
}
