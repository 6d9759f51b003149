// Distances in float32, by which many codewords are compared before a few of them are by canonical distances.
//
// d32 = Σ (x_i − c_i)²: a difference is rounded once and never underflows, its square and its sums fewer than D times,
// in any order. So with γ = (D + 8)·2^-24, rounded up, |d32 − d| ≤ γ·d + η, η = D·2^-148 for what underflows; the
// canonical distance is d to a few 2^-53. Those that can be nearest have d32 ≤ (m·(1 + γ) + 2η)/(1 − γ), m the smallest
// of all or any larger number; where that is near overflow, all can.

#pragma once

#include <cuda_runtime.h>

namespace rvq::cuda {

// The largest d32 of what can be nearest; infinity: all can.
__device__ __forceinline__ float float32_reach(float least, int dim) {
  float gamma = static_cast<float>(dim + 8) * 0x1p-24f * (1 + 0x1p-20f);
  float reach = (least * (1 + gamma) + 2 * static_cast<float>(dim) * 0x1p-145f) / (1 - gamma) * (1 + 0x1p-20f);
  return gamma < 0.25f && reach < 1e38f ? reach : INFINITY;
}

__device__ __forceinline__ void add_square(float difference, float& sum) { sum = fmaf(difference, difference, sum); }

}  // namespace rvq::cuda
