// Stands in for CUDA's header of the same name: float16 as far as cuda/ uses it.

#pragma once

#include <cuda_runtime.h>

#include <vector>

struct __half {
  uint16_t bits;
};
struct __half2 {
  __half x, y;
};

inline __half __float2half_rn(float value) {
  uint32_t bits = __float_as_uint(value);
  uint32_t sign = bits >> 16 & 0x8000;
  uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return {static_cast<uint16_t>(sign | 0x7fff)};
  // From 65520 on it is nearer to infinity.
  if (magnitude >= 0x477ff000) return {static_cast<uint16_t>(sign | 0x7c00)};
  // What is dropped below the last place, 2^-24 for all that is not normal.
  uint32_t exponent = magnitude >> 23;
  uint32_t kept = magnitude - (112u << 23);
  uint32_t dropped = 13;
  if (exponent < 113) {
    kept = (magnitude & 0x7fffff) | (exponent == 0 ? 0u : 0x800000u);
    dropped = exponent < 101 ? 25 : 126 - exponent;
  }
  uint32_t half = kept >> dropped;
  uint32_t rest = kept & ((1u << dropped) - 1);
  uint32_t middle = 1u << (dropped - 1);
  // A carry out of the mantissa goes into the exponent, as it should.
  if (rest > middle || (rest == middle && half % 2 == 1)) half++;
  return {static_cast<uint16_t>(sign | half)};
}

inline float __half2float(__half half) {
  static const std::vector<float> floats = [] {
    std::vector<float> values(65536);
    for (uint32_t bits = 0; bits < values.size(); bits++) {
      int exponent = bits >> 10 & 31;
      auto mantissa = static_cast<float>(bits & 1023);
      float magnitude = exponent == 31  ? (mantissa == 0 ? INFINITY : NAN)
                        : exponent == 0 ? std::ldexp(mantissa, -24)
                                        : std::ldexp(mantissa + 1024, exponent - 25);
      values[bits] = bits >> 15 != 0 ? -magnitude : magnitude;
    }
    return values;
  }();
  return floats[half.bits];
}

// Upwards: what is too far below zero becomes the lowest that is finite.
inline __half __float2half_ru(float value) {
  __half nearest = __float2half_rn(value);
  // Of what is below zero the next has the lower bits.
  if (__half2float(nearest) < value) nearest.bits += nearest.bits < 0x8000 ? 1 : -1;
  return nearest;
}

inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline __half2 __floats2half2_rn(float x, float y) { return {__float2half_rn(x), __float2half_rn(y)}; }
inline float2 __half22float2(__half2 pair) { return {__half2float(pair.x), __half2float(pair.y)}; }
