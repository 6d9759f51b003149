// A stage's products by wgmma where rows' operands are in part in shared memory: a tile of 128 codewords after the
// other, in pieces of two steps, ranked in sets (ranking.cuh). Only for sm_90a.

#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "ranking.cuh"
#include "stage.cuh"
#include "wgmma.cuh"

namespace rvq::cuda {

#ifdef RVQ_WARPGROUP

// By a warpgroup, whose `shared_operands` are there; `stream` gives the pieces.
template <typename Stream>
struct WideProducts {
  const uint4 (&operands)[kWideRegisterSteps];
  const unsigned char* shared_operands;
  int steps;
  const float (&factors)[2];
  const Ranking& ranking;
  Stream& stream;
  Kept<true> (&kept)[2];

  // A piece is given up when the products of the next are under way.
  __device__ __forceinline__ void run(int tiles) {
    constexpr int kHalfBytes = kTile.codewords * 16;
    constexpr int kStep = kTile.codewords * 32 / 16;
    constexpr int kRowStep = kRowStepBytes / 16;
    uint64_t rows = operand_descriptor(shared_address(shared_operands), kRowHalfBytes);
#pragma unroll 1
    for (int tile = 0; tile < tiles; tile++) {
      float sums[kGroups][4];
      hold(sums);
      warpgroup_arrive();
#pragma unroll
      for (int k = 0; k < kWideRegisterSteps; k += 2) {
        uint64_t codewords = operand_descriptor(k == 0 ? stream.take() : stream.take_following(), kHalfBytes);
        warpgroup_multiply(sums, operands[k], codewords, k > 0);
        warpgroup_multiply(sums, operands[k + 1], codewords + kStep, true);
        warpgroup_commit();
        if (k > 0) give_up_before();
      }
#pragma unroll 1
      for (int k = kWideRegisterSteps; k < steps; k += 2) {
        uint64_t codewords = operand_descriptor(stream.take_following(), kHalfBytes);
        uint64_t of_rows = rows + (k - kWideRegisterSteps) * kRowStep;
        warpgroup_multiply_add(sums, of_rows, codewords);
        warpgroup_multiply_add(sums, of_rows + kRowStep, codewords + kStep);
        warpgroup_commit();
        give_up_before();
      }
      warpgroup_wait<0>();
      hold(sums);
      stream.give_up();
      take(tile * kGroups, sums);
      stream.go_on();
    }
  }

 private:
  static constexpr TileShape kTile = wide_tile(0);
  static constexpr int kGroups = kTile.codewords / 8;

  // The piece before that whose products are under way.
  __device__ __forceinline__ void give_up_before() {
    warpgroup_wait<1>();
    stream.give_up();
    stream.go_on();
  }

  // Sums are upper ends, of groups of codewords from `first_group` on.
  __device__ __forceinline__ void take(int first_group, const float (&sums)[kGroups][4]) {
#pragma unroll
    for (int n = 0; n < kGroups; n++) {
      take_group(ranking, kept, (first_group + n) / kSets, n % kSets,
                 [&](int half, int parity) { return ranking.rank(sums[n][2 * half + parity], factors[half]); });
    }
  }
};

#endif

}  // namespace rvq::cuda
