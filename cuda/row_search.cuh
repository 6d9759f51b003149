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
// kLoads: so many loads from codewords can be under way at once, by registers: 4, 8 or 16.
template <Layout kLayout, int kLoads>
struct RowSearch {
  const float* weights;  // or null
  int dim;
  const StageView* view;
  int thread;  // of the warp

  __device__ __forceinline__ double distance(const float* row, uint32_t k) const {
    const float* codeword = view->searched + static_cast<size_t>(k) * dim;
    return canonical_distance(row, codeword, weights, dim, thread % kSumLanes, kAll);
  }

  // Of two codewords.
  __device__ __forceinline__ void distances(const float* row, const uint32_t (&k)[2], double (&distances)[2]) const {
    if (weights != nullptr) {
      for (int i = 0; i < 2; i++) distances[i] = distance(row, k[i]);
      return;
    }
    const float* c[2];
    for (int i = 0; i < 2; i++) c[i] = view->searched + static_cast<size_t>(k[i]) * dim;
    canonical_distances(row, c, dim, thread % kSumLanes, kAll, distances);
  }

  // In float32 (float32_distance.cuh), without weights.
  __device__ __forceinline__ void float32_distances(const float* row, const uint32_t (&k)[2],
                                                    float (&distances)[2]) const {
    const float* const codewords[2] = {codeword(static_cast<int>(k[0])), codeword(static_cast<int>(k[1]))};
    float32_distances(row, codewords, distances);
  }

  // The nearest of the codewords 32j + 8·set + 2·column and those after them, of every place 4·set + column whose bit
  // is set: of those that are this warp's, number `part` of `parts`. Some other is known to be as near as `known`, or
  // infinity; where none here is nearer, none may be given.
  __device__ __forceinline__ Nearest of_places(const float* row, unsigned places, int part, int parts,
                                               double known) const {
    int team = part * kTeams + thread / kSumLanes;
    // From one codeword of a team to its next.
    int stride = 16 * kTeams * parts;
    // The nearest three of each team: the third only as a number.
    float first = INFINITY;
    float second = INFINITY;
    float third = INFINITY;
    uint32_t first_k = 0;
    uint32_t second_k = 0;
    // Not below what is computed in float32 of the nearest. With weights nothing is.
    float least = weights == nullptr ? float32_reach(static_cast<float>(known) * (1 + 0x1p-22f), dim) : INFINITY;
    if (weights == nullptr) {
      each(places, team, stride * kTogether, [&](int k) {
        float distances[kTogether];
        const float* codewords[kTogether];
#pragma unroll
        for (int n = 0; n < kTogether; n++) codewords[n] = codeword(min(k + stride * n, view->num_codewords - 1));
        float32_distances(row, codewords, distances, float32_reach(least, dim));
#pragma unroll
        for (int n = 0; n < kTogether; n++) {
          int codeword = k + stride * n;
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
        least = fminf(least, first);
      });
    }
#pragma unroll
    for (int step = 8; step <= 16; step *= 2) least = fminf(least, __shfl_xor_sync(kAll, least, step));
    float reach = float32_reach(least, dim);

    Nearest nearest;
    if (__any_sync(kAll, third <= reach)) {
      each(places, team, stride, [&](int k) {
        bool exists = k < view->num_codewords;
        double d = distance(row, exists ? static_cast<uint32_t>(k) : 0);
        if (exists) nearest.take(d, static_cast<uint32_t>(k));
      });
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
  static constexpr int kTogether = 4;
  // Dimensions after which many codewords are looked at.
  static constexpr int kLook = 128;
  static constexpr int kTeams = 32 / kSumLanes;

  // consider(k) for the codewords of the places, by teams: k is the team's, and what follows it in the place.
  template <typename Consider>
  __device__ __forceinline__ void each(unsigned places, int team, int step, const Consider& consider) const {
#pragma unroll 1
    for (int place = 0; places >> place != 0; place++) {
      if ((places >> place & 1) == 0) continue;
      int start = place / 4 * 8 + place % 4 * 2;
#pragma unroll 1
      for (int k = start; k < view->num_codewords; k += step) consider(k + team / 2 * 32 + team % 2);
    }
  }

  __device__ __forceinline__ const float* codeword(int k) const {
    return view->searched + static_cast<size_t>(k) * dim;
  }

  // For all threads of the team. Where all of the warp's are further than `reach`, which their first dimensions may
  // show, any numbers beyond it.
  template <int kCodewords>
  __device__ __forceinline__ void float32_distances(const float* row, const float* const (&codewords)[kCodewords],
                                                    float (&distances)[kCodewords], float reach = INFINITY) const {
    int lane = thread % kSumLanes;
#pragma unroll
    for (int n = 0; n < kCodewords; n++) distances[n] = 0;
    if constexpr (kLayout != Layout::kAny) {
      constexpr int kStep = 4 * kSumLanes;
      [[maybe_unused]] constexpr int kUnrolled = kLoads > 2 * kCodewords ? kLook / kStep : 2;
      auto add = [&](int i) {
        float4 x = *reinterpret_cast<const float4*>(row + i);
#pragma unroll
        for (int n = 0; n < kCodewords; n++) {
          float4 c = __ldg(reinterpret_cast<const float4*>(codewords[n] + i));
          add_square(x.x - c.x, distances[n]);
          add_square(x.y - c.y, distances[n]);
          add_square(x.z - c.z, distances[n]);
          add_square(x.w - c.w, distances[n]);
        }
      };
#pragma unroll 1
      for (int first = 0; first < dim; first += kLook) {
        int begin = first + 4 * lane;
        if (first + kLook <= dim) {
          // No branch keeps these loads apart.
#pragma unroll kUnrolled
          for (int i = 0; i < kLook; i += kStep) add(begin + i);
        } else {
#pragma unroll 1
          for (int i = begin; i < dim; i += kStep) add(i);
        }
        if (kCodewords < kTogether || first + kLook >= dim) continue;
        // Sums of squares only grow, also as they are rounded.
        bool near = false;
#pragma unroll
        for (int n = 0; n < kCodewords; n++) {
          float so_far = team_sum(distances[n]);
          near = near || !(so_far > reach);
        }
        if (!__any_sync(kAll, near)) break;
      }
    } else {
#pragma unroll 1
      for (int i = lane; i < dim; i += kSumLanes) {
        float x = row[i];
#pragma unroll
        for (int n = 0; n < kCodewords; n++) add_square(x - codewords[n][i], distances[n]);
      }
    }
#pragma unroll
    for (int n = 0; n < kCodewords; n++) distances[n] = team_sum(distances[n]);
  }

  __device__ __forceinline__ static float team_sum(float sum) {
#pragma unroll
    for (int step = 4; step >= 1; step /= 2) sum += __shfl_xor_sync(kAll, sum, step);
    return sum;
  }
};

}  // namespace rvq::cuda
