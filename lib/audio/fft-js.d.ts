// Types of the part of fft.js that is used here; the package has none.

declare module "fft.js" {
  /** A complex FFT of a fixed power-of-two size; complex arrays hold re, im, re, im, … */
  class FFT {
    constructor(size: number);
    createComplexArray(): number[];
    /** Fills the first half of the spectrum of size real numbers. */
    realTransform(output: ArrayLike<number>, input: ArrayLike<number>): void;
  }
  export = FFT;
}
