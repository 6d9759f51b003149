// The search of one row among some codewords by a whole warp, by canonical distances: what the screen has left open.

#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "canonical.cuh"
#include "float32_distance.cuh"
#include "nearest.cuh"
#include "row_operands.cuh"
#include "stage.cuh"

namespace rvq::cuda {

// Methods are called by the whole warp; each team of eight threads has a codeword of its own.
//
// Many codewords are first compared by distances in float32 (float32_distance.cuh); with weights all are open.
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
  __device__ __forceinline__ Nearest of_places(const float* row, unsigned places) const {
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
    float reach = float32_reach(least, dim);

    Nearest nearest;
    if (__any_sync(kAll, third <= reach)) {
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
    nearest.unite(8);
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
          add_square(x.x - c.x, distances[n]);
          add_square(x.y - c.y, distances[n]);
          add_square(x.z - c.z, distances[n]);
          add_square(x.w - c.w, distances[n]);
        }
      }
    } else {
#pragma unroll 1
      for (int i = lane; i < dim; i += kSumLanes) {
        float x = row[i];
#pragma unroll
        for (int n = 0; n < kTogether; n++) add_square(x - codewords[n][i], distances[n]);
      }
    }
#pragma unroll
    for (int n = 0; n < kTogether; n++) {
#pragma unroll
      for (int step = 4; step >= 1; step /= 2) distances[n] += __shfl_xor_sync(kAll, distances[n], step);
    }
  }
};

}  // namespace rvq::cuda
