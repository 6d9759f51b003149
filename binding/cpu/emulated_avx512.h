// AVX-512's intrinsics on a processor with AVX2 alone, from SIMDe: only for tests, in a build with RVQ_EMULATE_AVX512.
//
// It shows that the AVX-512 levels compute what they should where no machine with AVX-512 is at hand; it says nothing
// about their speed. Assembly has to be written in intrinsics too in such a build: see add_dots in kernels_avx512.cpp.

#pragma once

#include <immintrin.h>  // First, so that SIMDe's names replace the compiler's.

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

namespace rvq::cpu {

struct FloatHalves {
  __m256 low, high;
};
struct IntHalves {
  __m256i low, high;
};

// One rounding, like the real one: SIMDe multiplies and adds where it has no fused instruction of the full width.
static inline simde__m512 emulated_fmadd(simde__m512 a, simde__m512 b, simde__m512 c) {
  auto x = __builtin_bit_cast(FloatHalves, a);
  auto y = __builtin_bit_cast(FloatHalves, b);
  auto z = __builtin_bit_cast(FloatHalves, c);
  FloatHalves sums = {_mm256_fmadd_ps(x.low, y.low, z.low), _mm256_fmadd_ps(x.high, y.high, z.high)};
  return __builtin_bit_cast(simde__m512, sums);
}
#undef _mm512_fmadd_ps
#define _mm512_fmadd_ps(a, b, c) ::rvq::cpu::emulated_fmadd(a, b, c)

// SIMDe 0.7.4 has no conversion to integers of this width.
static inline simde__m512i emulated_cvtps(simde__m512 a) {
  auto x = __builtin_bit_cast(FloatHalves, a);
  IntHalves integers = {_mm256_cvtps_epi32(x.low), _mm256_cvtps_epi32(x.high)};
  return __builtin_bit_cast(simde__m512i, integers);
}
#undef _mm512_cvtps_epi32
#define _mm512_cvtps_epi32(a) ::rvq::cpu::emulated_cvtps(a)

}  // namespace rvq::cpu
