// The search of one row among some codewords by a whole warp, by canonical distances: what the screen has left open.

#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "canonical.cuh"
#include "row_operands.cuh"
#include "stage.cuh"

namespace rvq::cuda {

namespace encoding {

// The smallest distance seen, and the smallest codeword at it; ~0 where none was finite.
struct Nearest {
  double distance = INFINITY;
  uint32_t codeword = ~0u;

  __device__ void take(double other, uint32_t k) {
    if (other < distance || (other == distance && k < codeword)) {
      distance = other;
      codeword = k;
    }
  }

  // Of the warp's four teams of eight threads, for all of them.
  __device__ void unite() {
#pragma unroll
    for (int step = 8; step <= 16; step *= 2) {
      double other = __shfl_xor_sync(kAll, distance, step);
      uint32_t k = __shfl_xor_sync(kAll, codeword, step);
      take(other, k);
    }
  }
};

}  // namespace encoding

// Takes up to four bits of `threads` away and returns the one for team 0 … 3; −1 where there are not so many.
__device__ __forceinline__ int take_four(unsigned& threads, int team) {
  int chosen = -1;
#pragma unroll
  for (int t = 0; t < 4; t++) {
    int thread = __ffs(static_cast<int>(threads)) - 1;
    if (t == team) chosen = thread;
    threads &= threads - 1;
  }
  return chosen;
}

// Methods are called by the whole warp; each team of eight threads has a codeword of its own.
//
// Many codewords are first compared by distances in float32, d32 = Σ (x_i − c_i)²: a difference is rounded once and
// never underflows, its square and its sums fewer than D times. So with γ = (D + 8)·2^-24, rounded up, |d32 − d| ≤ γ·d
// + η, η = D·2^-148 for what underflows; the canonical distance is d to a few 2^-53. Those that can be nearest have d32
// ≤ (m·(1 + γ) + 2η)/(1 − γ), m the smallest; where that is near overflow, and with weights, all remain.
template <Layout kLayout>
struct RowSearch {
  const float* weights;  // or null
  int dim;
  const StageView* view;

  __device__ __forceinline__ double distance(const float* row, uint32_t k) const {
    const float* codeword = view->searched + static_cast<size_t>(k) * dim;
    return canonical_distance(row, codeword, weights, dim, static_cast<int>(threadIdx.x) % kSumLanes, kAll);
  }

  // The nearest of the codewords 8j + 2·column + parity of every place 4·parity + column whose bit is set.
  __device__ __forceinline__ encoding::Nearest of_places(const float* row, unsigned places) const {
    // The nearest three of each team: the third only as a number.
    float first = INFINITY;
    float second = INFINITY;
    float third = INFINITY;
    uint32_t first_k = 0;
    uint32_t second_k = 0;
    if (weights == nullptr) {
      each(
          places,
          [&](int k) {
            float distances[kTogether];
            float32_distances(row, k, distances);
#pragma unroll
            for (int n = 0; n < kTogether; n++) {
              int codeword = k + 32 * n;
              if (codeword >= view->num_codewords) continue;
              float d = distances[n];
              if (!(d < third)) continue;
              third = fminf(third, fmaxf(second, d));
              uint32_t loser = d < first ? first_k : static_cast<uint32_t>(codeword);
              float lost = fmaxf(first, d);
              if (d < first) first_k = static_cast<uint32_t>(codeword);
              first = fminf(first, d);
              if (lost < second) second_k = loser;
              second = fminf(second, lost);
            }
          },
          32 * kTogether);
    }
    float least = first;
#pragma unroll
    for (int step = 8; step <= 16; step *= 2) least = fminf(least, __shfl_xor_sync(kAll, least, step));
    float gamma = static_cast<float>(dim + 8) * 0x1p-24f * (1 + 0x1p-20f);
    float reach = (least * (1 + gamma) + 2 * static_cast<float>(dim) * 0x1p-145f) / (1 - gamma) * (1 + 0x1p-20f);
    bool usable = gamma < 0.25f && reach < 1e38f;

    encoding::Nearest nearest;
    if (__any_sync(kAll, !usable || third <= reach)) {
      each(
          places,
          [&](int k) {
            bool exists = k < view->num_codewords;
            double d = distance(row, exists ? static_cast<uint32_t>(k) : 0);
            if (exists) nearest.take(d, static_cast<uint32_t>(k));
          },
          32);
    } else {
#pragma unroll 1
      for (int rank = 0; rank < 2; rank++) {
        float d32 = rank == 0 ? first : second;
        uint32_t k = rank == 0 ? first_k : second_k;
        if (!__any_sync(kAll, d32 <= reach)) break;
        double d = distance(row, k);
        if (d32 <= reach) nearest.take(d, k);
      }
    }
    nearest.unite();
    return nearest;
  }

 private:
  static constexpr int kTogether = 8;

  // consider(k) for the codewords of the places, by teams: k is the team's, and k + 32·n in a step of more than 32.
  template <typename Consider>
  __device__ __forceinline__ void each(unsigned places, const Consider& consider, int step) const {
    int team = static_cast<int>(threadIdx.x) % 32 / kSumLanes;
#pragma unroll 1
    for (int place = 0; place < 8; place++) {
      if ((places >> place & 1) == 0) continue;
      int start = place % 4 * 2 + place / 4;
#pragma unroll 1
      for (int k = start; k < view->num_codewords; k += step) consider(k + 8 * team);
    }
  }

  // Of codewords k + 32·n, for all threads of the team; those that do not exist are taken for the last.
  __device__ __forceinline__ void float32_distances(const float* row, int k, float (&distances)[kTogether]) const {
    int lane = static_cast<int>(threadIdx.x) % kSumLanes;
    const float* codewords[kTogether];
#pragma unroll
    for (int n = 0; n < kTogether; n++) {
      distances[n] = 0;
      codewords[n] = view->searched + static_cast<size_t>(min(k + 32 * n, view->num_codewords - 1)) * dim;
    }
    if constexpr (kLayout != Layout::kAny) {
#pragma unroll 1
      for (int i = 4 * lane; i < dim; i += 4 * kSumLanes) {
        float4 x = *reinterpret_cast<const float4*>(row + i);
#pragma unroll
        for (int n = 0; n < kTogether; n++) {
          float4 c = __ldg(reinterpret_cast<const float4*>(codewords[n] + i));
          add(x.x - c.x, distances[n]);
          add(x.y - c.y, distances[n]);
          add(x.z - c.z, distances[n]);
          add(x.w - c.w, distances[n]);
        }
      }
    } else {
#pragma unroll 1
      for (int i = lane; i < dim; i += kSumLanes) {
        float x = row[i];
#pragma unroll
        for (int n = 0; n < kTogether; n++) add(x - codewords[n][i], distances[n]);
      }
    }
#pragma unroll
    for (int n = 0; n < kTogether; n++) {
#pragma unroll
      for (int step = 4; step >= 1; step /= 2) distances[n] += __shfl_xor_sync(kAll, distances[n], step);
    }
  }

  static __device__ __forceinline__ void add(float difference, float& sum) { sum = fmaf(difference, difference, sum); }
};

}  // namespace rvq::cuda
