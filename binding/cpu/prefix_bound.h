// The screen by principal axes: how a few numbers a vector bound every score, and the proof.
//
// error_bound.h defines the space (X, C, ρ, n ≤ 1, u, u', order). V is a float32 matrix [P][D] whose rows are nearly
// orthonormal: η ≥ |VVᵀ − I|, the Frobenius norm in float64. q = float(V·X̂) and p = float(V·Ĉ) are their coefficients,
// X' = X − Vᵀq and C' = C − Vᵀp what those leave. Then
//   X·C = q·VVᵀp + q·VC' + p·VX' + X'·C'.
// δ = √P·γ + u' bounds |V·X − q| / ρ and |V·C − p| / n up to the factor below, γ as in error_bound.h for D terms. With
//   |V|² ≤ 1 + η, |q| ≤ 1.02ρ and |p| ≤ 1.02n (δ and η are at most 2^-8, else there is no such screen):
//   |q·VVᵀp − q·p| ≤ 1.05·η·ρn;   |VC'| ≤ |V·C − p| + |p − VVᵀp| ≤ 1.01·(δ + 1.02η)·n, and |VX'| likewise.
//   |X'·C'| ≤ r·e (Cauchy and Schwarz), where r ≥ |X'|: |X'|² = |X|² − 2q·VX + q·VVᵀq ≤ ρ² − (1 − η)|q|² + 2.1·δ|q|ρ.
//   e ≥ |C'| likewise.
// So S = X·C − ½|C|² ≤ (q, r)·(p, e) − ½|C|² + `slack`·ρn, slack = 2.2δ + 3.3η: an upper bound that is itself a score,
// in P + 1 dimensions. It is computed in float32 with at most P + 4 roundings of terms that sum to at most 2.2ρn + ½n²
// in magnitude; 3(P + 40)u counts them. The rest of E is that of error_bound.h, so that
//   |X|² − 2(Û + E) is at most s² times the canonical distance.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "error_bound.h"

namespace rvq::cpu {

class PrefixBound {
 public:
  PrefixBound(size_t dim, size_t axes, double eta) : float_bound_(dim), eta_(eta) {
    double roundings = static_cast<double>(dim + 16) * 0x1p-24;
    delta_ = 1.02 * (std::sqrt(static_cast<double>(axes)) * roundings / (1 - std::min(roundings, 0.5)) + 0x1.01p-24);
    slack_ = 2.2 * delta_ + 3.3 * eta_ + 3 * static_cast<double>(axes + 40) * 0x1p-24;
  }

  bool usable() const { return float_bound_.usable() && delta_ <= 0x1p-8 && eta_ <= 0x1p-8; }

  // r from ρ and |q|², or e from n and |p|². The squares are off by float64's roundings: 2^-40 of them is more.
  float remainder(double norm, double squared_coefficients) const {
    double coefficients = std::sqrt(squared_coefficients);
    double squared = norm * norm * (1 + 0x1p-40) - (1 - eta_) * (1 - 0x1p-40) * squared_coefficients +
                     2.1 * delta_ * coefficients * norm;
    return inflated(std::sqrt(std::max(squared, 0.0)) + 0x1p-60 * norm);
  }

  float row_slope(double row_norm) const { return inflated((slack_ + float_bound_.order()) * row_norm); }
  float row_constant(double row_norm) const { return float_bound_.row_constant(row_norm); }
  float codeword_constant(double norm) const { return float_bound_.codeword_constant(norm); }

 private:
  static float inflated(double bound) { return static_cast<float>(bound * (1 + 0x1p-20)); }

  ErrorBound float_bound_;
  double eta_;
  double delta_;
  double slack_;
};

}  // namespace rvq::cpu
