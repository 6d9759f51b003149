// How far the 16-bit screen's score can be from what decides the search, and the proof.
//
// error_bound.h defines the space (X, C, ρ, n ≤ 1, u, u'), what decides, and what the float32 screen computes. Here the
// operands are integers: X̂ = A / a and Ĉ = B / b with A and B vectors of 16-bit integers, a one multiplier a row and b
// one a group of codewords, both float32. Ŝ = h + float(A·B)·float(1/a · 1/b), where A·B is an exact
// integer, rounded once more in a fused multiply-add or, where few rows are screened, twice:
//
// No sum overflows. a·ρ ≤ 32765 and |C|·b ≤ kCodewordRange, and rounding to integers adds at most ½ an element, ½√D to
// a norm. So every |A_i| < 2^15, and |A·B| ≤ |A|·|B| ≤ (32766 + ½√D)·(kCodewordRange + ½√D) < 2^31 (Cauchy and
// Schwarz). Sums on the way may wrap: they are modulo 2^32, and the last one is in range. Scaling by the norm and not
// by the largest element leaves 12 to 15 bits an element and makes this hold for every D.
//
// What is lost is measured, not assumed: ε_x ≥ |X − X̂| for every row and ε_k ≥ |C − Ĉ|, the largest of a group.
//   |X̂·Ĉ − X·C| ≤ ε_x·n + (ρ + ε_x)·ε_k.
//   The two reciprocals, their product, float(A·B), the sum and h round once each, and so do the ends Ŝ ± E: fewer than
//     nine roundings of numbers of at most M = (ρ + ε_x)(n + ε_k) + ½n² + E. `rounding` counts 16.
//   The multipliers are at most 2^56, so that no product of theirs underflows; h may: `underflow`, as in error_bound.h.
//
//   E = rounding·M + ε_x·n + (ρ + ε_x)·ε_k + order·½(ρ + n)² + underflow·(1 + ρ)
//     ≤ row_slope·n + row_reach·ε_k + codeword_constant(n) + row_constant, with
//   row_slope = ε_x + rounding·(ρ + ε_x) + order·ρ        row_reach = (1 + rounding)·(ρ + ε_x)
// each inflated like its float32 counterpart, and row_constant the same. E grows with n and with ε_k: their largest
// values in a group bound it all.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "error_bound.h"

namespace rvq::cpu {

class IntegerBound {
 public:
  explicit IntegerBound(size_t dim) : dim_(static_cast<double>(dim)), float_bound_(dim) {}

  // Where D is so large that the ½√D of the rounding would eat up the range.
  static bool usable(size_t dim) { return dim <= kLargestDim; }

  // a for a row of norm at most ρ.
  float row_multiplier(double row_norm) const { return static_cast<float>(kRowRange / std::max(row_norm, kSmallNorm)); }
  // b for codewords of norm at most n with elements of at most `largest`.
  float codeword_multiplier(double norm, double largest) const {
    double range = 0x1p31 / (kRowRange + 1 + half_root()) - half_root() - 2;
    return static_cast<float>(std::min(range / std::max(norm, kSmallNorm), kRowRange / std::max(largest, kSmallNorm)));
  }

  // ε_x of a row or ε_k of a codeword of norm at most `norm`. `squared_error` is Σ (a·X̂32_i − A_i)², X̂32 the row in
  // float32, summed in float32 in any order: all but (D + 3)u of it, and all but D·2^-149. X̂32 itself is off by u'ρ.
  double error(double norm, float multiplier, float squared_error) const {
    double squared = squared_error * (1 + (dim_ + 16) * 0x1p-23) + dim_ * 0x1p-140;
    return (std::sqrt(squared) / multiplier + 0x1p-24 * norm) * kInflation + underflow();
  }

  float row_slope(double row_norm, double row_error) const {
    return inflated(row_error + kRounding * (row_norm + row_error) + float_bound_.order() * row_norm);
  }
  float row_reach(double row_norm, double row_error) const {
    return inflated((1 + kRounding) * (row_norm + row_error));
  }
  float codeword_constant(double norm) const {
    return inflated(0.5 * (kRounding + float_bound_.order()) * norm * norm);
  }

 private:
  static constexpr size_t kLargestDim = size_t{1} << 20;
  static constexpr double kRowRange = 32765;
  // Smaller norms get the multiplier of this one.
  static constexpr double kSmallNorm = 0x1p-40;
  static constexpr double kRounding = 16 * 0x1p-24;
  static constexpr double kInflation = 1 + 0x1p-20;

  static float inflated(double bound) { return static_cast<float>(bound * kInflation); }
  double half_root() const { return 0.5 * std::sqrt(dim_); }
  double underflow() const { return dim_ * 0x1p-140; }

  double dim_;
  ErrorBound float_bound_;
};

}  // namespace rvq::cpu
