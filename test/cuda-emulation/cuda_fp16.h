// Stands in for CUDA's header of the same name: float16 as far as cuda/ uses it, rounded to nearest even.

#pragma once

#include <cuda_runtime.h>

struct __half {
  uint16_t bits;
};
struct __half2 {
  __half x, y;
};

inline __half __float2half_rn(float value) {
  uint32_t bits = __float_as_uint(value);
  auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return {static_cast<uint16_t>(sign | 0x7fff)};
  // From 65520 on it is nearer to infinity.
  if (magnitude >= 0x477ff000) return {static_cast<uint16_t>(sign | 0x7c00)};
  // The unit of the last place of what is normal, or of all that is not.
  int exponent = static_cast<int>(magnitude >> 23) - 127;
  if (exponent < -14) exponent = -14;
  auto units = static_cast<uint32_t>(std::nearbyint(std::ldexp(__uint_as_float(magnitude), 10 - exponent)));
  // 1024 units and more, and a carry out of the mantissa, go into the exponent.
  return {static_cast<uint16_t>(sign | ((static_cast<uint32_t>(exponent + 14) << 10) + units))};
}

inline float __half2float(__half half) {
  int exponent = half.bits >> 10 & 31;
  auto mantissa = static_cast<float>(half.bits & 1023);
  float magnitude = exponent == 31 ? (mantissa == 0 ? INFINITY : NAN)
                    : exponent == 0 ? std::ldexp(mantissa, -24)
                                    : std::ldexp(mantissa + 1024, exponent - 25);
  return half.bits >> 15 != 0 ? -magnitude : magnitude;
}

inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline __half2 __floats2half2_rn(float x, float y) { return {__float2half_rn(x), __float2half_rn(y)}; }
inline float2 __half22float2(__half2 pair) { return {__half2float(pair.x), __half2float(pair.y)}; }
