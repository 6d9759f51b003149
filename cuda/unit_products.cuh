// A stage's products by mma.sync, of float16 operands or of int8 limbs: by units of codewords that a block has in
// shared memory together (unit_stream.cuh), ranked in sets (ranking.cuh).

#pragma once

#include <cuda_runtime.h>

#include "limb_products.cuh"
#include "mma.cuh"
#include "ranking.cuh"
#include "row_operands.cuh"
#include "stage.cuh"

namespace rvq::cuda {

// By a warp; kSteps = 0: the rows' operands are in global memory, at `fragments`, and come in chunks into `operands`.
template <int kSteps, bool kLimbs, typename Stream>
struct UnitProducts {
  static constexpr TileShape kTile = unit_tile(kSteps, kLimbs);

  uint4 (&operands)[kTile.chunk_steps];
  const uint4* fragments;
  int steps;
  const RowState (&states)[2];
  const Ranking& ranking;
  Stream& stream;
  Kept<false> (&kept)[2];

  __device__ __forceinline__ void run(const StageView& view) {
    int tiles = view.tiles;
#pragma unroll 1
    for (int tile = 0; tile < tiles; tile++) {
      if constexpr (kSteps > 0) {
        take_resident(tile * kTileGroups);
      } else {
        take_streamed(view, tile);
      }
    }
  }

 private:
  static constexpr int kTileGroups = kTile.codewords / 8;
  // Of eight codewords at a time: as many sums as registers hold beside the operands.
  static constexpr int kGroups = kSteps > 4 ? 4 : 8;

  // A tile, which is one unit, from `first_group` on.
  __device__ __forceinline__ void take_resident(int first_group) {
    const unsigned char* unit = stream.next();
    const float4* bounds = reinterpret_cast<const float4*>(unit + kTile.chunk_bytes());
#pragma unroll 1
    for (int j = 0; j < kTileGroups; j += kGroups) {
      float sums[kGroups][4] = {};
      const unsigned char* group = unit + j * (kSteps * 256);
      if constexpr (kLimbs) {
        multiply_limbs(operands, group, sums);
      } else {
        multiply_halves(sums, group);
      }
      // Two codewords' bounds are four numbers: a group of eight has four such, one for each thread's pair.
#pragma unroll
      for (int n = 0; n < kGroups; n++) {
        take(first_group + j + n, n % kSets, bounds[(j + n) * 4 + fragment_column()], sums[n]);
      }
    }
  }

  // A tile of units of four steps.
  __device__ __forceinline__ void take_streamed(const StageView& view, int tile) {
    static_assert(kSteps > 0 || kTileGroups == kGroups);
    int lane = static_cast<int>(threadIdx.x) % 32;
    float sums[kGroups][4] = {};
#pragma unroll 1
    for (int chunk = 0; chunk < steps / kTile.chunk_steps; chunk++) {
      const unsigned char* unit = stream.next();
      const uint4* of_chunk = fragments + static_cast<size_t>(chunk) * kTile.chunk_steps * 32;
#pragma unroll
      for (int k = 0; k < kTile.chunk_steps; k++) operands[k] = of_chunk[k * 32];
#pragma unroll
      for (int k = 0; k < kTile.chunk_steps; k += 2) {
        uint4 b[kGroups];
#pragma unroll
        for (int n = 0; n < kGroups; n++) {
          b[n] = reinterpret_cast<const uint4*>(unit + n * (kTile.chunk_steps * 256) + k * 256)[lane];
        }
        multiply_pair(sums, k, b);
      }
    }
    const float4* bounds = reinterpret_cast<const float4*>(view.bounds + static_cast<size_t>(tile) * kTile.codewords);
#pragma unroll
    for (int n = 0; n < kGroups; n++) {
      take(tile * kTileGroups + n, n % kSets, __ldg(bounds + n * 4 + fragment_column()), sums[n]);
    }
  }

  // Sums of a row's operands with those of some groups of codewords.
  __device__ __forceinline__ void multiply_halves(float (&sums)[kGroups][4], const unsigned char* groups) {
    int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int k = 0; k + 1 < kSteps; k += 2) {
      uint4 b[kGroups];
#pragma unroll
      for (int n = 0; n < kGroups; n++) {
        b[n] = reinterpret_cast<const uint4*>(groups + n * (kSteps * 256) + k * 256)[lane];
      }
      multiply_pair(sums, k, b);
    }
    if constexpr (kSteps % 2 == 1) {
#pragma unroll
      for (int n = 0; n < kGroups; n++) {
        uint2 b = reinterpret_cast<const uint2*>(groups + n * (kSteps * 256) + (kSteps - 1) * 256)[lane];
        multiply_add(sums[n], operands[kSteps - 1], b.x, b.y);
      }
    }
  }

  // Two steps. Every sum is touched once before any is touched again: a product takes as long as eight of them.
  __device__ __forceinline__ void multiply_pair(float (&sums)[kGroups][4], int k, const uint4 (&b)[kGroups]) {
#pragma unroll
    for (int n = 0; n < kGroups; n++) multiply_add(sums[n], operands[k], b[n].x, b[n].y);
#pragma unroll
    for (int n = 0; n < kGroups; n++) multiply_add(sums[n], operands[k + 1], b[n].z, b[n].w);
  }

  // A group; `bounds` are of this thread's two codewords: start, slope, start, slope.
  __device__ __forceinline__ void take(int group, int set, const float4& bounds, const float (&sums)[4]) {
    take_group(ranking, kept, group / kSets, set, [&](int half, int parity) {
      const RowState& state = states[half];
      float start = parity == 0 ? bounds.x : bounds.z;
      float slope = parity == 0 ? bounds.y : bounds.w;
      float upper = fmaf(state.radius, slope, fmaf(sums[2 * half + parity], state.inverse, start));
      return ranking.rank(upper, state.fineness);
    });
  }
};

}  // namespace rvq::cuda
