// A number on a grid: what statistics add up.

#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

namespace rvq::cuda {

// x / 2^exponent, rounded to the nearest integer, half to even, for a finite x and |x / 2^exponent| ≤ 2^51. Integer
// arithmetic alone: float64 has 1/64 of the rate on GeForce.
__host__ __device__ __forceinline__ long long on_grid(float x, int exponent) {
  uint32_t bits;
#ifdef __CUDA_ARCH__
  bits = __float_as_uint(x);
#else
  memcpy(&bits, &x, sizeof bits);
#endif
  int biased = static_cast<int>(bits >> 23 & 0xff);
  // |x| = mantissa · 2^(max(biased, 1) − 150).
  uint32_t mantissa = (bits & 0x7fffff) | (biased == 0 ? 0u : 0x800000u);
  int shift = (biased == 0 ? 1 : biased) - 150 - exponent;
  long long magnitude = 0;
  if (shift >= 0) {
    // More than 38 bits would leave the range that the caller keeps to.
    magnitude = static_cast<long long>(mantissa) << (shift < 38 ? shift : 38);
  } else if (shift >= -24) {
    // Below 2^-25 of the grid's unit nothing of a mantissa of 24 bits reaches a half.
    int dropped = -shift;
    uint32_t is_odd = mantissa >> dropped & 1;
    magnitude = (mantissa + ((1u << (dropped - 1)) - 1) + is_odd) >> dropped;
  }
  return bits >> 31 != 0 ? -magnitude : magnitude;
}

// An integer in units of 2^exponent, exponent −149 … 1000: the product is rounded once.
__device__ __forceinline__ double from_grid(long long integer, int exponent) {
  double unit = __longlong_as_double(static_cast<long long>(exponent + 1023) << 52);
  return __dmul_rn(static_cast<double>(integer), unit);
}

}  // namespace rvq::cuda
