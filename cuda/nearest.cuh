// The nearest codeword so far, and what threads of a warp do to find it together.

#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "canonical.cuh"

namespace rvq::cuda {

// The smallest distance seen, and the smallest codeword at it; ~0 where none was a number.
struct Nearest {
  double distance = INFINITY;
  uint32_t codeword = ~0u;

  __device__ void take(double other, uint32_t k) {
    if (other < distance || (other == distance && k < codeword)) {
      distance = other;
      codeword = k;
    }
  }

  // Of the threads of the warp that differ in the bits from `first_step` on (of the four teams of eight threads: 8),
  // for all of them.
  __device__ void unite(int first_step) {
#pragma unroll
    for (int step = first_step; step <= 16; step *= 2) {
      double other = __shfl_xor_sync(kAll, distance, step);
      uint32_t k = __shfl_xor_sync(kAll, codeword, step);
      take(other, k);
    }
  }

  // Where no distance was a number all are alike, and the first codeword is the code.
  __device__ uint32_t code() const { return codeword == ~0u ? 0 : codeword; }
};

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

}  // namespace rvq::cuda
