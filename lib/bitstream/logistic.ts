// Probabilities on the logistic scale, where predictions of several models are added up: two integer tables.

/** Squash at −2048, −1920, … 2048 (256 units are 1 on the natural scale), in 4096ths; the values of lpaq (Mahoney, 2007). */
const knots = [
  1, 2, 3, 6, 10, 16, 27, 45, 73, 120, 194, 310, 488, 747, 1101, 1546, 2047, 2549, 2994, 3348, 3607, 3785, 3901, 3975,
  4022, 4050, 4068, 4079, 4085, 4089, 4092, 4093, 4094,
];

/** Stretched probabilities lie in −2047 … 2047. */
export const maxStretched = 2047;

/** squash[x + 2048]: the probability, 1 … 4094 of 4096, of a stretched one x, linear between the knots. */
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
