// Products of rows and codewords that are two int8 limbs each: screen_bound.h says what they are put together from.

#pragma once

#include <cuda_runtime.h>

#include "limb_operands.cuh"
#include "mma.cuh"
#include "stage.cuh"

namespace rvq::cuda {

namespace operands {

// Adds the products of rows' high (kOwn 0) or low (1) limbs with those of groups of codewords at `limbs`. Every sum is
// touched once before any is touched again.
template <int kOwn, int kSteps, int kGroups>
__device__ __forceinline__ void multiply_limb(const uint4 (&rows)[kSteps], const unsigned char* limbs,
                                              int (&totals)[kGroups][4]) {
  constexpr int kWideSteps = kSteps / 2;
  int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int k = 0; k + 1 < kWideSteps; k += 2) {
    uint4 b[kGroups];
#pragma unroll
    for (int n = 0; n < kGroups; n++) {
      b[n] = reinterpret_cast<const uint4*>(limbs + n * (kSteps * 256) + k * 256)[lane];
    }
#pragma unroll
    for (int n = 0; n < kGroups; n++) multiply_add(totals[n], rows[2 * k + kOwn], b[n].x, b[n].y);
#pragma unroll
    for (int n = 0; n < kGroups; n++) multiply_add(totals[n], rows[2 * k + 2 + kOwn], b[n].z, b[n].w);
  }
  if constexpr (kWideSteps % 2 == 1) {
#pragma unroll
    for (int n = 0; n < kGroups; n++) {
      uint2 b = reinterpret_cast<const uint2*>(limbs + n * (kSteps * 256) + (kWideSteps - 1) * 256)[lane];
      multiply_add(totals[n], rows[kSteps - 2 + kOwn], b.x, b.y);
    }
  }
}

}  // namespace operands

// sums[n] = T of screen_bound.h, of the rows of make_limb_operands and the n-th group of eight codewords from `groups`
// on (stage.cuh). By one set of integers: those in the middle are made ready for the first to be added.
template <int kSteps, int kGroups>
__device__ __forceinline__ void multiply_limbs(const uint4 (&rows)[kSteps], const unsigned char* groups,
                                               float (&sums)[kGroups][4]) {
  // 256 times (2^22 + ½): sums are then never below zero, and without their lowest byte the last 23 bits of a float32
  // from 2^23 on.
  constexpr int kStart = (1 << 30) + 128;
  int totals[kGroups][4];
#pragma unroll
  for (int n = 0; n < kGroups; n++) {
#pragma unroll
    for (int i = 0; i < 4; i++) totals[n][i] = kStart;
  }
  operands::multiply_limb<0>(rows, groups + limb_tile(kSteps).limb_bytes(), totals);
  operands::multiply_limb<1>(rows, groups, totals);
#pragma unroll
  for (int n = 0; n < kGroups; n++) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      totals[n][i] = static_cast<int>(__byte_perm(static_cast<uint32_t>(totals[n][i]), 0x4b, 0x4321));
    }
  }
  operands::multiply_limb<0>(rows, groups, totals);
#pragma unroll
  for (int n = 0; n < kGroups; n++) {
#pragma unroll
    for (int i = 0; i < 4; i++) sums[n][i] = __int_as_float(totals[n][i]) - operands::kIntegers;
  }
}

}  // namespace rvq::cuda
