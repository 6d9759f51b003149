// How far the screen's score can be from what decides the search, and the proof.
//
// The screen's space. X_i = s·a_i·(x_i − m_i) and C_i likewise, with a_i = sqrt(weight_i), m a float32 vector near the
// codewords' mean and s a power of two. Exactly, before any rounding: weighted distance = |X − C|² / s², and
// S = X·C − ½|C|² = ½|X|² − ½|X − C|²: the nearest codeword is the one with the largest S.
//
// What is computed. X̂ and Ĉ are X and C rounded to float32, h is −½|C|² rounded to float32, and Ŝ is h + X̂·Ĉ summed in
// float32 in any order, with or without fused multiply-adds. Let u = 2^-24, ρ ≥ |X|, |X̂| and n ≥ |C|, |Ĉ|; s makes n
// ≤ 1.
//   |X̂ − X| ≤ u'ρ and |Ĉ − C| ≤ u'n, with u' = u(1 + 2^-20): x − m, the root of the weight and both products are
//     rounded in float64 first. So |X̂·Ĉ − X·C| ≤ 2u'ρn (Cauchy and Schwarz).
//   |h + ½|C|²| ≤ u'·½n².
//   |Ŝ − (h + X̂·Ĉ)| ≤ γ·(½n² + ρn), γ = (D+1)u / (1 − (D+1)u): at most D + 1 roundings touch a term.
//   Upper and lower ends Ŝ ± E are one more rounding each, of such numbers too.
// Together fewer than D + 8 roundings; `rounding` counts D + 32. Where numbers underflow an operand or a product is
// off by up to 2^-150 absolutely: D·2^-148·(1 + ρ) covers all of them; `underflow` is four times that.
//
// What decides. The canonical distance d64 is |X − C|²/s² · (1 + t) with |t| ≤ (⌈D/8⌉ + 6)·2^-53: two roundings in the
// square of a rounded difference, one each for square and weight, ⌈D/8⌉ + 2 additions of numbers of one sign. Nothing
// in it underflows: the smallest non-zero product of float32 values it meets is 2^-447. So codeword k is nearer than j
// *by d64* if S_k − t·½|X − C_k|² > S_j + t·½|X − C_j|², where ½|X − C|² ≤ ½(ρ + n)². `order` counts ⌈D/8⌉ + 16.
//
//   E(ρ, n) = rounding·(ρn + ½n²) + order·½(ρ + n)² + underflow·(1 + ρ)
//           = row_slope(ρ)·n + codeword_constant(n) + row_constant(ρ)
// Every part is inflated by 2^-20, for its own roundings to float32 and those of the sum. E grows with n: the largest
// norm of a group bounds the whole group. If Ŝ_k − E_k > Ŝ_j + E_j for every other j, then k is the answer.

#pragma once

#include <cmath>
#include <cstddef>

namespace rvq::cpu {

class ErrorBound {
 public:
  explicit ErrorBound(size_t dim) {
    double roundings = static_cast<double>(dim + 32) * 0x1p-24;
    usable_ = roundings < 0.25;
    rounding_ = roundings / (1 - roundings);
    size_t order_roundings = dim / kLanes + 17;
    order_ = static_cast<double>(order_roundings) * 0x1p-53;
    underflow_ = static_cast<double>(dim) * 0x1p-146;
  }

  // False where a row is so long that the bound means nothing: such codebooks are not screened.
  bool usable() const { return usable_; }

  // An upper bound of a norm before and after rounding to float32, from its square in float64.
  double norm(double squared_norm) const { return std::sqrt(squared_norm) * kInflation + underflow_ * 0x1p6; }

  // The share of ½(ρ + n)² by which float64's own roundings can turn the order of two codewords.
  double order() const { return order_; }

  float row_slope(double row_norm) const { return inflated((rounding_ + order_) * row_norm); }
  float row_constant(double row_norm) const {
    return inflated(0.5 * order_ * row_norm * row_norm + underflow_ * (1 + row_norm));
  }
  float codeword_constant(double norm) const { return inflated(0.5 * (rounding_ + order_) * norm * norm); }

  // Rows further out than this are not screened: far below it no product or bound can overflow.
  static constexpr double kLargestRowNorm = 0x1p60;

 private:
  static constexpr size_t kLanes = 8;
  static constexpr double kInflation = 1 + 0x1p-20;

  static float inflated(double bound) { return static_cast<float>(bound * kInflation); }

  bool usable_;
  double rounding_;
  double order_;
  double underflow_;
};

}  // namespace rvq::cpu
