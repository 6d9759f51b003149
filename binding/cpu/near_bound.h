// How far a distance in float32 can be from what decides the search, and the proof.
//
// d32 = Σ (x_i − c_i)², in float32, without weights, in any order, fused or not; d is its exact value. A difference of
// two float32 numbers is rounded once and never underflows, its square once, and a sum of S terms at most S times a
// term, S = ⌈D/8⌉ + 8 as near_kernels.h sums: at most S + 3 roundings of terms of one sign. So |d32 − d| ≤ γ·d + η,
// with η = D·2^-148 for squares and sums that underflow. The canonical d64 is d to a few 2^-53 (error_bound.h); γ
// counts S + 16 roundings and covers that too.
//
// If d32_k·(1 − γ) − η > d32_j·(1 + γ) + η, then codeword j is nearer than k by d64. With m the smallest d32, all that
// can be nearest have d32 ≤ (m·(1 + γ) + 2η) / (1 − γ), which is at most m·widening + underflow, both inflated for
// their own roundings. Where m overflows all remain, and so does a distance that is NaN.

#pragma once

#include <cstddef>

namespace rvq::cpu {

struct NearBound {
  explicit NearBound(size_t dim) {
    double gamma = static_cast<double>(dim / 8 + 32) * 0x1p-24;
    usable = gamma < 0.25;
    widening = static_cast<float>((1 + gamma) / (1 - gamma) * (1 + 0x1p-20));
    underflow = static_cast<float>(static_cast<double>(dim) * 0x1p-145);
  }

  // False where a row is so long that the bound means nothing.
  bool usable;
  float widening;
  float underflow;
};

}  // namespace rvq::cpu
