// The kernels for x86 processors with AVX-512 (F, VL, DQ, BW), with and without VNNI: 32 registers of 16 float32.

#ifdef RVQ_EMULATE_AVX512
#include "emulated_avx512.h"
#else
#include <immintrin.h>
#endif

#include "kernels.h"

namespace rvq::cpu {
namespace avx512 {

typedef float Floats __attribute__((vector_size(64)));
typedef float HalfFloats __attribute__((vector_size(32)));
typedef double Doubles __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef float Group __attribute__((vector_size(4 * kGroupCodewords)));
typedef Group Part;

constexpr size_t kLanes = 16;
// 3 × 8 sums, 3 registers of rows and a codeword: 28 of the 32 registers, and only 11 loads for 24 multiply-adds.
constexpr int kTileRegisters = 3;
constexpr int kTileCodewords = 8;
constexpr size_t kIntegerCodewords = 8;
constexpr size_t kFewestIntegerDims = 8;  // Measured at 4 … 32 dimensions, 16 … 1024 codewords.

static inline Floats broadcast(float x) { return _mm512_set1_ps(x); }
static inline Floats fused(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
static inline Floats larger(Floats a, Floats b) { return _mm512_max_ps(a, b); }
static inline unsigned reaches(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }

static inline Floats interleave_low(Floats a, Floats b) {
  return _mm512_permutex2var_ps(a, _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23), b);
}
static inline Floats interleave_high(Floats a, Floats b) {
  return _mm512_permutex2var_ps(a, _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31), b);
}

static inline Part broadcast_part(float x) { return _mm256_set1_ps(x); }
static inline Part fused_part(Part a, Part b, Part c) { return _mm256_fmadd_ps(a, b, c); }

static inline Ints to_integers(Floats x) { return (Ints)_mm512_cvtps_epi32(x); }
// In assembly: GCC 12 spills sums that are written by the intrinsic, which costs half the speed; and this file is not
// compiled for VNNI, so that its other functions run without.
static inline void add_dots(Ints& sums, const uint32_t* a, Ints b) {
#ifdef RVQ_EMULATE_AVX512
  sums = (Ints)_mm512_dpwssd_epi32((__m512i)sums, _mm512_load_si512(a), (__m512i)b);
#else
  asm("vpdpwssd %2, %1, %0" : "+v"(sums) : "v"(_mm512_load_si512(a)), "v"(b));
#endif
}

#include "screen_kernels.h"
// Each needs what is above it.
#include "exact_kernels.h"
#include "integer_kernels.h"

}  // namespace avx512

extern const Kernels kAvx512Kernels = avx512::table("avx512", nullptr);
extern const Kernels kAvx512VnniKernels = avx512::table("avx512vnni", &avx512::kIntegerKernels);

}  // namespace rvq::cpu
