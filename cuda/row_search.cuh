// The search of one row among some codewords by a whole warp, by canonical distances: what the screen has left open.

#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "canonical.cuh"
#include "row_operands.cuh"
#include "stage.cuh"

namespace rvq::cuda {


namespace encoding {

// The smallest distance that a thread has seen, and the smallest codeword at it.
struct Nearest {
  double distance = INFINITY;
  uint32_t codeword = ~0u;

  __device__ void take(double other, uint32_t k) {
    if (other < distance || (other == distance && k < codeword)) {
      distance = other;
      codeword = k;
    }
  }

  // Of the warp's four teams of eight; 0 where no distance was finite.
  __device__ uint32_t of_warp() {
#pragma unroll
    for (int step = 8; step <= 16; step *= 2) {
      double other = __shfl_xor_sync(kAll, distance, step);
      uint32_t k = __shfl_xor_sync(kAll, codeword, step);
      take(other, k);
    }
    return codeword == ~0u ? 0 : codeword;
  }
};

}  // namespace encoding

// Methods are called by the whole warp.
//
// Many codewords are first compared by distances in float32, d32 = Σ (x_i − c_i)² in order: a difference is rounded once
// and never underflows, its square and its sum D times. So with γ = (D + 8)·2^-24, rounded up, |d32 − d| ≤ γ·d + η,
// η = D·2^-148 for what underflows; the canonical distance is d to a few 2^-53. Those that can be nearest have
// d32 ≤ (m·(1 + γ) + 2η)/(1 − γ), m the smallest; where that is near overflow, and with weights, all remain.
template <Layout kLayout>
struct RowSearch {
  const float* row;
  const float* weights;  // or null
  int dim;
  const StageView* view;

  // Each team of eight threads takes one codeword, where it has one.
  __device__ void consider(uint32_t k, bool open, encoding::Nearest& nearest) const {
    int lane = static_cast<int>(threadIdx.x) % kSumLanes;
    const float* codeword = view->searched + (open ? static_cast<size_t>(k) * dim : 0);
    double distance = canonical_distance(row, codeword, weights, dim, lane, kAll);
    if (open) nearest.take(distance, k);
  }

  // Considers codeword k of every thread whose bit is set, four at a time.
  __device__ __forceinline__ void drain(unsigned threads, uint32_t k, encoding::Nearest& nearest) const {
    int team = static_cast<int>(threadIdx.x) % 32 / kSumLanes;
#pragma unroll 1
    while (threads != 0) {
      int chosen = -1;
#pragma unroll
      for (int t = 0; t < 4; t++) {
        int thread = __ffs(static_cast<int>(threads)) - 1;
        if (t == team) chosen = thread;
        threads &= threads - 1;
      }
      consider(__shfl_sync(kAll, k, max(chosen, 0)), chosen >= 0, nearest);
    }
  }

  // All codewords 8j + 2·column + parity of every place 4·parity + column whose bit is set.
  __device__ __forceinline__ void consider_places(unsigned places, encoding::Nearest& nearest) const {
    if (weights != nullptr || !consider_nearest_places(places, nearest)) consider_all(places, nearest);
  }

 private:
  static constexpr int kTogether = 4;

  // The same by float32 distances first; false where they leave too many.
  __device__ __forceinline__ bool consider_nearest_places(unsigned places, encoding::Nearest& nearest) const {
    int lane = static_cast<int>(threadIdx.x) % 32;
    // The nearest three of each thread: the third only as a number.
    float first = INFINITY;
    float second = INFINITY;
    float third = INFINITY;
    uint32_t first_k = 0;
    uint32_t second_k = 0;
#pragma unroll 1
    for (int place = 0; place < 8; place++) {
      if ((places >> place & 1) == 0) continue;
      int start = place % 4 * 2 + place / 4;
#pragma unroll 1
      for (int k = start + 8 * lane; k - 8 * lane < view->num_codewords; k += 8 * 32 * kTogether) {
        float distances[kTogether];
        float32_distances(k, distances);
#pragma unroll
        for (int n = 0; n < kTogether; n++) {
          int codeword = k + 8 * 32 * n;
          if (codeword >= view->num_codewords) continue;
          float d = distances[n];
          if (!(d < third)) continue;
          third = d < second ? second : d;
          uint32_t k_second = d < second ? static_cast<uint32_t>(codeword) : second_k;
          float new_second = d < second ? d : second;
          if (d < first) {
            new_second = first;
            k_second = first_k;
            first = d;
            first_k = static_cast<uint32_t>(codeword);
          }
          second = new_second;
          second_k = k_second;
        }
      }
    }
    float least = first;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) least = fminf(least, __shfl_xor_sync(kAll, least, step));
    float gamma = static_cast<float>(dim + 8) * 0x1p-24f * (1 + 0x1p-20f);
    float reach = (least * (1 + gamma) + 2 * static_cast<float>(dim) * 0x1p-145f) / (1 - gamma) * (1 + 0x1p-20f);
    bool usable = gamma < 0.25f && reach < 1e38f;
    if (__any_sync(kAll, !usable || third <= reach)) return false;
#pragma unroll 1
    for (int rank = 0; rank < 2; rank++) {
      drain(__ballot_sync(kAll, (rank == 0 ? first : second) <= reach), rank == 0 ? first_k : second_k, nearest);
    }
    return true;
  }

  // Of codewords k + 256·n; those that do not exist are taken for the last.
  __device__ void float32_distances(int k, float (&distances)[kTogether]) const {
    const float* codewords[kTogether];
#pragma unroll
    for (int n = 0; n < kTogether; n++) {
      distances[n] = 0;
      codewords[n] = view->searched + static_cast<size_t>(min(k + 8 * 32 * n, view->num_codewords - 1)) * dim;
    }
    if constexpr (kLayout != Layout::kAny) {
#pragma unroll 2
      for (int i = 0; i < dim; i += 4) {
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
#pragma unroll 4
      for (int i = 0; i < dim; i++) {
        float x = row[i];
#pragma unroll
        for (int n = 0; n < kTogether; n++) add(x - codewords[n][i], distances[n]);
      }
    }
  }

  static __device__ __forceinline__ void add(float difference, float& sum) {
    sum = fmaf(difference, difference, sum);
  }

  __device__ __forceinline__ void consider_all(unsigned places, encoding::Nearest& nearest) const {
    int team = static_cast<int>(threadIdx.x) % 32 / kSumLanes;
#pragma unroll 1
    for (int place = 0; place < 8; place++) {
      if ((places >> place & 1) == 0) continue;
      int start = place % 4 * 2 + place / 4;
#pragma unroll 1
      for (int k = start + 8 * team; k - 8 * team < view->num_codewords; k += 8 * 4) {
        consider(static_cast<uint32_t>(k), k < view->num_codewords, nearest);
      }
    }
  }
};

}  // namespace rvq::cuda
