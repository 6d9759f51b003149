// How far a distance in float32 can be from what decides the search, and the proof.
//
// d32 = Σ (x_i − c_i)², in float32, without weights, in any order, fused or not; d is its exact value. A difference of
// two float32 numbers is rounded once and never underflows, its square once, and its sum touches a term at
// most S times. rough_distance adds up 4 sums a lane of L = 4, 8 or 16 lanes, then the lanes, then what is left of D, a
// multiple of 8: S ≤ D/4L + L + 13, additions to zero not counted, and S + 3 roundings of terms of one sign are fewer
// than D/8 + 33. So |d32 − d| ≤ γ·d + η, γ for so many and η = D·2^-148 for squares and sums that underflow. The
// canonical d64 is d to a few 2^-53 (error_bound.h), less than the one rounding that is left.
//
// If d32_k·(1 − γ) − η > d32_j·(1 + γ) + η, then codeword j is nearer than k by d64. With m the smallest d32, all that
// can be nearest have d32 ≤ (m·(1 + γ) + 2η) / (1 − γ), which is at most m·widening + underflow, both inflated for
// their own roundings. Where m overflows all remain, and so does a distance that is NaN.

#pragma once

#include <cstddef>

namespace rvq::cpu {

struct NearBound {
  explicit NearBound(size_t dim) {
    gamma = static_cast<double>(dim / 8 + 34) * 0x1p-24;
    usable = gamma < 0.25;
    widening = static_cast<float>((1 + gamma) / (1 - gamma) * (1 + 0x1p-20));
    underflow = static_cast<float>(static_cast<double>(dim) * 0x1p-145);
  }

  // False where a row is so long that the bound means nothing.
  bool usable;
  double gamma;
  float widening;
  float underflow;
};

}  // namespace rvq::cpu
