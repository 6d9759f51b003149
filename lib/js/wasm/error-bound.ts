// How far a float32 score can be from what decides the search, and the proof.
//
// The screen's space. X_i = s·a_i·(x_i − m_i) and C_i likewise, with a_i = sqrt(weight_i), m a float32 vector near the
// codewords' mean and s a power of two. Exactly, before any rounding: weighted distance = |X − C|² / s², and
// S = X·C − ½|C|² = ½|X|² − ½|X − C|²: the nearest codeword has the largest S.
//
// What is computed. X̂ and Ĉ are X and C rounded to float32, h is −½|C|² rounded to float32, and Ŝ is h + X̂·Ĉ in
// float32: every product is rounded, then every sum (WebAssembly has no fused multiply-add of stated rounding). Let
// u = 2^-24, ρ ≥ |X|, |X̂| and n ≥ |C|, |Ĉ|; s makes n ≤ 1.
//   |X̂ − X| ≤ u'ρ and |Ĉ − C| ≤ u'n with u' = u(1 + 2^-20): x − m, the root of the weight and both products are rounded
//     in float64 first. So |X̂·Ĉ − X·C| ≤ 2u'ρn (Cauchy and Schwarz).
//   |h + ½|C|²| ≤ u'·½n².
//   |Ŝ − (h + X̂·Ĉ)| ≤ γ·(½n² + ρn) with γ = (D+5)u / (1 − (D+5)u): a term meets its product's rounding and at most
//     D + 4 additions, whether the sum is one chain that starts at h or four chains that are added up at the end.
//   The ends Ŝ ± E are one more rounding each, of numbers of at most ρn + ½n² + E.
// Together fewer than D + 10 roundings; `rounding` counts D + 16. Where numbers underflow, an operand or a product is
// off by up to 2^-150 absolutely: D·2^-148·(1 + ρ) covers all of them, and `underflow` is four times that.
//
// What decides. The canonical distance d64 is |X − C|²/s² · (1 + t) with |t| ≤ (⌈D/8⌉ + 6)·2^-53: two roundings in the
// square of a rounded difference, one each for square and weight, ⌈D/8⌉ + 2 additions of numbers of one sign. Nothing in
// it underflows: the smallest non-zero product of float32 values it meets is 2^-447. So codeword k is nearer than j *by
// d64* if S_k − t·½|X − C_k|² > S_j + t·½|X − C_j|², where ½|X − C|² ≤ ½(ρ + n)². `order` counts ⌈D/8⌉ + 16.
//
//   E(ρ, n) = rounding·(ρn + ½n²) + order·½(ρ + n)² + underflow·(1 + ρ)
//           = rowSlope(ρ)·n + codewordConstant(n) + rowConstant(ρ)
// Every part is inflated by 2^-20 for its own roundings to float32 and those of the sum. E grows with n, so the largest
// norm of a group bounds the whole group. If Ŝ_k − E_k > Ŝ_j + E_j for every other j, then k is the answer.

const inflation = 1 + 2 ** -20;

/** Rows further out than this are not screened: far below it no product, sum or bound can overflow float32. */
export const largestRowNorm = 2 ** 60;

/** The parts of E; all are float32 values. */
export class ErrorBound {
  private readonly rounding: number;
  private readonly order: number;
  private readonly underflow: number;

  constructor(dim: number) {
    const roundings = (dim + 16) * 2 ** -24;
    this.rounding = roundings / (1 - roundings);
    this.order = (Math.ceil(dim / 8) + 16) * 2 ** -53;
    this.underflow = dim * 2 ** -146;
  }

  /** An upper bound of a norm before and after rounding to float32, from its square in float64. */
  norm(squaredNorm: number): number {
    return Math.sqrt(squaredNorm) * inflation + this.underflow * 64;
  }

  rowSlope(rowNorm: number): number {
    return Math.fround((this.rounding + this.order) * rowNorm * inflation);
  }

  rowConstant(rowNorm: number): number {
    return Math.fround((0.5 * this.order * rowNorm * rowNorm + this.underflow * (1 + rowNorm)) * inflation);
  }

  codewordConstant(norm: number): number {
    return Math.fround(0.5 * (this.rounding + this.order) * norm * norm * inflation);
  }
}
